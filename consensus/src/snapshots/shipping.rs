//! The leader's side: what is offered, read and sent to a follower that needs a snapshot.
//!
//! A run of chunks has a serial. A run begins with an empty chunk that only asks how much the follower holds, goes on from there with as
//! many bytes on the way as the window allows, and ends when a chunk was lost: then another run asks again. One chunk per follower
//! is being read at a time; while the caller takes its time over it (its budget, its disk), nothing is repeated.

use core::time::Duration;

use bytes::Bytes;

use crate::group::Group;
use crate::message::{Body, ChunkStep};
use crate::output::Output;
use crate::progress::{Feed, Progress};
use crate::snapshot::{ChunkWanted, ShipmentEnd, SnapshotId, SnapshotOffer};
use crate::{LogIndex, ReplicaId};

/// A snapshot on its way to one follower.
#[derive(Debug)]
pub(crate) struct Shipment {
    /// Names the run of chunks within the leader's term.
    serial: u64,
    /// `None` until the caller offered one.
    offer: Option<SnapshotOffer>,
    /// The follower is asked how much it holds.
    asking: bool,
    /// The caller is asked for a chunk.
    reading: bool,
    /// What the follower is known to hold.
    held: u64,
    /// What was sent.
    sent: u64,
    /// When the caller was last asked for an offer, or something was last sent or answered.
    moved_at: Duration,
}

impl Shipment {
    fn new(now: Duration) -> Self {
        Self {
            serial: 0,
            offer: None,
            asking: false,
            reading: false,
            held: 0,
            sent: 0,
            moved_at: now,
        }
    }

    /// Whether a follower with a log through `matched` has all that it covers.
    pub(crate) fn is_passed_by(&self, matched: LogIndex) -> bool {
        self.offer
            .as_ref()
            .is_some_and(|offer| offer.meta.position.index <= matched)
    }

    fn go_on_from(&mut self, next: u64, now: Duration) {
        self.asking = false;
        self.held = next;
        self.sent = next;
        self.moved_at = now;
    }
}

fn shipment(peer: &mut Progress) -> Option<&mut Shipment> {
    match &mut peer.feed {
        Feed::Snapshot(shipment) => Some(shipment),
        Feed::Probe { .. } | Feed::Replicate(_) => None,
    }
}

impl Group {
    /// The follower at `place` needs entries that are compacted.
    pub(crate) fn begin_shipment(&mut self, place: usize) {
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        let peer = &mut leadership.peers[place];
        peer.feed = Feed::Snapshot(Box::new(Shipment::new(self.now)));
        self.outputs
            .push_back(Output::SnapshotNeeded { to: peer.replica });
    }

    fn peer_place(&self, replica: ReplicaId) -> Option<usize> {
        let leadership = self.leadership.as_ref()?;
        leadership.place(replica).ok()
    }

    fn shipment_to(&mut self, replica: ReplicaId) -> Option<(usize, &mut Shipment)> {
        let place = self.peer_place(replica)?;
        let peer = &mut self.leadership.as_mut()?.peers[place];
        shipment(peer).map(|shipment| (place, shipment))
    }

    /// Answers `Output::SnapshotNeeded`. Returns whether it is being shipped now, to be ended by `Output::ShipmentEnded`; if not, it is
    /// not needed any more, or it is too old by now and asked for again.
    pub fn provide_snapshot(&mut self, now: Duration, to: ReplicaId, offer: SnapshotOffer) -> bool {
        self.begin(now);
        let now = self.now;
        let position = offer.meta.position;
        let fits = position.index <= self.applied && self.log.holds(position);
        let Some((place, shipment)) = self.shipment_to(to) else {
            return false;
        };
        if shipment.offer.is_some() {
            return false;
        }
        if !fits {
            self.begin_shipment(place);
            return false;
        }
        shipment.offer = Some(offer);
        shipment.moved_at = now;
        if let Some(leadership) = &mut self.leadership {
            leadership.shipping.push(to);
        }
        self.ask_what_is_held(place);
        true
    }

