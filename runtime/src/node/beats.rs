//! Tells live processes from dead ones within half a second.
//!
//! Here: [`Beats`], a thread that sends a datagram ten times a second to every member of a group of this node (`system::ties`), and tells groups here whose
//! leader was silent too long (`silence`) or has nobody at its port (`ports`): a hint that makes them ask for an election early, never
//! evidence for a vote (DESIGN section 9). A beat also says which claims stand between the two nodes (`group::rest`): groups that rest live by it
//! alone. Who shares no group with this node gets no beat: that would keep a connection to everybody.
//! The same thread looks at the node itself: if one of its arbiters is stuck (`pulse`) or its disk has no room, what it leads goes to
//! others while its beats go on. Not here: membership (`gossip`), elections (`synod-consensus`).

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use actix::Addr;

use super::gossip::{TAG_BEAT, tag};
use super::ports::Ports;
use super::pulse::Pulse;
use super::sight::Sight;
use super::silence::{Silence, Silent};
use super::steward::{FellSilent, Steward};
use crate::group::actor::{PeerSilent, StepAside};
use crate::group::{Clock, Counters, Hosted, Rouse, Shared, lock};
use crate::system::{Circle, Ties};
use crate::transport::Place;
use synod_consensus::{GroupId, LogIndex, ReplicaKey};
use synod_membership::MemberState;

/// Gap between beats.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
/// A node that is not well asks this often that its leaderships be taken over.
const GIVE_WAY_AGAIN: Duration = Duration::from_millis(500);
/// A node on which only handlers block keeps a group for so long from the moment when it led it. Otherwise a command whose handler
/// blocks for long, and whose caller has a long deadline, would go from leader to leader, stop the arbiter of each, and never end:
/// three times what a handler may block (`pulse`). A handler that blocks for longer moves its group once in that time.
const KEEPS_LEADING: Duration = Duration::from_secs(30);
/// A judge that itself was late by this much judges nobody for a while (E22): what it did not hear may be waiting.
const LATE: Duration = Duration::from_millis(100);
/// For so long: a whole interval, in which everybody else beats and what waits is read, and a little.
const BLIND_FOR: Duration = Duration::from_millis(150);

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

    /// When `store` was heard last; `None`: never.
    fn of(&self, store: u64) -> Option<Duration> {
        let heard = lock(&self.0);
        let at = heard.get(&store)?.load(Ordering::Relaxed);
        Some(Duration::from_micros(at))
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
        steward: Arc<OnceLock<Addr<Steward>>>,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name(format!("beats-{}", shared.store))
            .spawn(move || run(&shared, &heard, &sight, pulse, &steward, &stopped))?;
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

/// Beats fall on multiples of their interval by the clock on the wall, so that those of all nodes come together: a node then hears all
/// others, and acknowledges what they said, in one moment, and sleeps until the next one. A wrong clock costs that and no more.
#[derive(Clone, Copy, Debug)]
struct Rhythm {
    /// How far the wall was into an interval when the node's clock began.
    phase: Duration,
}

impl Rhythm {
    fn of(clock: Clock) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        let began = wall.unwrap_or_default().saturating_sub(clock.now());
        Self {
            phase: into_interval(began),
        }
    }

    /// The next beat after `now`; one that comes very soon is left out, for rounds are counted (`pulse`).
    fn after(self, now: Duration) -> Duration {
        let soon = now + INTERVAL / 2;
        soon + INTERVAL - into_interval(soon + self.phase)
    }
}

/// How far a time is into its interval.
fn into_interval(time: Duration) -> Duration {
    let nanos = time.as_nanos() % INTERVAL.as_nanos();
    Duration::from_nanos(nanos as u64) // less than an interval
}

/// What the thread keeps between two rounds.
struct Rounds<'a> {
    shared: &'a Shared,
    heard: &'a LastHeard,
    sight: &'a Sight,
    /// Who tells this node's own callers, once it runs.
    steward: &'a OnceLock<Addr<Steward>>,
    pulse: Pulse,
    /// When it last asked that its leaderships be taken over.
    gave_way: Option<Duration>,
    /// Since when this node leads what it leads.
    leads: BTreeMap<GroupId, Duration>,
    /// As it was at so many changes of the registry.
    groups: Vec<(GroupId, Arc<Hosted>)>,
    ties: Ties,
    /// Changes of the registry, and of the system state.
    looked_at: Option<(u64, LogIndex)>,
    silence: Silence,
    /// Where those listen from whom beats are expected.
    places: BTreeMap<u64, Place>,
    ports: Ports,
}

