//! Which replicas are hosted here, and how to reach their actors from any thread.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use actix::Addr;
use actix::dev::SendError;
use synod_consensus::{Configuration, GroupId, PersistToken, ReplicaId, ReplicaKey, Term};

use super::actor::{Checkpointed, GroupActor, Persisted, Prefer, StorageFailed, Wanted};
use super::evaluator::{EvaluatorActor, Incoming};
use super::freight::{News, Receivers};
use super::machine::lock;
use crate::storage::{CheckpointSink, WriteSink};
use crate::system::{Circle, ReplicaAddress};
use synod_consensus::LogIndex;

/// One hosted replica.
#[derive(Debug)]
pub(crate) struct Hosted {
    /// Its id.
    pub(crate) replica: ReplicaId,
    /// Its Raft actor.
    pub(crate) group: Addr<GroupActor>,
    /// The evaluator of its shard, while it leads.
    evaluator: RwLock<Option<Addr<EvaluatorActor>>>,
    /// The leadership here has none until somebody wants something.
    put_away: AtomicBool,
    /// Replica id of the known leader; 0 = none.
    leader: AtomicU64,
    /// The term in which the replica here leads, once all that was committed before it is applied here; else 0.
    serves: AtomicU64,
    /// It has caught up with its leader, or leads.
    caught_up: AtomicBool,
    /// Replica id of the leader that the placement prefers; 0 = none.
    preferred: AtomicU64,
    /// The effective configuration here.
    configuration: Mutex<Configuration>,
    /// Counts changes of leaders and configurations of all replicas here.
    changes: Arc<AtomicU64>,
    /// Bytes of its state that only memory holds.
    pub(crate) overlay_bytes: AtomicUsize,
    /// It was asked to make room, and has not yet.
    pub(crate) makes_room: AtomicBool,
}

impl Hosted {
    pub(crate) fn new(
        replica: ReplicaId,
        group: Addr<GroupActor>,
        leader: Option<ReplicaId>,
        changes: Arc<AtomicU64>,
    ) -> Self {
        Self {
            replica,
            group,
            evaluator: RwLock::default(),
            put_away: AtomicBool::new(false),
            leader: AtomicU64::new(leader.map_or(0, ReplicaId::get)),
            serves: AtomicU64::new(0),
            caught_up: AtomicBool::new(false),
            preferred: AtomicU64::new(0),
            configuration: Mutex::default(),
            changes,
            overlay_bytes: AtomicUsize::new(0),
            makes_room: AtomicBool::new(false),
        }
    }

    /// Notes the evaluator of a leadership, or that it is over.
    pub(crate) fn set_evaluator(&self, evaluator: Option<Addr<EvaluatorActor>>) {
        self.note_evaluator(evaluator, false);
    }

    /// Notes that the evaluator is put away while the leadership goes on.
    pub(crate) fn put_evaluator_away(&self) {
        self.note_evaluator(None, true);
    }

    fn note_evaluator(&self, evaluator: Option<Addr<EvaluatorActor>>, put_away: bool) {
        let mut known = self
            .evaluator
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *known = evaluator;
        self.put_away.store(put_away, Ordering::Relaxed); // read under the lock
    }

    /// The evaluator of the leadership here.
    #[cfg(test)]
    pub(crate) fn evaluator(&self) -> Option<Addr<EvaluatorActor>> {
        let evaluator = self
            .evaluator
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        evaluator.clone()
    }

