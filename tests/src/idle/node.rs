//! One node: its claims, its replicas, its disk, and the two threads its replicas live on.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use synod_consensus::claims::{Asked, Beat, Claims, ClaimsOptions, News};
use synod_consensus::{
    CheckedOptions, Claim, Configuration, Group, GroupId, LogIndex, LogStore, MemoryStore, Message,
    PersistToken, ReplicaId, ReplicaKey, Restored, Write,
};

/// Threads that replicas live on; a group's number says on which.
pub(super) const ARBITERS: u64 = 2;

/// What comes to a node.
#[derive(Clone, Debug)]
pub(super) enum Input {
    Beat {
        from: u64,
        beat: Beat,
    },
    News {
        from: u64,
        news: News,
    },
    Time,
    /// Its disk has done a write of a replica.
    Written(Writing),
    Replica {
        group: GroupId,
        what: Word,
    },
}

/// A write that is under way.
#[derive(Clone, Debug)]
pub(super) struct Writing {
    pub(super) group: GroupId,
    /// [`Replica::serial`] of who asked for it: the writes of one that stopped are lost.
    pub(super) of: u64,
    pub(super) token: PersistToken,
    pub(super) writes: Vec<Write>,
}

/// What comes to one replica; it waits while the replica's thread is stuck.
#[derive(Clone, Debug)]
pub(super) enum Word {
    Raft(Message),
    Tick,
    Persisted(PersistToken),
    Ask(Asked),
    Taken(Claim, ReplicaId),
    Rouse(ReplicaId),
    Silent(ReplicaId, ReplicaId),
}

#[derive(Debug)]
pub(super) struct Replica {
    pub(super) group: Group,
    /// Counts the replicas that its node ever started.
    pub(super) serial: u64,
    /// For when its timer is set, by the node's clock.
    pub(super) alarm: Option<Duration>,
    /// Of all entries.
    pub(super) applied: LogIndex,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) number: u64,
    /// Counts its starts.
    pub(super) life: u64,
    /// When the world began its clock showed this; and by how many millionths it is slow.
    pub(super) offset: Duration,
    pub(super) slow_ppm: u32,
    pub(super) running: bool,
    /// Stopped, with everything it has in memory; what comes meanwhile waits here.
    pub(super) paused: Option<VecDeque<Input>>,
    /// The same of one thread.
    pub(super) stuck: [Option<VecDeque<(GroupId, Word)>>; ARBITERS as usize],
    pub(super) claims: Claims,
    pub(super) replicas: BTreeMap<GroupId, Replica>,
    /// Groups whose replica here stopped, until it is mended.
    pub(super) dead: Vec<GroupId>,
    /// Groups of which it got a learner after they were born.
    pub(super) allotted: Vec<GroupId>,
    /// Groups that it belongs to no more.
    pub(super) retired: Vec<GroupId>,
    pub(super) disk: MemoryStore,
    /// When the disk has done the sync that is under way, and the one after it, which serves all writes that came meanwhile.
    syncs: [Duration; 2],
    /// It hangs: what it was given waits here.
    pub(super) hung: Option<VecDeque<Writing>>,
    hosted: u64,
}

pub(super) fn replica_of(node: u64, group: GroupId) -> ReplicaId {
    ReplicaId::new((node << 32) | (group.get() + 1))
}

pub(super) fn key_of(node: u64, group: GroupId) -> ReplicaKey {
    let replica = replica_of(node, group);
    ReplicaKey { group, replica }
}

pub(super) fn node_of(replica: ReplicaId) -> u64 {
    replica.get() >> 32
}

pub(super) fn arbiter_of(group: GroupId) -> usize {
    (group.get() % ARBITERS) as usize
}

impl Node {
    pub(super) fn new(number: u64, offset: Duration, slow_ppm: u32) -> Self {
        Self {
            number,
            life: 0,
            offset,
            slow_ppm,
            running: false,
            paused: None,
            stuck: [const { None }; ARBITERS as usize],
            claims: Claims::new(ClaimsOptions::default(), 0),
            replicas: BTreeMap::new(),
            dead: Vec::new(),
            allotted: Vec::new(),
            retired: Vec::new(),
            disk: MemoryStore::new(),
            syncs: [Duration::ZERO; 2],
            hung: None,
            hosted: 0,
        }
    }

    /// What its clock shows.
    pub(super) fn clock(&self, now: Duration) -> Duration {
        self.offset + now * (1_000_000 - self.slow_ppm) / 1_000_000
    }

    /// When its clock will show that.
    pub(super) fn when(&self, shown: Duration) -> Duration {
        let passed = shown.saturating_sub(self.offset);
        passed * 1_000_000 / (1_000_000 - self.slow_ppm) + Duration::from_nanos(2)
    }

    /// Starts with what is on its disk.
    pub(super) fn start(
        &mut self,
        now: Duration,
        options: &CheckedOptions,
        claims: ClaimsOptions,
        groups: &BTreeMap<GroupId, Configuration>,
    ) {
        self.life += 1;
        self.running = true;
        self.paused = None;
        self.stuck = [const { None }; ARBITERS as usize];
        self.claims = Claims::new(claims, self.life);
        self.replicas.clear();
        for (group, born) in groups {
            if !self.dead.contains(group) {
                self.host(now, options, *group, born);
            }
        }
    }

    /// Starts the replica of a group that was born with these voters, if there is to be one here.
    pub(super) fn host(
        &mut self,
        now: Duration,
        options: &CheckedOptions,
        group: GroupId,
        born: &Configuration,
    ) {
        let key = key_of(self.number, group);
        let is_founder = born.contains(key.replica);
        let belongs = is_founder || self.allotted.contains(&group);
        if !belongs || self.retired.contains(&group) || self.replicas.contains_key(&group) {
            return;
        }
        let restored = match self.disk.recover(key).expect("memory does not fail") {
            Some(recovered) => Restored::after_restart(recovered, None),
            None if is_founder => Restored::founding(born.clone()),
            None => Restored::newcomer(),
        };
        let restored = Restored {
            state: restored.base.clone(),
            ..restored
        };
        self.hosted += 1;
        let seed = (self.number << 40) ^ (self.life << 20) ^ group.get();
        let shown = self.clock(now);
        let machine = Group::new(options.clone(), group, key.replica, restored, seed, shown)
            .expect("a disk that keeps its order");
        self.replicas.insert(
            group,
            Replica {
                group: machine,
                serial: self.hosted,
                alarm: None,
                applied: LogIndex::ZERO,
            },
        );
    }

    /// Everything that is not on disk is lost.
    pub(super) fn crash(&mut self) {
        self.running = false;
        self.paused = None;
        self.replicas.clear();
        // A disk may hang for longer than a process lives.
        self.hung.iter_mut().for_each(VecDeque::clear);
    }

    /// When a write that is asked for now will be done; `takes` is drawn for each sync.
    pub(super) fn done_at(&mut self, now: Duration, takes: impl FnOnce() -> Duration) -> Duration {
        let [present, next] = self.syncs;
        self.syncs = if now >= next {
            [now + takes(); 2]
        } else if now >= present || present == next {
            [next, next + takes()]
        } else {
            [present, next]
        };
        self.syncs[1]
    }

    pub(super) fn is_running(&self) -> bool {
        self.running && self.paused.is_none()
    }
}