    /// From now on, only answers to what is sent from now on count.
    fn begin_run(&mut self, place: usize) {
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        leadership.shipments += 1;
        let serial = leadership.shipments;
        if let Some(shipment) = shipment(&mut leadership.peers[place]) {
            shipment.serial = serial;
            shipment.reading = false;
        }
    }

    /// Begins a run, or asks again in the one that has not been answered.
    fn ask_what_is_held(&mut self, place: usize) {
        let now = self.now;
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        let Some(shipment) = shipment(&mut leadership.peers[place]) else {
            return;
        };
        shipment.moved_at = now;
        let offset = shipment.held;
        if !core::mem::replace(&mut shipment.asking, true) {
            self.begin_run(place);
        }
        self.send_chunk(place, offset, Bytes::new());
    }

    fn send_chunk(&mut self, place: usize, offset: u64, data: Bytes) {
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        let peer = &mut leadership.peers[place];
        let to = peer.replica;
        let Some(Shipment {
            serial,
            offer: Some(offer),
            ..
        }) = shipment(peer)
        else {
            return;
        };
        let body = Body::Chunk {
            serial: *serial,
            meta: Box::new(offer.meta.clone()),
            total: offer.bytes,
            checksum: offer.checksum,
            offset,
            data,
        };
        self.send(to, body);
    }

    /// Asks for the next chunk, if there is one and the window has room.
    fn read_on(&mut self, place: usize) {
        let (chunk, window) = (
            self.options.chunk_bytes as u64,
            self.options.chunk_window_bytes as u64,
        );
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        let peer = &mut leadership.peers[place];
        let to = peer.replica;
        let Some(shipment) = shipment(peer) else {
            return;
        };
        let Some(id) = shipment.offer.as_ref().map(SnapshotOffer::id) else {
            return;
        };
        let bytes = chunk.min(id.bytes.saturating_sub(shipment.sent));
        let on_the_way = shipment.sent.saturating_sub(shipment.held);
        let room = on_the_way == 0 || on_the_way + bytes <= window;
        if shipment.asking || shipment.reading || bytes == 0 || !room {
            return;
        }
        shipment.reading = true;
        self.outputs.push_back(Output::ReadChunk(ChunkWanted {
            to,
            id,
            offset: shipment.sent,
            bytes: usize::try_from(bytes).expect("at most a chunk"),
            serial: shipment.serial,
        }));
    }

    /// Answers `Output::ReadChunk`, whenever the caller's budget allows. `None`: it cannot be read any more; then the shipment ends, and
    /// another snapshot is asked for. An answer to what is not wanted any more changes nothing.
    pub fn chunk_read(&mut self, now: Duration, wanted: ChunkWanted, data: Option<Bytes>) {
        self.begin(now);
        let now = self.now;
        let Some((place, shipment)) = self.shipment_to(wanted.to) else {
            return;
        };
        if !shipment.reading || shipment.serial != wanted.serial || shipment.sent != wanted.offset {
            return;
        }
        shipment.reading = false;
        let Some(data) = data.filter(|data| data.len() == wanted.bytes) else {
            self.end_shipment(place, ShipmentEnd::Abandoned);
            return;
        };
        shipment.sent += data.len() as u64;
        shipment.moved_at = now;
        self.send_chunk(place, wanted.offset, data);
        self.read_on(place);
    }