    /// Hands a request to the evaluator, or to the group that has put it away; back as closed, if the replica here does not lead.
    #[expect(
        clippy::result_large_err,
        reason = "it comes back as it went, to be answered"
    )]
    pub(crate) fn offer(&self, incoming: Incoming) -> Result<(), SendError<Incoming>> {
        let evaluator = self
            .evaluator
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        match &*evaluator {
            Some(evaluator) => evaluator.try_send(incoming),
            None if self.put_away.load(Ordering::Relaxed) => {
                let sent = self.group.try_send(Wanted(incoming));
                sent.map_err(|back| match back {
                    SendError::Full(Wanted(incoming)) => SendError::Full(incoming),
                    SendError::Closed(Wanted(incoming)) => SendError::Closed(incoming),
                })
            }
            None => Err(SendError::Closed(incoming)),
        }
    }

    /// Tells the group whom the placement prefers as its leader, if that is news.
    pub(crate) fn prefer(&self, preferred: Option<ReplicaId>) {
        let id = preferred.map_or(0, ReplicaId::get);
        if self.preferred.swap(id, Ordering::Relaxed) != id {
            self.group.do_send(Prefer(preferred));
        }
    }

    /// Notes who decides, for people.
    pub(crate) fn set_configuration(&self, configuration: Configuration) {
        *lock(&self.configuration) = configuration;
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Stores whose return the group waits for, when only `present` are there; empty while it has a majority.
    pub(crate) fn missed(&self, present: impl Fn(u64) -> bool) -> BTreeSet<u64> {
        missed(&lock(&self.configuration), present)
    }

    /// The stores whose replicas vote, as far as is known here; of both halves.
    pub(crate) fn voters(&self) -> BTreeSet<u64> {
        let configuration = lock(&self.configuration);
        stores_of(&configuration.voters.union(&configuration.outgoing))
    }

    /// The stores that listen for this group's leader, as far as is known here.
    pub(crate) fn listeners(&self, group: GroupId) -> BTreeSet<u64> {
        Circle::listeners(group, &lock(&self.configuration))
    }

    /// Notes who leads, for hints.
    pub(crate) fn set_leader(&self, leader: Option<ReplicaId>) {
        self.leader
            .store(leader.map_or(0, ReplicaId::get), Ordering::Relaxed);
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// The known leader.
    pub(crate) fn leader(&self) -> Option<ReplicaId> {
        match self.leader.load(Ordering::Relaxed) {
            0 => None,
            id => Some(ReplicaId::new(id)),
        }
    }

    /// Store of the known leader.
    pub(crate) fn leader_store(&self) -> Option<u64> {
        self.leader().map(|id| ReplicaAddress::of(id).store)
    }

    /// Notes in which term the replica here leads with all applied that former leaders committed, if it does.
    pub(crate) fn set_serves(&self, term: Option<Term>) {
        let term = term.map_or(0, Term::get);
        self.serves.store(term, Ordering::Release);
    }

    /// The term in which the replica here leads and its state holds all that former leaders committed.
    pub(crate) fn serves(&self) -> Option<Term> {
        match self.serves.load(Ordering::Acquire) {
            0 => None,
            term => Some(Term::new(term)),
        }
    }

    /// Whether the replica here votes and others cannot do without another one for it yet. A copy that is under way to this node is not
    /// missed by anybody: it votes once it has caught up.
    pub(crate) fn lags(&self) -> bool {
        let votes = || {
            let configuration = lock(&self.configuration);
            let halves = [&configuration.voters, &configuration.outgoing];
            halves.iter().any(|half| half.contains(&self.replica))
        };
        !self.has_caught_up() && votes()
    }

    /// Notes whether the replica here has caught up. True if that is news.
    pub(crate) fn set_caught_up(&self, caught_up: bool) -> bool {
        let news = self.has_caught_up() != caught_up;
        if news {
            self.caught_up.store(caught_up, Ordering::Relaxed);
        }
        news
    }

    /// See [`synod_consensus::Group::has_caught_up`].
    fn has_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Relaxed)
    }

    /// True when the replica here is the known leader.
    pub(crate) fn leads(&self) -> bool {
        self.leader() == Some(self.replica)
    }
}

fn stores_of(replicas: &[ReplicaId]) -> BTreeSet<u64> {
    let stores = replicas.iter().map(|id| ReplicaAddress::of(*id).store);
    stores.collect()
}

/// The absent stores of each half that has no majority among `present`.
fn missed(configuration: &Configuration, present: impl Fn(u64) -> bool) -> BTreeSet<u64> {
    let mut missed = BTreeSet::new();
    for half in [&configuration.voters, &configuration.outgoing] {
        let stores = half.iter().map(|voter| ReplicaAddress::of(*voter).store);
        let absent: Vec<u64> = stores.filter(|store| !present(*store)).collect();
        if !half.is_empty() && half.len() - absent.len() <= half.len() / 2 {
            missed.extend(absent);
        }
    }
    missed
}

/// Spreads group numbers, which this cluster's own log allots one after the other: nobody from outside can choose them so that they
/// meet. A tenth of the time of the standard library's hasher, and every message that arrives is looked up.
#[derive(Clone, Copy, Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write_u64(&mut self, number: u64) {
        // 2^64 divided by the golden ratio (Knuth, The Art of Computer Programming, volume 3, 6.4): its upper bits differ
        // for neighbours, and the map looks at those, too.
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Groups = HashMap<GroupId, Arc<Hosted>, BuildHasherDefault<Spread>>;

/// All hosted replicas of a node.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    groups: RwLock<Groups>,
    /// Counts what comes and goes, and changes of leaders and configurations.
    changes: Arc<AtomicU64>,
}

/// The replicas as they are while this is held: for whoever looks up many at once. Nothing may be hosted or taken out meanwhile, so
/// nobody waits with it.
pub(crate) struct Lookup<'a>(RwLockReadGuard<'a, Groups>);

impl Lookup<'_> {
    pub(crate) fn get(&self, group: GroupId) -> Option<&Hosted> {
        self.0.get(&group).map(|hosted| &**hosted)
    }

    pub(crate) fn of_key(&self, key: ReplicaKey) -> Option<&Hosted> {
        self.get(key.group)
            .filter(|hosted| hosted.replica == key.replica)
    }
}

impl Registry {
    pub(crate) fn lookup(&self) -> Lookup<'_> {
        Lookup(self.groups.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn get(&self, group: GroupId) -> Option<Arc<Hosted>> {
        self.groups
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&group)
            .cloned()
    }

