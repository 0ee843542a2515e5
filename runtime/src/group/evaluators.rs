//! What makes the evaluators of a node.
//!
//! Here: [`Evaluators`]. A group gets one with each leadership, on the entity arbiter of its shard; a replica that does not lead has
//! none. Not here: what it does (`group::evaluator`).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use actix::dev::channel::channel;
use actix::{Addr, Context};
use actix_rt::ArbiterHandle;
use synod_consensus::GroupId;

use super::evaluator::{EVALUATOR_MAILBOX, EvaluatorActor, Leads};
use super::shared::Shared;
use crate::entity::{KindFactory, KindTable};
use crate::evaluation::{CheckedEvaluatorOptions, Evaluator, ShardState};
use crate::wire::ShardId;

thread_local! {
    static KINDS: RefCell<Option<Rc<KindTable>>> = const { RefCell::new(None) };
}

/// The kinds, as this arbiter knows them.
fn kinds_here(factories: &[KindFactory]) -> Rc<KindTable> {
    KINDS.with_borrow_mut(|slot| {
        let table = slot.get_or_insert_with(|| {
            Rc::new(
                KindTable::build(factories).expect("the builder refused kinds registered twice"),
            )
        });
        Rc::clone(table)
    })
}

/// Starts evaluators.
#[derive(Debug)]
pub(crate) struct Evaluators {
    /// Where they live.
    pub(crate) arbiters: Vec<ArbiterHandle>,
    pub(crate) kinds: Arc<Vec<KindFactory>>,
    pub(crate) options: Arc<CheckedEvaluatorOptions>,
    pub(crate) seed: u64,
}

impl Evaluators {
    /// Starts the evaluator of a leadership.
    pub(super) fn start(
        &self,
        shard: ShardId,
        group: GroupId,
        state: Arc<Mutex<ShardState>>,
        leads: Leads,
        shared: Arc<Shared>,
    ) -> Addr<EvaluatorActor> {
        let arbiter = &self.arbiters[group.get() as usize % self.arbiters.len()];
        let (kinds, options) = (self.kinds.clone(), self.options.clone());
        let seed = self.seed ^ leads.hosted.replica.get();
        // As `start_in_arbiter`, with room for all who waited for this leadership before it runs.
        let (sender, receiver) = channel(EVALUATOR_MAILBOX);
        arbiter.spawn_fn(move || {
            let evaluator = Evaluator::new(shard, state, kinds_here(&kinds), options, seed);
            let actor = EvaluatorActor::new(evaluator, leads, shared);
            actix_rt::spawn(Context::with_receiver(receiver).into_future(actor));
        });
        Addr::new(sender)
    }
}
