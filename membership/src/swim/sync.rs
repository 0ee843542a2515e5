//! Anti-entropy: whatever the rumours missed, two members that differ find out and settle.
//!
//! Here: the comparison of hashes, the sync in four messages on the reliable lane (hashes of the parts; positions in the parts
//! that differ; what the other lacks, and what is wanted; the wanted), its rates in both directions. Not here: what a claim
//! changes ([`super::merge`]). What a sync costs: twelve bytes per member of a part that differs, and each record that one side
//! lacks once.
//! Source: Demers et al. (1987), 1.3; hazards M31 (back off while versions differ), M11 (bounded).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use core::time::Duration;

use rand::Rng;

use super::members::{Member, bucket};
use super::{Counters, Swim};
use crate::event::SwimOutput;
use crate::ids::StoreId;
use crate::packet::{BUCKETS, Body, Claim, Packet, REFERRALS_MAX, Rumour};
use crate::record::MemberState;

/// Rumours of one sync packet, in bytes; what does not fit follows with the next sync.
const SYNC_BYTES_MAX: usize = Packet::BYTES_MAX - (64 << 10);

/// When to sync, and how many to serve.
#[derive(Debug, Default)]
pub(crate) struct Syncs {
    /// When the last own sync began.
    last: Option<Duration>,
    /// Since when every hash heard was different.
    differs_since: Option<Duration>,
    /// Own syncs since anything was learnt or a hash was equal: versions may differ for good, or a log may lag.
    fruitless: u32,
    /// Equal hashes heard in a row since anything was learnt.
    agreed: u32,
    /// Who differed, and when, while the others agreed with this node: it may be the last one that lacks something.
    behind: Option<(StoreId, Duration)>,
    /// A busy peer's referral was followed since the last own sync.
    referred: bool,
    /// Who was asked last and has not answered.
    asked: Option<StoreId>,
    /// Who was told a digest and may ask for records, oldest first.
    served: VecDeque<StoreId>,
    inbound_since: Duration,
    inbound: u32,
}

/// The interval between fruitless syncs doubles this often.
const BACK_OFF_MAX: u32 = 5;
/// Peers with a digest in hand that are remembered.
pub(super) const SERVED_MAX: usize = 64;
/// So many peers in a row that hold exactly what is held here are a sign that everybody does (Demers et al. 1987, 1.4: rumours
/// end by feedback), and end a storm of joins at once.
const AGREED_ENOUGH: u32 = 4;

/// What is held of a member, as a digest tells it. A suspicion is nobody's business there: it ends by itself.
fn claim(member: &Member) -> Claim {
    let position = member.position();
    let state = match member.state() {
        MemberState::Suspect => MemberState::Alive,
        state => state,
    };
    Claim(
        member.store(),
        position.generation,
        position.incarnation,
        state,
    )
}

impl Syncs {
    pub(super) fn served(&self) -> usize {
        self.served.len()
    }

    pub(super) fn bore_fruit(&mut self) {
        self.fruitless = 0;
        self.agreed = 0;
        self.behind = None;
    }
}

impl Swim {
    /// Every probe and ack brings a hash.
    pub(super) fn compare(&mut self, now: Duration, from: StoreId, hash: u64) {
        if hash == self.members.hash() {
            self.syncs.differs_since = None;
            self.syncs.fruitless = 0;
            self.syncs.agreed = self.syncs.agreed.saturating_add(1);
            if self.syncs.agreed == AGREED_ENOUGH {
                self.news.forget_records(); // what the last ones lack, a sync tells them
            }
        } else {
            if self.syncs.agreed > 0 {
                let _ = self.syncs.behind.get_or_insert((from, now));
            }
            let _ = self.syncs.differs_since.get_or_insert(now);
            self.syncs.agreed = 0;
        }
        // Half an interval for rumours under way; then at most one sync per interval.
        let patience = self.options.probe_interval / 2;
        let interval = self.timing().sync_interval * (1 << self.syncs.fruitless.min(BACK_OFF_MAX));
        if self.syncs.last.is_some_and(|last| now < last + interval) {
            return;
        }
        let due = |since: Duration| now >= since + patience;
        let behind = self.syncs.behind.filter(|&(_, since)| due(since));
        let differs = self.syncs.differs_since.is_some_and(due);
        let Some(peer) = behind.map(|(peer, _)| peer).or(differs.then_some(from)) else {
            return;
        };
        self.syncs.behind = None;
        self.syncs.last = Some(now);
        self.syncs.fruitless = self.syncs.fruitless.saturating_add(1);
        self.syncs.referred = false;
        if self.is_peer(peer) {
            self.request_sync(peer);
        }
    }

    /// Asks one peer for everything that differs, without waiting for a hash; for a node that just started.
    pub fn sync_with(&mut self, now: Duration, peer: StoreId) {
        self.syncs.last = Some(now);
        self.request_sync(peer);
    }