    /// Whose states have the most that only memory holds, at least half as much as the largest of them, and together with those that are
    /// making room already about so many bytes. They are taken to be asked.
    pub(crate) fn largest_overlays(&self, bytes: usize) -> Vec<Arc<Hosted>> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let (mut coming, mut largest) = (0, 0);
        for hosted in groups.values() {
            let has = hosted.overlay_bytes.load(Ordering::Relaxed);
            match hosted.makes_room.load(Ordering::Relaxed) {
                true => coming += has,
                false => largest = largest.max(has),
            }
        }
        let least = largest.div_ceil(2).max(1);
        let mut asked = Vec::new();
        for hosted in groups.values() {
            let has = hosted.overlay_bytes.load(Ordering::Relaxed);
            let free = !hosted.makes_room.load(Ordering::Relaxed);
            if free && has >= least && coming < bytes {
                coming += has;
                hosted.makes_room.store(true, Ordering::Relaxed);
                asked.push(hosted.clone());
            }
        }
        asked
    }

    pub(crate) fn insert(&self, group: GroupId, hosted: Hosted) -> Arc<Hosted> {
        let hosted = Arc::new(hosted);
        self.groups
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(group, hosted.clone());
        self.changes.fetch_add(1, Ordering::Release);
        hosted
    }

    /// Takes a replica out, if it is still that one.
    pub(crate) fn remove(&self, group: GroupId, replica: ReplicaId) -> Option<Arc<Hosted>> {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        if groups
            .get(&group)
            .is_some_and(|hosted| hosted.replica == replica)
        {
            self.changes.fetch_add(1, Ordering::Release);
            groups.remove(&group)
        } else {
            None
        }
    }

    /// Grows with everything that comes or goes, and with every change of a leader or a configuration: as long as it is the same,
    /// what was derived from them is, too.
    pub(crate) fn changes(&self) -> &Arc<AtomicU64> {
        &self.changes
    }

    /// Everything hosted, in no order.
    pub(crate) fn all(&self) -> Vec<(GroupId, Arc<Hosted>)> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups
            .iter()
            .map(|(group, hosted)| (*group, hosted.clone()))
            .collect()
    }

    pub(crate) fn of_key(&self, key: ReplicaKey) -> Option<Arc<Hosted>> {
        self.get(key.group)
            .filter(|hosted| hosted.replica == key.replica)
    }
}

impl Receivers for Registry {
    fn tell(&self, key: ReplicaKey, news: News) -> bool {
        let Some(hosted) = self.of_key(key) else {
            return false;
        };
        match news {
            News::Making(making) => hosted.group.do_send(making),
            News::Provide(provide) => hosted.group.do_send(provide),
            News::Gone(gone) => hosted.group.do_send(gone),
            News::Read(read) => hosted.group.do_send(read),
            News::Stored(stored) => hosted.group.do_send(stored),
            News::Fetched(fetched) => hosted.group.do_send(*fetched),
            News::Unreadable(unreadable) => hosted.group.do_send(unreadable),
        }
        true
    }
}

/// Brings completions of the disk threads back to the group actors.
#[derive(Debug)]
pub(crate) struct Completions(pub(crate) Arc<Registry>);

impl WriteSink for Completions {
    fn completed(&self, done: Vec<(ReplicaKey, PersistToken)>) {
        let lookup = self.0.lookup();
        for (key, token) in done {
            if let Some(hosted) = lookup.of_key(key) {
                hosted.group.do_send(Persisted(token));
            }
        }
    }

    fn failed(&self, error: String) {
        self.fail_all(&error);
    }
}

impl CheckpointSink for Completions {
    fn checkpointed(&self, done: Vec<(ReplicaKey, LogIndex)>) {
        for (key, index) in done {
            if let Some(hosted) = self.0.of_key(key) {
                hosted.group.do_send(Checkpointed(index));
            }
        }
    }

    fn failed(&self, error: String) {
        self.fail_all(&error);
    }
}

impl Completions {
    fn fail_all(&self, error: &str) {
        // One of them tells the node; all of them stop acknowledging.
        for (_, hosted) in self.0.all() {
            hosted.group.do_send(StorageFailed(error.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use synod_consensus::Members;

    use super::*;

    #[test]
    fn missed_are_the_absent_voters_of_a_half_without_a_majority() {
        let voters = |stores: &[u64]| -> Members {
            let id = |store: &u64| ReplicaAddress {
                store: *store,
                serial: 1,
            };
            stores.iter().map(|store| id(store).id()).collect()
        };
        let joint = Configuration {
            voters: voters(&[3, 4, 5]),
            outgoing: voters(&[1, 2, 3]),
            ..Configuration::default()
        };
        let simple = Configuration::of_voters(voters(&[1, 2, 3]));
        for (configuration, present, expected) in [
            (&simple, &[1, 2][..], &[][..]),
            (&simple, &[3], &[1, 2]),
            (&joint, &[1, 2, 3, 4], &[]),
            (&joint, &[3, 4], &[1, 2]),
            (&joint, &[3], &[1, 2, 4, 5]),
            (&Configuration::default(), &[], &[]),
        ] {
            let missed = missed(configuration, |store| present.contains(&store));
            assert_eq!(missed, expected.iter().copied().collect(), "{present:?}");
        }
    }
}
