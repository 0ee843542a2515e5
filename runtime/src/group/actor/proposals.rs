//! What enters a group's log here, and the reads that it confirms.
//!
//! Batches and reads come from the evaluator, under the serial number of the leadership that it works for; commands for the
//! system group come from the node.

use actix::Handler;
use bytes::Bytes;
use synod_consensus::ReadId;
use tokio::sync::oneshot;

use super::GroupActor;
use crate::group::evaluator::{ReadAnswered, TakeReceipt};
use crate::group::receipt::Proposed;
use crate::system::{SystemCommand, SystemOutcome};

impl GroupActor {
    pub(super) fn answer_read(&mut self, id: ReadId, ready: bool) {
        if let (Some((serial, read)), Some(evaluator)) = (self.reads.remove(&id), &self.evaluator) {
            evaluator.do_send(ReadAnswered {
                serial,
                read,
                ready,
            });
        }
    }
}

/// A sealed batch of the evaluator.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Propose {
    pub(crate) serial: u64,
    pub(crate) batch: u64,
    pub(crate) payload: Bytes,
}

impl Handler<Propose> for GroupActor {
    type Result = ();
    fn handle(
        &mut self,
        Propose {
            serial,
            batch,
            payload,
        }: Propose,
        ctx: &mut Self::Context,
    ) {
        if self.leadership != Some(serial) {
            // The evaluator has been told, or will be next: everything speculative of that leadership goes.
            return;
        }
        let now = self.now();
        let result = self
            .group
            .propose(now, payload)
            .map(|position| position.index);
        let result = result.map_err(|error| {
            // As in every handing over of a leadership: the callers are sent on.
            tracing::debug!(group = %self.key.group, %error, "reserved batch refused");
        });
        let proposed = Proposed {
            serial,
            batch,
            result,
        };
        // It is there before the batch can be applied: that the evaluator hears in a message, and looks here first.
        if let Some(evaluator) = &self.evaluator
            && self.receipt.leave(proposed)
        {
            evaluator.do_send(TakeReceipt);
        }
        self.flush(ctx);
    }
}

/// The evaluator wants a read confirmed.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Read {
    pub(crate) serial: u64,
    pub(crate) read: u64,
}

impl Handler<Read> for GroupActor {
    type Result = ();
    fn handle(&mut self, Read { serial, read }: Read, ctx: &mut Self::Context) {
        if self.leadership != Some(serial) {
            return;
        }
        let now = self.now();
        match self.group.read(now) {
            Ok(id) => {
                self.reads.insert(id, (serial, read));
            }
            Err(error) => {
                tracing::debug!(group = %self.key.group, %error, "read refused");
                if let Some(evaluator) = &self.evaluator {
                    evaluator.do_send(ReadAnswered {
                        serial,
                        read,
                        ready: false,
                    });
                }
            }
        }
        self.flush(ctx);
    }
}

/// A command for the system group; answered when applied here. Dropped without an answer when leadership is lost:
/// then nobody knows, and the proposer looks at the state.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct ProposeSystem {
    pub(crate) command: SystemCommand,
    pub(crate) reply: oneshot::Sender<SystemOutcome>,
}

impl Handler<ProposeSystem> for GroupActor {
    type Result = ();
    fn handle(&mut self, ProposeSystem { command, reply }: ProposeSystem, ctx: &mut Self::Context) {
        if self.leadership.is_none() {
            return;
        }
        let now = self.now();
        match self.group.propose(now, crate::wire::encode(&command)) {
            Ok(position) => {
                self.waiting.insert(position.index, (position.term, reply));
            }
            Err(error) => tracing::debug!(%error, "system command not proposed"),
        }
        self.flush(ctx);
    }
}
