//! What is still to be told, and on which packet it travels.
//!
//! Here: the news queue (one slot per subject), its classes, the packet budget, gossip rounds, and answers to stale claims.
//! Not here: whether a claim is news ([`super::merge`]); whole memberships ([`super::sync`]).
//! Source: SWIM 4.1; hazards M17 (answers have a rate), M27 (newest first), M28 (reserved shares), M29 (replace, never append),
//! M43 (one budget per packet).

use std::collections::{BTreeMap, BTreeSet};

use core::cmp::Reverse;
use core::time::Duration;

use super::{Counters, Lane, Phase, Swim};
use crate::accusation::{Accusation, Verdict};
use crate::event::{MemberEvent, SwimOutput};
use crate::ids::StoreId;
use crate::packet::{Body, Packet, Rumour};
use crate::record::MemberState;
use crate::timing::Timing;

/// What must be heard soonest comes first; each has a share of every packet that the others cannot take.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Class {
    /// Accusations, refutations, farewells.
    Liveness,
    /// Who joined, who restarted.
    Membership,
    /// Addresses and metadata.
    Metadata,
}

/// Percent of the packet budget, by class.
const SHARES: [usize; 3] = [50, 30, 20];
/// Slots looked at per class and packet that do not fit, in search of a smaller one.
const MISFITS_MAX: usize = 4;
/// About so many records fit into one packet.
const RECORDS_PER_PACKET: usize = 6;
/// Rounds come so many times as often while there is more news than one round takes.
const HURRY: u32 = 2;
/// No rumour is smaller.
const RUMOUR_BYTES_LEAST: usize = 40;

/// One slot per subject; what is said is taken from the member table when it is sent, so newer replaces older by itself.
#[derive(Debug, Default)]
pub(crate) struct News {
    slots: BTreeMap<StoreId, Slot>,
    /// Per class: least often sent first, newest first.
    queues: [BTreeSet<(u32, Reverse<u64>, StoreId)>; 3],
    added: u64,
    pub(super) round_at: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    class: Class,
    /// The record itself is news, not only the verdict on it.
    record: bool,
    sent: u32,
    added: u64,
}

impl News {
    fn take(&mut self, subject: StoreId) -> Option<Slot> {
        let slot = self.slots.remove(&subject)?;
        self.queues[slot.class as usize].remove(&(slot.sent, Reverse(slot.added), subject));
        Some(slot)
    }

    fn put(&mut self, subject: StoreId, slot: Slot) {
        self.queues[slot.class as usize].insert((slot.sent, Reverse(slot.added), subject));
        self.slots.insert(subject, slot);
    }

    pub(super) fn forget(&mut self, subject: StoreId) {
        self.take(subject);
    }

    /// Records that everybody holds by now need no telling; accusations, which no hash shows, do.
    pub(super) fn forget_records(&mut self) {
        for class in [Class::Membership, Class::Metadata] {
            for (_, _, subject) in core::mem::take(&mut self.queues[class as usize]) {
                self.slots.remove(&subject);
            }
        }
    }

    pub(super) fn has(&self, subject: StoreId) -> bool {
        self.slots.contains_key(&subject)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn wake_at(&self) -> Option<Duration> {
        (!self.slots.is_empty()).then_some(self.round_at)
    }
}

impl Swim {
    /// What is known about `subject` is news from now on.
    pub(super) fn spread(&mut self, now: Duration, subject: StoreId, class: Class, record: bool) {
        self.syncs.bore_fruit();
        let old = self.news.take(subject);
        self.news.added += 1;
        let record = record || old.is_some_and(|old| old.record);
        let class = old.map_or(class, |old| old.class.min(class));
        let slot = Slot {
            class,
            record,
            sent: 0,
            added: self.news.added,
        };
        if self.news.slots.is_empty() {
            self.news.round_at = self.news.round_at.max(now);
        }
        self.news.put(subject, slot);
    }

    pub(super) fn gossip_round(&mut self, now: Duration) {
        if self.news.wake_at().is_none_or(|at| at > now) {
            return;
        }
        let interval = self.timing().gossip_interval;
        // A storm of joins is many times what a packet takes: then rounds come sooner, until peers agree.
        let hurry = if self.news.slots.len() > self.options.fanout * RECORDS_PER_PACKET {
            HURRY
        } else {
            1
        };
        self.news.round_at = now + interval / hurry;
        let peers = self.choose_peers(self.options.fanout, |_| true);
        if peers.is_empty() {
            self.news = News {
                added: self.news.added,
                round_at: self.news.round_at,
                ..News::default()
            }; // a sync tells whoever comes
        }
        for peer in peers {
            self.send(peer, Lane::Datagram, Body::Gossip);
        }
        self.said_goodbye();
    }

    /// The farewell was sent as often as any rumour is.
    pub(super) fn said_goodbye(&mut self) {
        if self.phase == Phase::Leaving && !self.news.slots.contains_key(&self.me) {
            self.phase = Phase::Left;
            self.outputs
                .push_back(SwimOutput::Event(MemberEvent::Left { store: self.me }));
        }
    }

