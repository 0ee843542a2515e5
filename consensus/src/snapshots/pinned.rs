//! The log that a leader keeps for followers that fetch a snapshot, or have just fetched one.
//!
//! Compacted beyond the snapshot on its way, the log would leave nothing to go on with when it arrives; compacted beyond what the
//! follower was sent since, the same. So a compaction waits for them: for those that answer, until they are no further behind than
//! any other follower may be, and for no more than a number of bytes. Source: E28.

use crate::group::Group;
use crate::output::Output;
use crate::progress::Feed;
use crate::snapshot::ShipmentEnd;
use crate::{LogIndex, ReplicaId};

/// A snapshot that the caller provided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shipped {
    /// The follower.
    pub(crate) to: ReplicaId,
    /// The snapshot's length.
    pub(crate) bytes: u64,
}

impl Group {
    /// How far a compaction goes that may go to `free`.
    pub(crate) fn pinned(&mut self, free: LogIndex) -> LogIndex {
        self.look_at_shipments();
        let (alive, base) = (self.alive_since(), self.log.base().index);
        let least = self.options.pinned_bytes as u64;
        let most = self.options.pinned_bytes_max as u64;
        let Some(leadership) = &mut self.leadership else {
            return free;
        };
        let mut freight = leadership.freight.take();
        if let Some(freight) = &mut freight {
            // It has caught up, is gone, or needs another snapshot already.
            freight
                .landed
                .retain(|shipped| match leadership.peer(shipped.to) {
                    Some(peer) => {
                        let fed = !matches!(peer.feed, Feed::Snapshot(_));
                        fed && peer.matched >= base && peer.matched < free
                    }
                    None => false,
                });
        }
        let landed = freight
            .as_ref()
            .map_or(&[][..], |freight| &freight.landed[..]);
        let mut point = free;
        let mut outrun = Vec::new();
        for (place, peer) in leadership.peers.iter().enumerate() {
            let kept = match &peer.feed {
                Feed::Snapshot(shipment) => shipment.keeps(),
                Feed::Probe { .. } | Feed::Replicate(_) => landed
                    .iter()
                    .find(|shipped| shipped.to == peer.replica)
                    .map(|shipped| (peer.matched, shipped.bytes)),
            };
            // What the log does not reach back to any more needs no keeping.
            let Some((from, bytes)) = kept.filter(|(from, _)| *from >= base && *from < free) else {
                continue;
            };
            if peer.active_at.get() < alive {
                continue;
            }
            let allowance = bytes.saturating_mul(2).min(most).max(least);
            if self.log.charge(from, free) as u64 > allowance {
                outrun.push((place, peer.replica));
            } else {
                point = point.min(from);
            }
        }
        leadership.freight = freight;
        for (place, to) in outrun {
            self.leave_behind(place, to);
        }
        point
    }

    fn leave_behind(&mut self, place: usize, to: ReplicaId) {
        self.outputs.push_back(Output::LeftBehind { to });
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        if let Some(freight) = &mut leadership.freight {
            freight.landed.retain(|shipped| shipped.to != to);
        }
        if matches!(leadership.peers[place].feed, Feed::Snapshot(_)) {
            self.end_shipment(place, ShipmentEnd::Abandoned);
        }
    }
}
