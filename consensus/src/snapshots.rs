//! How a follower gets a whole state when the log no longer reaches back to where it stopped.
//!
//! Here, on the leader: a [`Shipment`] per follower, one chunk on the way at a time, resumed where the
//! follower says. On the follower: gathering, then installing, which the caller does and confirms. The log begins anew only after
//! that, so a crash in between leaves either the old log with the old state or a state that covers more than the log, and
//! `Group::new` can tell. Source: Raft paper 7; H34, H65-H71.

use core::time::Duration;

use bytes::Bytes;

use crate::group::Group;
use crate::message::Body;
use crate::output::Output;
use crate::progress::{Feed, Shipment};
use crate::{LogIndex, Position, ReplicaId, Snapshot, SnapshotMeta, Term};

/// Chunks that arrived so far, of one snapshot of this term's leader.
#[derive(Debug)]
pub(crate) struct Gathering {
    serial: u64,
    meta: SnapshotMeta,
    data: Vec<u8>,
}

/// A snapshot that the caller is installing.
#[derive(Debug)]
pub(crate) struct Installing {
    meta: SnapshotMeta,
    /// Whose leader sent it: under it, what the snapshot covers is known to be equal.
    term: Term,
}

/// The leader's side.
impl Group {
    /// The follower at `place` needs entries that are compacted.
    pub(crate) fn begin_shipment(&mut self, place: usize) {
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        leadership.shipments += 1;
        let peer = &mut leadership.peers[place];
        peer.feed = Feed::Snapshot(Shipment {
            serial: leadership.shipments,
            snapshot: None,
            offset: 0,
            sent_at: self.now,
        });
        self.outputs
            .push_back(Output::SnapshotNeeded { to: peer.replica });
    }

    /// Answers `Output::SnapshotNeeded`. Ignored when it is not needed any more; asked again when it is too old by now.
    pub fn provide_snapshot(&mut self, now: Duration, to: ReplicaId, snapshot: Snapshot) {
        self.begin(now);
        let fits =
            snapshot.meta.position.index <= self.applied && self.log.holds(snapshot.meta.position);
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        let Some(place) = leadership.peers.iter().position(|peer| peer.replica == to) else {
            return;
        };
        let Feed::Snapshot(shipment) = &mut leadership.peers[place].feed else {
            return;
        };
        if shipment.snapshot.is_some() {
            return;
        }
        if !fits {
            self.begin_shipment(place);
            return;
        }
        shipment.snapshot = Some(snapshot);
        shipment.offset = 0;
        self.send_chunk(place);
    }

    fn send_chunk(&mut self, place: usize) {
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        let peer = &mut leadership.peers[place];
        let Feed::Snapshot(shipment) = &mut peer.feed else {
            return;
        };
        let Some(snapshot) = &shipment.snapshot else {
            return;
        };
        shipment.sent_at = self.now;
        let total = snapshot.data.len();
        let end = total.min(shipment.offset + self.options.chunk_bytes);
        let body = Body::Chunk {
            serial: shipment.serial,
            meta: snapshot.meta.clone(),
            total: total as u64,
            offset: shipment.offset as u64,
            data: snapshot.data.slice(shipment.offset..end), // at the end: empty, and only asks whether it arrived
        };
        let to = peer.replica;
        self.send(to, body);
    }

    /// With each heartbeat: what got no answer for two of them is said again.
    pub(crate) fn repeat_shipments(&mut self) {
        let count = self
            .leadership
            .as_ref()
            .map_or(0, |leadership| leadership.peers.len());
        for place in 0..count {
            let Some(leadership) = &mut self.leadership else {
                return;
            };
            let peer = &mut leadership.peers[place];
            let Feed::Snapshot(shipment) = &mut peer.feed else {
                continue;
            };
            let patience = self.options.heartbeat_interval * 2;
            if self.now < shipment.sent_at + patience {
                continue;
            }
            if shipment.snapshot.is_some() {
                self.send_chunk(place);
            } else if self.now >= shipment.sent_at + self.options.election_timeout * 2 {
                shipment.sent_at = self.now;
                self.outputs
                    .push_back(Output::SnapshotNeeded { to: peer.replica });
            }
        }
    }