    pub(super) fn send(&mut self, to: StoreId, lane: Lane, body: Body) {
        self.send_with(to, lane, body, &BTreeSet::new(), false);
    }

    /// Sends `body` and, as far as they fit: what `to` is accused of (Lifeguard's buddy), what is `owed` to it, the news.
    pub(super) fn send_with(
        &mut self,
        to: StoreId,
        lane: Lane,
        body: Body,
        owed: &BTreeSet<StoreId>,
        want: bool,
    ) {
        let mut room = self.datagram_bytes.saturating_sub(Packet::BYTES_BARE);
        let mut rumours = Vec::new();
        for subject in
            core::iter::once(to).chain(owed.iter().copied().filter(|&subject| subject != to))
        {
            let with_record = owed.contains(&subject);
            for rumour in self.rumours_about(subject, with_record, 0) {
                if let Some(left) = room.checked_sub(rumour.wire_bytes()) {
                    room = left;
                    rumours.push(rumour);
                }
            }
        }
        self.add_news(to, owed, room, &mut rumours);
        if body == Body::Gossip && rumours.is_empty() && !want {
            return;
        }
        let packet = self.packet(body, want, rumours);
        Counters::add(&mut self.counters.packets);
        self.outputs.push_back(match lane {
            Lane::Datagram => SwimOutput::Datagram { to, packet },
            Lane::Stream => SwimOutput::Stream { to, packet },
        });
    }

    pub(super) fn packet(&self, body: Body, want: bool, rumours: Vec<Rumour>) -> Packet {
        let position = self.position();
        Packet {
            generation: position.generation,
            incarnation: position.incarnation,
            hash: self.members.hash(),
            want,
            body,
            rumours,
        }
    }

    fn add_news(
        &mut self,
        to: StoreId,
        said: &BTreeSet<StoreId>,
        mut room: usize,
        rumours: &mut Vec<Rumour>,
    ) {
        if self.news.slots.is_empty() {
            return;
        }
        let budget = room;
        let limit = Timing::retransmits_of(&self.options, self.members.present());
        let mut told: Vec<(StoreId, Slot)> = Vec::new();
        for reserved in [true, false] {
            for (class, share) in SHARES.into_iter().enumerate() {
                let mut share = if reserved { budget * share / 100 } else { room }.min(room);
                let (mut misfits, first) = (0, told.len());
                for &(_, _, subject) in &self.news.queues[class] {
                    if share < RUMOUR_BYTES_LEAST || misfits == MISFITS_MAX {
                        break;
                    }
                    let Some(&slot) = self.news.slots.get(&subject) else {
                        continue;
                    };
                    let pieces = if subject == to || said.contains(&subject) {
                        Vec::new() // it knows, or is told on this very packet
                    } else {
                        self.rumours_about(subject, slot.record, slot.sent)
                    };
                    let bytes: usize = pieces.iter().map(Rumour::wire_bytes).sum();
                    if bytes > share {
                        misfits += 1;
                        continue;
                    }
                    share -= bytes;
                    room -= bytes;
                    rumours.extend(pieces);
                    let sent = slot.sent + 1;
                    told.push((subject, Slot { sent, ..slot }));
                }
                for (subject, _) in &told[first..] {
                    self.news.take(*subject); // not twice on one packet
                }
            }
        }
        for (subject, slot) in told {
            if slot.sent < limit {
                self.news.put(subject, slot);
            }
        }
    }

    /// Everything this node can say about one member.
    pub(super) fn rumours_about(&self, subject: StoreId, record: bool, turn: u32) -> Vec<Rumour> {
        let Some(member) = self.members.get(subject) else {
            return Vec::new();
        };
        let verdict = match (&member.suspicion, member.state()) {
            (Some(suspicion), _) => Some((Verdict::Suspect, suspicion.accuser(turn))),
            (None, MemberState::Dead) => Some((Verdict::Dead, self.me)),
            _ => None,
        };
        let mut rumours = Vec::new();
        if record {
            rumours.push(Rumour::Record(member.signed.clone()));
        }
        if let Some((verdict, accuser)) = verdict {
            let position = member.position();
            rumours.push(Rumour::Accusation(Accusation {
                subject,
                generation: position.generation,
                incarnation: position.incarnation,
                verdict,
                accuser,
            }));
        }
        rumours
    }

    /// A stale claim is answered with the newer record, at most once per gossip interval and peer.
    pub(super) fn answer(
        &mut self,
        now: Duration,
        to: StoreId,
        owed: &BTreeSet<StoreId>,
        want: bool,
    ) {
        if owed.is_empty() && !want {
            return;
        }
        let interval = self.timing().gossip_interval;
        if self
            .answered
            .get(&to)
            .is_some_and(|&last| now < last + interval)
        {
            return;
        }
        self.answered.insert(to, now);
        Counters::add(&mut self.counters.answers);
        self.send_with(to, Lane::Datagram, Body::Gossip, owed, want);
    }
}
