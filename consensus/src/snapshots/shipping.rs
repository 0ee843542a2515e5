//! The leader's side: what is offered, read and sent to a follower that needs a snapshot.
//!
//! A run of chunks has a serial. A run begins with an empty chunk that only asks how much the follower holds, goes on from there with as
//! many bytes on the way as the window allows, and ends when a chunk was lost: then another run asks again. One chunk per follower
//! is being read at a time; while the caller takes its time over it (its budget, its disk), nothing is repeated.
//!
//! A follower that answers and takes nothing for long, or refuses, ends its shipment and with it whatever is kept for it; it is
//! offered another one later, less and less often. One that does not answer is offered none.

use core::time::Duration;

use bytes::Bytes;

use crate::group::Group;
use crate::leadership::Freight;
use crate::message::{Body, ChunkStep};
use crate::output::Output;
use crate::progress::{Feed, Progress};
use crate::snapshot::{ChunkWanted, Refusal, ShipmentEnd, SnapshotId, SnapshotOffer};
use crate::snapshots::Shipped;
use crate::{LogIndex, Position, ReplicaId};

/// How long a follower that answers may take nothing of a snapshot before it is given up, in election timeouts: 12 s by default.
/// A disk that is merely busy stores a chunk in less.
const STALL_TIMEOUTS: u32 = 8;
/// The same once it holds the whole and has to verify and install it: two minutes by default, for 1 GiB on a slow disk.
const INSTALL_TIMEOUTS: u32 = 80;
/// A snapshot that came to nothing by its follower is followed by another after twice the last pause, this many times: 48 s by default.
const DOUBLINGS_MAX: u32 = 4;

/// A snapshot on its way to one follower.
#[derive(Debug)]
pub(crate) struct Shipment {
    /// Names the run of chunks within the leader's term.
    serial: u64,
    /// `None` until the caller offered one.
    offer: Option<SnapshotOffer>,
    /// Where the state ends that the caller is making an offer of, and about how many bytes it will have.
    making: Option<(LogIndex, u64)>,
    /// The follower is asked how much it holds.
    asking: bool,
    /// Since when the caller is asked for a chunk.
    reading: Option<Duration>,
    /// What the follower is known to hold.
    held: u64,
    /// What was sent.
    sent: u64,
    /// What was held when the run went on from there.
    run_held: u64,
    /// When the follower last took something; time in which it was silent, or the caller read, does not count.
    grew_at: Duration,
    /// How many before this one came to nothing by the follower's doing.
    failures: u32,
    /// When the caller was last asked for an offer, or something was last sent or answered.
    moved_at: Duration,
}

impl Shipment {
    fn new(now: Duration, failures: u32) -> Self {
        Self {
            serial: 0,
            offer: None,
            making: None,
            asking: false,
            reading: None,
            held: 0,
            sent: 0,
            run_held: 0,
            grew_at: now,
            failures,
            moved_at: now,
        }
    }

    /// Whether a follower with a log through `matched` has all that it covers.
    pub(crate) fn is_passed_by(&self, matched: LogIndex) -> bool {
        self.offer
            .as_ref()
            .is_some_and(|offer| offer.meta.position.index <= matched)
    }

    /// Behind where the log is kept for it, and how long it is.
    pub(super) fn keeps(&self) -> Option<(LogIndex, u64)> {
        match &self.offer {
            Some(offer) => Some((offer.meta.position.index, offer.bytes)),
            None => self.making,
        }
    }

    /// The caller is not waited for any longer.
    fn end_reading(&mut self, now: Duration) {
        if let Some(since) = self.reading.take() {
            self.grew_at += now.saturating_sub(since);
        }
    }

