//! Tells live processes from dead ones within half a second.
//!
//! Here: [`Beats`], a thread that sends a datagram to every member ten times a second and notes who was silent too long.
//! Its verdict is a hint that makes groups ask for an election early; it is never evidence for a vote (DESIGN section 9).
//! The same thread looks at the node itself: if one of its arbiters is stuck (`pulse`), what it leads goes to others while its beats
//! go on. Not here: membership (`gossip`), elections (`synod-consensus`).

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::gossip::{Sight, TAG_BEAT, tag};
use super::pulse::Pulse;
use crate::group::actor::{PeerSilent, StepAside};
use crate::group::{Clock, Counters, Shared, lock};
use synod_membership::MemberState;

/// Gap between beats.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
/// Silence after which groups led by that store are told. Four lost or late beats: on a loaded two-core machine with
/// three nodes a process can be off the processor for 100 ms and more.
const SILENT_AFTER: Duration = Duration::from_millis(450);
/// Groups that still follow a silent store are told again this often.
const TELL_AGAIN: Duration = Duration::from_millis(500);
/// A node that is not well asks this often that its leaderships be taken over.
const GIVE_WAY_AGAIN: Duration = Duration::from_millis(500);
/// A judge that itself was late by this much judges nobody this time (E22): what it did not hear may be waiting.
const LATE: Duration = Duration::from_millis(100);

/// When each store was last heard, by any packet.
#[derive(Debug, Default)]
pub(crate) struct LastHeard(Mutex<BTreeMap<u64, Arc<AtomicU64>>>);

impl LastHeard {
    /// Notes that `store` was heard now.
    pub(crate) fn heard(&self, store: u64, clock: Clock) {
        let at = clock.now().as_micros() as u64;
        lock(&self.0)
            .entry(store)
            .or_default()
            .store(at, Ordering::Relaxed);
    }

    fn snapshot(&self) -> Vec<(u64, Duration)> {
        let heard = lock(&self.0);
        heard
            .iter()
            .map(|(store, at)| (*store, Duration::from_micros(at.load(Ordering::Relaxed))))
            .collect()
    }
}

/// The running thread.
#[derive(Debug)]
pub(crate) struct Beats {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Beats {
    pub(crate) fn start(
        shared: Arc<Shared>,
        heard: Arc<LastHeard>,
        sight: Sight,
        pulse: Pulse,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name(format!("beats-{}", shared.store))
            .spawn(move || run(&shared, &heard, &sight, pulse, &stopped))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Beats {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _panicked = thread.join();
        }
    }
}

fn run(shared: &Shared, heard: &LastHeard, sight: &Sight, mut pulse: Pulse, stop: &AtomicBool) {
    let beat = tag(TAG_BEAT, &[]);
    let mut gave_way: Option<Duration> = None;
    let mut told: BTreeMap<u64, Duration> = BTreeMap::new();
    let mut due = shared.clock.now() + INTERVAL;
    while !stop.load(Ordering::Relaxed) {
        let now = shared.clock.now();
        if now < due {
            std::thread::park_timeout(due - now);
            continue;
        }
        let late = now - due > LATE;
        due = now + INTERVAL;
        for (store, member) in sight.all() {
            if store != shared.store
                && matches!(member.state, MemberState::Alive | MemberState::Suspect)
            {
                // Refused = no connection and none to be had now: silence is what the other side will notice.
                let _refused = shared.transport.datagram(store, beat.clone());
            }
        }
        let stuck = pulse.look();
        let counter = &shared.counters.arbiters_stuck;
        counter.fetch_add(stuck as u64, Ordering::Relaxed);
        let well = pulse.is_well();
        if shared.degraded.swap(!well, Ordering::Relaxed) == well {
            tracing::info!(
                degraded = !well,
                "whether this node's arbiters take their turns"
            );
            shared.touch();
        }
        if !well && gave_way.is_none_or(|last| now.saturating_sub(last) >= GIVE_WAY_AGAIN) {
            gave_way = Some(now);
            give_way(shared, sight, &pulse);
        }
        if late {
            continue;
        }
        for (store, at) in heard.snapshot() {
            if now.saturating_sub(at) < SILENT_AFTER {
                told.remove(&store);
            } else if told
                .get(&store)
                .is_none_or(|last| now - *last >= TELL_AGAIN)
            {
                if told.insert(store, now).is_none() {
                    Counters::bump(&shared.counters.peers_silent);
                    tracing::info!(store, "silent: the groups it led look for another leader");
                }
                for (_, hosted) in shared.registry.all() {
                    if hosted.leader_store() == Some(store) {
                        hosted.group.do_send(PeerSilent(store));
                    }
                }
            }
        }
    }
}

/// What this node leads goes to stores that are well. A group on a stuck arbiter hears nothing, and says nothing either: its followers
/// elect another leader.
fn give_way(shared: &Shared, sight: &Sight, pulse: &Pulse) {
    let mut fit = sight.alive();
    fit.remove(&shared.store);
    if fit.is_empty() {
        return; // better led badly than not at all
    }
    let fit = Arc::new(fit);
    for (group, hosted) in shared.registry.all() {
        if hosted.leads() && pulse.hears(group) {
            let heirs = Some(fit.clone());
            // A full mailbox: it is asked again.
            let _full = hosted.group.try_send(StepAside { heirs });
        }
    }
}