    /// With each heartbeat: what got no answer for two of them is asked again.
    pub(crate) fn repeat_shipments(&mut self) {
        let now = self.now;
        let patience = self.options.heartbeat_interval * 2;
        let long = self.options.election_timeout * 2;
        let count = self
            .leadership
            .as_ref()
            .map_or(0, |leadership| leadership.peers.len());
        for place in 0..count {
            let Some(leadership) = &mut self.leadership else {
                return;
            };
            let peer = &mut leadership.peers[place];
            let to = peer.replica;
            let Some(shipment) = shipment(peer) else {
                continue;
            };
            if shipment.offer.is_none() {
                if now >= shipment.moved_at + long {
                    shipment.moved_at = now;
                    self.outputs.push_back(Output::SnapshotNeeded { to });
                }
            } else if !shipment.reading && now >= shipment.moved_at + patience {
                self.ask_what_is_held(place);
            }
        }
    }

    pub(crate) fn handle_chunk_reply(
        &mut self,
        from: ReplicaId,
        serial: u64,
        next: u64,
        step: ChunkStep,
    ) {
        let now = self.now;
        let Some((place, shipment)) = self.shipment_to(from) else {
            return;
        };
        let Some(bytes) = shipment.offer.as_ref().map(|offer| offer.bytes) else {
            return;
        };
        if shipment.serial != serial || next > bytes {
            return; // of another run
        }
        match step {
            ChunkStep::Refused => {
                self.end_shipment(place, ShipmentEnd::Refused);
                return;
            }
            ChunkStep::Held if shipment.asking => shipment.go_on_from(next, now),
            // The follower has nothing new to say, or an overtaken reply has it.
            ChunkStep::Held if next <= shipment.held => return,
            ChunkStep::Held => {
                shipment.held = next;
                shipment.sent = shipment.sent.max(next);
                shipment.moved_at = now;
            }
            ChunkStep::Gap if shipment.asking => return,
            // Chunks of this run after the lost one are void: a new run begins there, once.
            ChunkStep::Gap => {
                shipment.go_on_from(next, now);
                self.begin_run(place);
            }
        }
        if let Some(leadership) = &mut self.leadership {
            let peer = &mut leadership.peers[place];
            peer.active_at = peer.active_at.max(now);
        }
        self.read_on(place);
    }

    /// A shipment came to nothing; the follower still needs one. Not at once: what made it fail may still be there.
    fn end_shipment(&mut self, place: usize, end: ShipmentEnd) {
        let now = self.now;
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        let peer = &mut leadership.peers[place];
        let to = peer.replica;
        peer.feed = Feed::Snapshot(Box::new(Shipment::new(now)));
        leadership.shipping.retain(|replica| *replica != to);
        self.outputs.push_back(Output::ShipmentEnded { to, end });
    }

    /// Says which shipments ended by what happened elsewhere: an acknowledgement, a departure.
    pub(crate) fn look_at_shipments(&mut self) {
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        if leadership.shipping.is_empty() {
            return;
        }
        let shipping = core::mem::take(&mut leadership.shipping);
        for to in shipping {
            let Some(leadership) = &mut self.leadership else {
                return;
            };
            let end = match leadership.peer(to).map(|peer| &peer.feed) {
                Some(Feed::Snapshot(_)) => {
                    leadership.shipping.push(to);
                    continue;
                }
                // Or more than it: whichever way the log got there.
                Some(Feed::Probe { .. } | Feed::Replicate(_)) => ShipmentEnd::Arrived,
                None => ShipmentEnd::Abandoned,
            };
            self.outputs.push_back(Output::ShipmentEnded { to, end });
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
                    .offer
                    .as_ref()
                    .map(|offer| offer.meta.position.index),
                Feed::Probe { .. } | Feed::Replicate(_) => None,
            });
        shipped.min()
    }

    /// What is on its way to a follower: its name, and how many bytes of it the follower is known to hold.
    pub fn shipping(&self, to: ReplicaId) -> Option<(SnapshotId, u64)> {
        let place = self.peer_place(to)?;
        match &self.leadership.as_ref()?.peers[place].feed {
            Feed::Snapshot(shipment) => Some((shipment.offer.as_ref()?.id(), shipment.held)),
            Feed::Probe { .. } | Feed::Replicate(_) => None,
        }
    }
}