fn run(
    shared: &Shared,
    heard: &LastHeard,
    sight: &Sight,
    pulse: Pulse,
    steward: &OnceLock<Addr<Steward>>,
    stop: &AtomicBool,
) {
    let mut rounds = Rounds {
        shared,
        heard,
        sight,
        steward,
        pulse,
        gave_way: None,
        leads: BTreeMap::new(),
        groups: Vec::new(),
        ties: Ties::default(),
        looked_at: None,
        silence: Silence::default(),
        places: BTreeMap::new(),
        ports: Ports::default(),
    };
    let rhythm = Rhythm::of(shared.clock);
    let mut due = rhythm.after(shared.clock.now());
    // Between two rounds when somebody would be late or silent then, or answers to knocks are due.
    let mut wake_at = due;
    let mut sees_from = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let now = shared.clock.now();
        if now < wake_at {
            std::thread::park_timeout(wake_at - now);
            continue;
        }
        if now - wake_at > LATE {
            sees_from = now + BLIND_FOR;
        }
        let sees = now >= sees_from;
        if now >= due {
            due = rhythm.after(now);
            rounds.beat(now, sees);
        }
        let early = if sees { rounds.listen(now) } else { None };
        wake_at = early.map_or(due, |early| early.clamp(now, due));
    }
}

impl Rounds<'_> {
    /// Says that this node lives and what it claims, and looks at the node itself.
    fn beat(&mut self, now: Duration, sees: bool) {
        let shared = self.shared;
        self.follow_registry(now);
        let partners: Vec<u64> = shared.claims(|claims| claims.partners().collect());
        let seen = self.sight.all();
        for (store, member) in &seen {
            if (self.ties.fellows.contains(store) || partners.contains(store))
                && matches!(member.state, MemberState::Alive | MemberState::Suspect)
            {
                let beat = shared.claims(|claims| claims.beat(*store));
                // Refused = no connection and none to be had now: silence is what the other side will notice.
                let beat = tag(TAG_BEAT, &beat.encode());
                let _refused = shared.transport.datagram(*store, beat);
            }
        }
        if sees {
            shared.claims(|claims| claims.judge(now, |store| self.heard.of(store)));
        }
        self.look_inside(now);
        let place = |store: &u64| {
            let member = seen.get(store)?;
            let address = *member.addresses.first()?;
            let generation = member.generation;
            Some((
                *store,
                Place {
                    generation,
                    address,
                },
            ))
        };
        self.places = self.ties.leaders.iter().filter_map(place).collect();
    }

    fn follow_registry(&mut self, now: Duration) {
        let changes = self.shared.registry.changes().load(Ordering::Acquire);
        let applied = lock(&self.shared.system).applied;
        let seen = (changes, applied);
        if self.looked_at.replace(seen) != Some(seen) {
            self.groups = self.shared.registry.all();
            let led = self.groups.iter().filter(|(_, hosted)| hosted.leads());
            follow_leaderships(&mut self.leads, led.map(|(group, _)| *group), now);
            let listed: Vec<BTreeSet<u64>> = {
                let state = lock(&self.shared.system);
                let groups = self.groups.iter();
                groups
                    .map(|(group, _)| Circle::listed(*group, &state))
                    .collect()
            };
            let circles =
                { self.groups.iter().zip(listed) }.map(|((group, hosted), listed)| Circle {
                    listeners: hosted.listeners(*group),
                    leader: hosted.leader_store(),
                    listed,
                });
            self.ties = Ties::of(self.shared.store, circles);
        }
    }

    /// What is led on a thread that stands still goes to others.
    fn look_inside(&mut self, now: Duration) {
        let shared = self.shared;
        let stuck = self.pulse.look();
        if stuck > 0 {
            // What rests under claims from a thread that stands still needs another leader, for all that this node beats on.
            for (group, hosted) in &self.groups {
                if hosted.leads() && !self.pulse.hears(*group) {
                    let (group, replica) = (*group, hosted.replica);
                    shared.claims(|claims| claims.gone(ReplicaKey { group, replica }));
                    // When it goes on it may still lead, and claims nobody any more.
                    hosted.group.do_send(Rouse);
                }
            }
        }
        let counter = &shared.counters.arbiters_stuck;
        counter.fetch_add(stuck as u64, Ordering::Relaxed);
        let short = shared.overlays.disk_is_short();
        let well = self.pulse.is_well() && !short;
        if shared.degraded.swap(!well, Ordering::Relaxed) == well {
            tracing::info!(
                degraded = !well,
                disk_is_short = short,
                "whether this node's arbiters take their turns and its disk has room"
            );
            shared.touch();
        }
        let long_ago = |last: Duration| now.saturating_sub(last) >= GIVE_WAY_AGAIN;
        if !well && self.gave_way.is_none_or(long_ago) {
            self.gave_way = Some(now);
            let keeps = if self.pulse.only_handlers_ail() && !short {
                KEEPS_LEADING
            } else {
                Duration::ZERO
            };
            let spared: BTreeSet<GroupId> = kept(&self.leads, keeps, now).collect();
            give_way(shared, self.sight, &self.pulse, &spared);
        }
    }

    /// Knocks where somebody is late, and tells the groups of those that are silent. Returns when the next one would be either.
    fn listen(&mut self, now: Duration) -> Option<Duration> {
        let heard = |store| self.heard.of(store);
        let is_late = |store| self.silence.is_late(now, store, heard);
        let answers = self.ports.knock(now, &self.places, heard, is_late);
        let closed = |store| self.ports.is_closed(store);
        let leaders = &self.ties.leaders;
        for Silent { store, news } in self.silence.look(now, leaders, heard, closed) {
            if news {
                Counters::bump(&self.shared.counters.peers_silent);
                let closed = closed(store);
                tracing::info!(
                    store,
                    closed,
                    "silent: the groups it led look for another leader"
                );
            }
            for (_, hosted) in &self.groups {
                if hosted.leader_store() == Some(store) {
                    hosted.group.do_send(PeerSilent(store));
                }
            }
            if news && let Some(steward) = self.steward.get() {
                steward.do_send(FellSilent(store));
            }
        }
        let due = self.silence.due(now, heard, closed);
        due.into_iter().chain(answers).min()
    }
}

