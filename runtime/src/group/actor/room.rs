//! Room in memory for what is not in a replica's rows yet.
//!
//! Here: what a replica counts of it, which make a checkpoint because all together have too much, and the entries that a follower does
//! not take while there is none. Commands are refused by the evaluator, which asks the state's base.
//! Not here: the counts of the node (`group::overlays`), checkpoints themselves (`checkpoint`).

use std::sync::atomic::Ordering;

use actix::Handler;
use synod_consensus::Message;

use super::GroupActor;
use super::checkpoint::CHECKPOINT_BYTES;
use crate::group::overlays::Unwritten;
use crate::group::shared::Counters;

/// Log bytes of all groups that no checkpoint covers yet which are not counted: what gathers while checkpoints are written in good time.
const LOGS_FREE_BYTES: u64 = 32 << 20;

/// One group's part of them: of a few groups no more than a few checkpoints' worth, of many no less than one.
fn log_free(shards: u32) -> u64 {
    (LOGS_FREE_BYTES / u64::from(shards.max(1))).clamp(CHECKPOINT_BYTES, 4 * CHECKPOINT_BYTES)
}

impl GroupActor {
    /// Tells the node what only memory holds here. When that is too much of all groups together, the largest make room.
    pub(super) fn count_overlay(&mut self) {
        let Some(mut now) = self.machine.unwritten() else {
            return;
        };
        // The log before a checkpoint is kept, in memory too, until that is durable.
        let kept = self.bytes_since_checkpoint + self.checkpoint_log_bytes;
        let kept = usize::try_from(kept.saturating_sub(log_free(self.shared.sharding.shards)))
            .unwrap_or(usize::MAX);
        now.held = now.held.saturating_add(kept);
        let overlays = &self.shared.overlays;
        overlays.count(&mut self.unwritten, now);
        if let Some(hosted) = &self.hosted {
            hosted.overlay_bytes.store(now.fresh, Ordering::Relaxed);
        }
        if let Some(bytes) = overlays.want_room() {
            for largest in self.shared.registry.largest_overlays(bytes) {
                largest.group.do_send(CheckpointForRoom);
            }
        }
    }

    /// Nothing of this replica counts any more.
    pub(super) fn leave_room(&mut self) {
        let nothing = Unwritten::default();
        self.shared.overlays.count(&mut self.unwritten, nothing);
        if let Some(hosted) = &self.hosted {
            // Nobody would hear that it is to make room, and others that could would not be asked.
            hosted.overlay_bytes.store(0, Ordering::Relaxed);
        }
    }

    /// It may be asked again, and so may others if that was not enough.
    pub(super) fn room_was_made(&self) {
        if let Some(hosted) = &self.hosted
            && hosted.makes_room.swap(false, Ordering::Relaxed)
        {
            self.shared.overlays.look_again();
        }
    }

    /// Whether these are entries for which there is no room: to the leader they are lost, and come again. Its heartbeats are heard,
    /// so nobody campaigns meanwhile.
    pub(super) fn leaves_out(&self, message: &Message) -> bool {
        // A leader's no-op and changes of the configuration are small, and nothing goes on without them.
        let full = message.carries_proposals()
            && self.space.is_some()
            && !(self.shared.overlays).may_follow(self.unwritten.held, message.payload_bytes());
        if full {
            Counters::bump(&self.shared.counters.entries_without_room);
        }
        full
    }
}

/// Of all states here, this one has the most that only memory holds, and all together have too much.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct CheckpointForRoom;

impl Handler<CheckpointForRoom> for GroupActor {
    type Result = ();
    fn handle(&mut self, _: CheckpointForRoom, _ctx: &mut Self::Context) {
        if !self.stopped {
            self.make_checkpoint();
            if self.checkpoint.is_none() {
                self.room_was_made();
            }
            self.count_overlay(); // what is being written is asked of nobody else
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_need_not_make_a_checkpoint_is_not_refused_for_its_log() {
        for shards in [1, 16, 256, 100_000] {
            // What is counted must go with a checkpoint that is due, or nobody would make room.
            assert!(log_free(shards) >= CHECKPOINT_BYTES);
        }
        assert!(log_free(256) * 256 <= LOGS_FREE_BYTES);
    }
}