    pub(crate) fn handle_chunk_reply(&mut self, from: ReplicaId, serial: u64, next: u64) {
        let now = self.now;
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        let Some(place) = leadership
            .peers
            .iter()
            .position(|peer| peer.replica == from)
        else {
            return;
        };
        let peer = &mut leadership.peers[place];
        let Feed::Snapshot(shipment) = &mut peer.feed else {
            return;
        };
        let Some(snapshot) = &shipment.snapshot else {
            return;
        };
        let total = snapshot.data.len();
        let Some(next) = usize::try_from(next).ok().filter(|next| *next <= total) else {
            return;
        };
        if shipment.serial != serial || next == shipment.offset {
            return; // of another snapshot, or nothing new
        }
        peer.active_at = peer.active_at.max(now);
        shipment.offset = next; // also back: a follower that restarted begins again
        if next < total {
            self.send_chunk(place);
        }
    }

    /// A compaction must leave what a follower needs after the snapshot on its way, as long as that follower answers (E28).
    pub(crate) fn pinned_by_shipments(&self) -> Option<LogIndex> {
        let leadership = self.leadership.as_ref()?;
        let alive = self.now.saturating_sub(self.options.election_timeout * 2);
        let shipped = leadership
            .peers
            .iter()
            .filter(|peer| peer.active_at >= alive)
            .filter_map(|peer| match &peer.feed {
                Feed::Snapshot(shipment) => shipment
                    .snapshot
                    .as_ref()
                    .map(|snapshot| snapshot.meta.position.index),
                Feed::Probe { .. } | Feed::Replicate(_) => None,
            });
        shipped.min()
    }
}

/// The follower's side.
impl Group {
    pub(crate) fn handle_chunk(
        &mut self,
        from: ReplicaId,
        serial: u64,
        meta: SnapshotMeta,
        total: u64,
        offset: u64,
        data: &Bytes,
    ) {
        let position = meta.position;
        if let Some(installing) = &self.installing {
            if installing.meta.position == position {
                self.send(
                    from,
                    Body::ChunkReply {
                        serial,
                        next: total,
                    },
                );
            }
            return;
        }
        // H67, H68: what is committed here already, or stands in this log, needs no snapshot.
        if position.index <= self.committed || self.log.holds(position) {
            self.gathering = None;
            self.committed = self.committed.max(position.index);
            self.verified = self.verified.max(position.index);
            self.acknowledge = true;
            return;
        }
        if total > self.options.snapshot_bytes as u64 {
            return;
        }
        let known = self
            .gathering
            .as_ref()
            .is_some_and(|gathering| gathering.serial == serial && gathering.meta == meta);
        if !known {
            self.gathering = Some(Box::new(Gathering {
                serial,
                meta,
                data: Vec::new(),
            }));
        }
        let gathering = self.gathering.as_mut().expect("made just now");
        if offset == gathering.data.len() as u64 {
            gathering.data.extend_from_slice(data);
        }
        let next = gathering.data.len() as u64;
        self.send(from, Body::ChunkReply { serial, next });
        if next >= total {
            let Gathering { meta, data, .. } = *self.gathering.take().expect("looked at just now");
            self.installing = Some(Box::new(Installing {
                meta: meta.clone(),
                term: self.term,
            }));
            self.outputs.push_back(Output::Install(Snapshot {
                meta,
                data: data.into(),
            }));
        }
    }

    /// The snapshot of `Output::Install` at `position` is durable and is the state now.
    pub fn installed(&mut self, now: Duration, position: Position) {
        self.begin(now);
        let Some(installing) = self
            .installing
            .take_if(|installing| installing.meta.position == position)
        else {
            return;
        };
        let Installing { meta, term } = *installing;
        self.log = crate::log::Log::empty(&meta); // H65: its configuration, too, is all that counts now
        self.committed = self.committed.max(position.index);
        self.applied = position.index;
        self.handed = position.index;
        self.ledger.reset(meta);
        if term == self.term {
            self.verified = self.verified.max(position.index);
            self.acknowledge = true;
        }
        self.seen_configuration = None;
        self.configuration_changed();
    }
}