    fn request_sync(&mut self, peer: StoreId) {
        self.syncs.asked = Some(peer);
        Counters::add(&mut self.counters.syncs);
        let buckets = self.members.buckets().to_vec();
        self.send_stream(peer, Body::SyncRequest { buckets }, Vec::new());
    }

    pub(super) fn serve_sync(&mut self, now: Duration, from: StoreId, buckets: &[u64]) {
        if now >= self.syncs.inbound_since + Duration::from_secs(1) {
            self.syncs.inbound_since = now;
            self.syncs.inbound = 0;
        }
        if self.syncs.inbound >= self.options.syncs_inbound {
            Counters::add(&mut self.counters.syncs_refused);
            let others = self.choose_peers(REFERRALS_MAX / 2, |member| member.store() != from);
            self.send_stream(from, Body::SyncBusy { others }, Vec::new());
            return;
        }
        self.syncs.inbound += 1;
        let own = self.members.buckets();
        let parts: Vec<u8> = (0u8..)
            .zip(own)
            .filter(|&(part, hash)| buckets.get(part as usize) != Some(hash))
            .map(|(part, _)| part)
            .collect();
        if parts.is_empty() {
            return;
        }
        let inside = |member: &&Member| parts.contains(&(bucket(member.store()) as u8));
        let claims = self.members.iter().filter(inside).map(claim).collect();
        self.syncs.served.retain(|&peer| peer != from);
        self.syncs.served.push_back(from);
        if self.syncs.served.len() > SERVED_MAX {
            self.syncs.served.pop_front();
        }
        self.send_stream(from, Body::SyncDigest { parts, claims }, Vec::new());
    }

    /// Tells what the peer lacks, and asks for what is lacking here. Nobody gets records by a digest that was not asked for.
    pub(super) fn exchange(&mut self, from: StoreId, parts: &[u8], claims: &[Claim]) {
        if self.syncs.asked != Some(from) {
            return;
        }
        self.syncs.asked = None;
        let parts: BTreeSet<usize> = parts.iter().map(|&part| part as usize % BUCKETS).collect();
        let theirs: BTreeMap<StoreId, _> = claims
            .iter()
            .map(|claim| (claim.0, claim.standing()))
            .collect();
        let newer_there = |&(store, there): &(&StoreId, &_)| {
            let held = self.members.get(*store);
            self.admitted.contains(store) && held.is_none_or(|held| claim(held).standing() < *there)
        };
        let wanted: Vec<StoreId> = theirs
            .iter()
            .filter(newer_there)
            .map(|(store, _)| *store)
            .collect();
        let lacks = |member: &&Member| {
            let there = theirs.get(&member.store());
            parts.contains(&bucket(member.store()))
                && member.store() != from
                && there.is_none_or(|there| *there < claim(member).standing())
        };
        let lacking: Vec<StoreId> = self
            .members
            .iter()
            .filter(lacks)
            .map(Member::store)
            .collect();
        if lacking.is_empty() && wanted.is_empty() {
            return;
        }
        let rumours = self.rumours_of(lacking);
        self.send_stream(from, Body::SyncExchange { wanted }, rumours);
    }

    /// The peer's rumours are merged already; now what it wanted.
    pub(super) fn finish_sync(&mut self, from: StoreId, wanted: &[StoreId]) {
        let Some(place) = self.syncs.served.iter().position(|&peer| peer == from) else {
            return;
        };
        self.syncs.served.remove(place);
        if wanted.is_empty() {
            return;
        }
        let wanted: BTreeSet<StoreId> = wanted.iter().copied().collect();
        let rumours = self.rumours_of(wanted.into_iter().collect());
        self.send_stream(from, Body::SyncPush, rumours);
    }

    pub(super) fn sync_elsewhere(&mut self, from: StoreId, others: &[StoreId]) {
        if self.syncs.referred {
            return;
        }
        if let Some(&other) = others
            .iter()
            .find(|&&other| other != from && self.is_peer(other))
        {
            self.syncs.referred = true;
            self.request_sync(other);
        }
    }

    fn rumours_of(&mut self, mut stores: Vec<StoreId>) -> Vec<Rumour> {
        if !stores.is_empty() {
            let first = self.rng.random_range(0..stores.len());
            stores.rotate_left(first); // should it not fit, another part is left out each time
        }
        let mut room = SYNC_BYTES_MAX;
        let mut rumours = Vec::new();
        for store in stores {
            for rumour in self.rumours_about(store, true, 0) {
                let Some(left) = room.checked_sub(rumour.wire_bytes()) else {
                    return rumours;
                };
                room = left;
                rumours.push(rumour);
            }
        }
        rumours
    }

    fn send_stream(&mut self, to: StoreId, body: Body, rumours: Vec<Rumour>) {
        Counters::add(&mut self.counters.packets);
        let packet = self.packet(body, false, rumours);
        self.outputs.push_back(SwimOutput::Stream { to, packet });
    }
}
