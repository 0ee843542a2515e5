//! What the group actors of one consensus arbiter want done outside, gathered until they all had their turn.
//!
//! Here: [`Outbox`], one per arbiter thread. The first thing put in schedules one flush behind every task that is ready
//! now, so that the heartbeats, appends and acks of many groups leave as one batch per peer and one write to the log.
//! Not here: lanes and their bounds (`transport`), the write itself (`storage`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use synod_consensus::ReplicaKey;

use super::shared::Shared;
use crate::storage::{CheckpointLater, WriteRequest};
use crate::transport::Lane;

thread_local! {
    static OUTBOX: RefCell<Option<Outbox>> = const { RefCell::new(None) };
}

/// One arbiter's outgoing things.
#[derive(Debug)]
pub(crate) struct Outbox {
    shared: Arc<Shared>,
    sink: usize,
    raft: BTreeMap<u64, Vec<Bytes>>,
    bulk: BTreeMap<u64, Vec<Bytes>>,
    writes: Vec<WriteRequest>,
    checkpoints: Vec<CheckpointLater>,
    scheduled: bool,
}

impl Outbox {
    /// Gives the current thread its outbox. `sink` is the arbiter's number with the log writer.
    pub(crate) fn install(shared: Arc<Shared>, sink: usize) {
        let outbox = Self {
            shared,
            sink,
            raft: BTreeMap::new(),
            bulk: BTreeMap::new(),
            writes: Vec::new(),
            checkpoints: Vec::new(),
            scheduled: false,
        };
        OUTBOX.with_borrow_mut(|slot| *slot = Some(outbox));
    }

    /// Takes the outbox from the thread when its arbiter ends.
    pub(crate) fn remove() {
        OUTBOX.with_borrow_mut(|slot| *slot = None);
    }

    /// A Raft message for the store `to`.
    pub(crate) fn raft(to: u64, frame: Bytes, bulk: bool) {
        Self::put(|outbox| {
            let lane = if bulk {
                &mut outbox.bulk
            } else {
                &mut outbox.raft
            };
            lane.entry(to).or_default().push(frame);
        });
    }

    /// A change of a replica's log.
    pub(crate) fn write(request: WriteRequest) {
        Self::put(|outbox| outbox.writes.push(request));
    }

    /// A checkpoint of a replica's state.
    pub(crate) fn checkpoint(checkpoint: CheckpointLater) {
        Self::put(|outbox| outbox.checkpoints.push(checkpoint));
    }

    /// Forgets a replica's checkpoint, also one that still waits here.
    pub(crate) fn drop_checkpoint(key: ReplicaKey) {
        OUTBOX.with_borrow_mut(|slot| {
            if let Some(outbox) = slot {
                outbox
                    .checkpoints
                    .retain(|checkpoint| checkpoint.key != key);
                outbox.shared.checkpoints.remove(key);
            }
        });
    }

    fn put(change: impl FnOnce(&mut Self)) {
        OUTBOX.with_borrow_mut(|slot| {
            // Without an outbox the arbiter is ending: what it still says is lost, as in a crash.
            let Some(outbox) = slot else { return };
            change(outbox);
            if !outbox.scheduled {
                outbox.scheduled = true;
                actix_rt::spawn(async {
                    OUTBOX.with_borrow_mut(|slot| {
                        if let Some(outbox) = slot {
                            outbox.flush();
                        }
                    });
                });
            }
        });
    }

    fn flush(&mut self) {
        self.scheduled = false;
        if !self.writes.is_empty() {
            self.shared
                .log
                .submit(self.sink, std::mem::take(&mut self.writes));
        }
        if !self.checkpoints.is_empty() {
            self.shared
                .checkpoints
                .submit_later(self.sink, std::mem::take(&mut self.checkpoints));
        }
        for (lane, frames) in [(Lane::Raft, &mut self.raft), (Lane::Bulk, &mut self.bulk)] {
            for (to, batch) in frames.iter_mut().filter(|(_, batch)| !batch.is_empty()) {
                // Refused = the peer is away or slow; Raft sends again, the transport counts it.
                let _refused = self.shared.transport.send(*to, lane, std::mem::take(batch));
            }
        }
    }
}