    /// Before another one is asked for: at once is no use, what made the last ones fail may still be there.
    fn pause(&self, election_timeout: Duration) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(DOUBLINGS_MAX);
        election_timeout * 2 * (1 << doublings)
    }

    fn is_stalled(&self, now: Duration, election_timeout: Duration) -> bool {
        let whole = self
            .offer
            .as_ref()
            .is_some_and(|offer| offer.bytes == self.held);
        let timeouts = if whole {
            INSTALL_TIMEOUTS
        } else {
            STALL_TIMEOUTS
        };
        self.reading.is_none() && now >= self.grew_at + election_timeout * timeouts
    }

    fn go_on_from(&mut self, next: u64, now: Duration) {
        if next > self.held {
            self.grew_at = now;
        }
        self.asking = false;
        self.held = next;
        self.run_held = next;
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
        peer.feed = Feed::Snapshot(Box::new(Shipment::new(self.now, 0)));
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

    /// The caller has begun to make what it will provide, of the state at `position`: about `bytes`, which may take a while. As long
    /// as the follower answers, and no longer than for a snapshot on its way, the log behind it is kept; without that, a state that
    /// takes long would always come too late.
    pub fn making_snapshot(
        &mut self,
        now: Duration,
        to: ReplicaId,
        position: Position,
        bytes: u64,
    ) {
        self.begin(now);
        let fits = position.index <= self.applied && self.log.holds(position);
        if let Some((_, shipment)) = self.shipment_to(to).filter(|_| fits) {
            shipment.making = Some((position.index, bytes));
        }
    }

    /// Answers `Output::SnapshotNeeded`. Returns whether it is being shipped now, to be ended by `Output::ShipmentEnded`; if not, it is
    /// not needed any more, the follower answers nothing, or it is too old by now; as long as one is needed, it is asked for again.
    pub fn provide_snapshot(&mut self, now: Duration, to: ReplicaId, offer: SnapshotOffer) -> bool {
        self.begin(now);
        let now = self.now;
        let position = offer.meta.position;
        let fits = position.index <= self.applied && self.log.holds(position);
        let alive = self.alive_since();
        let Some(place) = self.peer_place(to) else {
            return false;
        };
        let Some(leadership) = &mut self.leadership else {
            return false;
        };
        let peer = &mut leadership.peers[place];
        let answers = peer.active_at.get() >= alive;
        let Some(shipment) = shipment(peer) else {
            return false;
        };
        if shipment.offer.is_some() || !answers {
            return false;
        }
        shipment.moved_at = now;
        shipment.making = None;
        if !fits {
            self.outputs.push_back(Output::SnapshotNeeded { to });
            return false;
        }
        shipment.grew_at = now;
        let bytes = offer.bytes;
        shipment.offer = Some(offer);
        let freight = leadership.freight.get_or_insert_default();
        freight.shipping.push(Shipped { to, bytes });
        self.ask_what_is_held(place);
        true
    }

    /// From now on, only answers to what is sent from now on count.
    fn begin_run(&mut self, place: usize) {
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        leadership.shipments += 1;
        let (serial, now) = (leadership.shipments, self.now);
        if let Some(shipment) = shipment(&mut leadership.peers[place]) {
            shipment.serial = serial;
            shipment.end_reading(now);
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
        if shipment.asking || shipment.reading.is_some() || bytes == 0 || !room {
            return;
        }
        shipment.reading = Some(self.now);
        self.outputs.push_back(Output::ReadChunk(ChunkWanted {
            to,
            id,
            offset: shipment.sent,
            bytes: usize::try_from(bytes).expect("at most a chunk"),
            held: shipment.held,
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
        if shipment.reading.is_none()
            || shipment.serial != wanted.serial
            || shipment.sent != wanted.offset
        {
            return;
        }
        shipment.end_reading(now);
        let Some(data) = data.filter(|data| data.len() == wanted.bytes) else {
            self.end_shipment(place, ShipmentEnd::Abandoned);
            return;
        };
        shipment.sent += data.len() as u64;
        shipment.moved_at = now;
        self.send_chunk(place, wanted.offset, data);
        self.read_on(place);
    }

    /// Whoever answered nothing that was sent since then is not waited for, and not sent a snapshot.
    pub(super) fn alive_since(&self) -> Duration {
        self.now.saturating_sub(self.options.election_timeout * 2)
    }

    /// With each heartbeat: what got no answer for two of them is asked again. A snapshot behind which the log is gone by now (it was not
    /// kept for a follower that was silent) gives way to a newer one: with all of it, the follower would need another all the same.
    pub(crate) fn repeat_shipments(&mut self) {
        let now = self.now;
        let patience = self.options.heartbeat_interval * 2;
        let (timeout, alive) = (self.options.election_timeout, self.alive_since());
        let count = self
            .leadership
            .as_ref()
            .map_or(0, |leadership| leadership.peers.len());
        for place in 0..count {
            let Some(leadership) = &mut self.leadership else {
                return;
            };
            let peer = &mut leadership.peers[place];
            let (to, answers) = (peer.replica, peer.active_at.get() >= alive);
            let Some(shipment) = shipment(peer) else {
                continue;
            };
            if !answers {
                shipment.grew_at = now;
            }
            let overtaken = shipment
                .offer
                .as_ref()
                .is_some_and(|offer| !self.log.holds(offer.meta.position));
            if overtaken {
                self.end_shipment(place, ShipmentEnd::Abandoned);
                if answers {
                    self.outputs.push_back(Output::SnapshotNeeded { to });
                }
            } else if shipment.offer.is_none() {
                if answers && now >= shipment.moved_at + shipment.pause(timeout) {
                    shipment.moved_at = now;
                    self.outputs.push_back(Output::SnapshotNeeded { to });
                }
            } else if shipment.is_stalled(now, timeout) {
                self.end_shipment(place, ShipmentEnd::Stalled);
            } else if shipment.reading.is_none() && now >= shipment.moved_at + patience {
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
        refusal: Refusal,
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
                self.end_shipment(place, ShipmentEnd::Refused(refusal));
                return;
            }
            ChunkStep::Held if shipment.asking => shipment.go_on_from(next, now),
            // The follower has nothing new to say, or an overtaken reply has it.
            ChunkStep::Held if next <= shipment.held => return,
            ChunkStep::Held => {
                shipment.held = next;
                // A chunk of an earlier run, given up for lost, came after all: what is being read is there already.
                if next > shipment.sent {
                    shipment.end_reading(now);
                    shipment.sent = next;
                }
                shipment.moved_at = now;
                shipment.grew_at = now;
            }
            ChunkStep::Gap if shipment.asking => return,
            // Nothing of this run was taken: begun anew at once, it would only be sent around in circles. A beat asks.
            ChunkStep::Gap if next <= shipment.run_held => return,
            // Chunks of this run after the lost one are void: a new run begins there, once.
            ChunkStep::Gap => {
                shipment.go_on_from(next, now);
                self.begin_run(place);
            }
        }
        if let Some(leadership) = &mut self.leadership {
            let peer = &mut leadership.peers[place];
            peer.active_at = peer.active_at.max(now.into());
        }
        self.read_on(place);
    }

    /// A shipment came to nothing; the follower still needs one. Not at once: what made it fail may still be there.
    pub(super) fn end_shipment(&mut self, place: usize, end: ShipmentEnd) {
        let now = self.now;
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        let peer = &mut leadership.peers[place];
        let to = peer.replica;
        let failures = shipment(peer).map_or(0, |shipment| shipment.failures);
        let failures = match end {
            ShipmentEnd::Refused(_) | ShipmentEnd::Stalled => failures.saturating_add(1),
            ShipmentEnd::Arrived | ShipmentEnd::Abandoned => failures,
        };
        peer.feed = Feed::Snapshot(Box::new(Shipment::new(now, failures)));
        if let Some(freight) = &mut leadership.freight {
            freight.shipping.retain(|shipped| shipped.to != to);
        }
        self.outputs.push_back(Output::ShipmentEnded { to, end });
    }

    /// Says which shipments ended by what happened elsewhere: an acknowledgement, a departure.
    pub(crate) fn look_at_shipments(&mut self) {
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        let Some(mut freight) = leadership.freight.take() else {
            return;
        };
        let Freight { shipping, landed } = &mut *freight;
        shipping.retain(|shipped| {
            let to = shipped.to;
            let end = match leadership.peer(to).map(|peer| &peer.feed) {
                Some(Feed::Snapshot(_)) => return true,
                // Or more than it: whichever way the log got there.
                Some(Feed::Probe { .. } | Feed::Replicate(_)) => {
                    landed.retain(|landed| landed.to != to);
                    landed.push(*shipped);
                    ShipmentEnd::Arrived
                }
                None => ShipmentEnd::Abandoned,
            };
            self.outputs.push_back(Output::ShipmentEnded { to, end });
            false
        });
        leadership.freight = Some(freight);
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