/// Notes since when each group is led here that is `led` now.
fn follow_leaderships(
    leads: &mut BTreeMap<GroupId, Duration>,
    led: impl Iterator<Item = GroupId>,
    now: Duration,
) {
    let before = std::mem::take(leads);
    leads.extend(led.map(|group| (group, before.get(&group).copied().unwrap_or(now))));
}

/// The groups that have been led here for less than `keeps`.
fn kept(
    leads: &BTreeMap<GroupId, Duration>,
    keeps: Duration,
    now: Duration,
) -> impl Iterator<Item = GroupId> {
    let young = leads
        .iter()
        .filter(move |(_, since)| now.saturating_sub(**since) < keeps);
    young.map(|(group, _)| *group)
}

/// What this node leads, but `spared`, goes to stores that are well. A group on a stuck arbiter hears nothing, and says nothing
/// either: its followers elect another leader.
fn give_way(shared: &Shared, sight: &Sight, pulse: &Pulse, spared: &BTreeSet<GroupId>) {
    let mut fit = sight.alive();
    fit.remove(&shared.store);
    if fit.is_empty() {
        return; // better led badly than not at all
    }
    let fit = Arc::new(fit);
    for (group, hosted) in shared.registry.all() {
        if hosted.leads() && pulse.hears(group) && !spared.contains(&group) {
            let heirs = Some(fit.clone());
            // A full mailbox: it is asked again.
            let _full = hosted.group.try_send(StepAside { heirs });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_started_at_different_times_beat_at_the_same_moments() {
        let at = |millis| Duration::from_millis(millis);
        let (one, other) = (Rhythm { phase: at(30) }, Rhythm { phase: at(85) });
        // By the wall it is 1,030 beyond something when the first shows 1,000 and the other 945.
        assert_eq!(one.after(at(1_000)), at(1_070));
        assert_eq!(other.after(at(945)), at(1_015));
        assert_eq!(one.after(at(1_070)), at(1_170), "never now");
        assert_eq!(one.after(at(1_119)), at(1_170));
        assert_eq!(one.after(at(1_169)), at(1_270), "nor very soon");
    }

    #[test]
    fn a_leadership_that_just_came_is_kept_and_one_that_comes_again_begins_anew() {
        // A command whose handler blocks went from leader to leader as its caller's router asked each of them.
        let [first, second] = [GroupId::new(1), GroupId::new(2)];
        let at = |seconds| Duration::from_secs(seconds);
        let mut leads = BTreeMap::new();
        follow_leaderships(&mut leads, [first].into_iter(), at(100));
        follow_leaderships(&mut leads, [first, second].into_iter(), at(120));
        let kept_at = |leads: &_, keeps, now| kept(leads, keeps, at(now)).collect::<Vec<_>>();
        assert_eq!(kept_at(&leads, KEEPS_LEADING, 129), [first, second]);
        assert_eq!(kept_at(&leads, KEEPS_LEADING, 130), [second]);
        assert_eq!(kept_at(&leads, Duration::ZERO, 130), []);
        follow_leaderships(&mut leads, [second].into_iter(), at(131));
        follow_leaderships(&mut leads, [first, second].into_iter(), at(132));
        assert_eq!(kept_at(&leads, KEEPS_LEADING, 151), [first]);
    }
}
