//! What gossip knows of the members, for everybody in the process.
//!
//! Here: [`Sight`], written by the gossip actor (`gossip`) alone and read by anybody without asking it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use synod_membership::MemberState;
use tokio::sync::watch;

use crate::system::{Announced, Description, Level, Said};

/// One member, as others of the node read it without asking the actor.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) state: MemberState,
    pub(crate) generation: u64,
    pub(crate) addresses: Vec<std::net::SocketAddr>,
    /// Level of its build.
    pub(crate) level: Level,
    /// What its placement goes by.
    pub(crate) description: Description,
    /// What it is for.
    pub(crate) roles: Vec<String>,
}

/// What gossip knows, for everybody in the process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sight(Arc<watch::Sender<BTreeMap<u64, Seen>>>);

impl Sight {
    /// Stores seen alive, this one included.
    pub(crate) fn alive(&self) -> BTreeSet<u64> {
        self.in_state(|state| state == MemberState::Alive)
    }

    /// Stores seen dead, or that said goodbye.
    pub(crate) fn gone(&self) -> BTreeSet<u64> {
        self.in_state(|state| matches!(state, MemberState::Dead | MemberState::Left))
    }

    /// What everybody said of its build, also those that are gone, beside who votes in the system group.
    pub(crate) fn announced(&self, electorate: BTreeSet<u64>) -> Announced {
        let seen = self.0.borrow();
        let levels = seen.iter().map(|(store, member)| (*store, member.level));
        Announced {
            levels: levels.collect(),
            electorate,
        }
    }

    /// How everybody described itself at its last start that was heard of.
    pub(crate) fn said(&self) -> BTreeMap<u64, Said> {
        let seen = self.0.borrow();
        let said = |member: &Seen| Said {
            generation: member.generation,
            description: member.description.clone(),
        };
        let descriptions = seen.iter().map(|(store, member)| (*store, said(member)));
        descriptions.collect()
    }

    fn in_state(&self, wanted: impl Fn(MemberState) -> bool) -> BTreeSet<u64> {
        let seen = self.0.borrow();
        let matching = seen.iter().filter(|(_, member)| wanted(member.state));
        matching.map(|(store, _)| *store).collect()
    }

    pub(crate) fn all(&self) -> BTreeMap<u64, Seen> {
        self.0.borrow().clone()
    }

    /// Wakes when something changed.
    pub(crate) fn changes(&self) -> watch::Receiver<BTreeMap<u64, Seen>> {
        self.0.subscribe()
    }

    /// What gossip knows from now on.
    pub(crate) fn publish(&self, seen: BTreeMap<u64, Seen>) {
        self.0.send_replace(seen);
    }
}
