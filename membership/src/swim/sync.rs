//! Anti-entropy: whatever the rumours missed, two members that differ find out and settle.
//!
//! Here: the comparison of hashes, the sync in three messages on the reliable lane (hashes of the parts; all that is known in the
//! parts that differ; what that lacked), its rates in both directions. Not here: what a claim changes ([`super::merge`]).
//! Source: Demers et al. (1987), 1.3; hazards M31 (back off while versions differ), M11 (bounded).

use std::collections::{BTreeMap, BTreeSet};

use core::time::Duration;

use rand::Rng;

use super::members::bucket;
use super::{Counters, Swim};
use crate::event::SwimOutput;
use crate::ids::StoreId;
use crate::packet::{BUCKETS, Body, Packet, REFERRALS_MAX, Rumour};
use crate::record::{MemberState, Position};

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
    /// A busy peer's referral was followed since the last own sync.
    referred: bool,
    inbound_since: Duration,
    inbound: u32,
}

/// The interval between fruitless syncs doubles this often.
const BACK_OFF_MAX: u32 = 5;

impl Syncs {
    pub(super) fn bore_fruit(&mut self) {
        self.fruitless = 0;
    }
}

impl Swim {
    /// Every probe and ack brings a hash.
    pub(super) fn compare(&mut self, now: Duration, from: StoreId, hash: u64) {
        if hash == self.members.hash() {
            self.syncs.differs_since = None;
            self.syncs.fruitless = 0;
            return;
        }
        let since = *self.syncs.differs_since.get_or_insert(now);
        // Half an interval for rumours under way; then at most one sync per interval.
        let interval = self.timing().sync_interval * (1 << self.syncs.fruitless.min(BACK_OFF_MAX));
        let rested = self.syncs.last.is_none_or(|last| now >= last + interval);
        if rested && now >= since + self.options.probe_interval / 2 {
            self.syncs.last = Some(now);
            self.syncs.fruitless = self.syncs.fruitless.saturating_add(1);
            self.syncs.referred = false;
            self.request_sync(from);
        }
    }

    /// Asks one peer for everything that differs, without waiting for a hash; for a node that just started.
    pub fn sync_with(&mut self, now: Duration, peer: StoreId) {
        self.syncs.last = Some(now);
        self.request_sync(peer);
    }

    fn request_sync(&mut self, peer: StoreId) {
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
        let rumours = self.rumours_in(&parts, |_, _, _| true);
        self.send_stream(from, Body::SyncReply { parts }, rumours);
    }

    /// The rumours of the reply are merged already; `claimed` is what it said.
    pub(super) fn finish_sync(
        &mut self,
        from: StoreId,
        parts: &[u8],
        claimed: &BTreeMap<StoreId, (Position, MemberState)>,
    ) {
        let lacked = self.rumours_in(parts, |store, position, state| {
            claimed
                .get(&store)
                .is_none_or(|&known| known < (position, state))
                && store != from
        });
        if !lacked.is_empty() {
            self.send_stream(from, Body::SyncPush, lacked);
        }
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

    fn rumours_in(
        &mut self,
        parts: &[u8],
        wanted: impl Fn(StoreId, Position, MemberState) -> bool,
    ) -> Vec<Rumour> {
        let parts: BTreeSet<usize> = parts.iter().map(|&part| part as usize % BUCKETS).collect();
        let mut stores: Vec<StoreId> = self
            .members
            .iter()
            .filter(|member| parts.contains(&bucket(member.store())))
            .filter(|member| wanted(member.store(), member.position(), member.state()))
            .map(|member| member.store())
            .collect();
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
