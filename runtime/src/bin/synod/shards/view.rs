//! One view of every group, from what each node says of its own replicas.
//!
//! A group's leader knows most of it; of several that call themselves leader, the one of the highest term is. Without one, what the others
//! say tells why. Not here: asking (`shards`), drawing (`draw`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use synod::node::{HostedShards, MoveStatus, ReplicaStatus};

use crate::options::State;

/// A cluster's shards, as its nodes describe them.
#[derive(Debug, Default, Serialize)]
pub(super) struct View {
    /// Names of the nodes that answered.
    pub(super) nodes: Vec<String>,
    /// Names of the members that did not.
    pub(super) silent: Vec<String>,
    /// The system group, then the shards in the order of their numbers.
    pub(super) groups: Vec<Group>,
    /// Moves that the system leader knows of; `None` when it did not answer.
    pub(super) moves: Option<Vec<Move>>,
}

/// One group.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    /// The shard's number; `None`: the system group.
    pub(super) shard: Option<u32>,
    pub(super) state: State,
    /// Why it is so, or what else is odd.
    pub(super) why: Option<String>,
    /// Name of the node that leads it.
    pub(super) leader: Option<String>,
    /// Of the leader, else the highest that a replica knows.
    pub(super) term: u64,
    /// Index that the leader, else any replica, has applied.
    pub(super) applied: u64,
    /// Bytes of log and state of one replica, the leader's if there is one.
    pub(super) bytes: u64,
    pub(super) replicas: Vec<Replica>,
    /// Names of the nodes that should hold it.
    pub(super) goal: Vec<String>,
}

/// One replica of a group.
#[derive(Debug, Serialize)]
pub(super) struct Replica {
    /// Name of its node.
    pub(super) node: String,
    pub(super) votes: bool,
    /// Entries that it lacks, as the leader knows; `None` when it does not answer the leader or there is none.
    pub(super) lag: Option<u64>,
    /// It fetches a snapshot.
    pub(super) fetches: bool,
}

/// A move, with names.
#[derive(Debug, Serialize)]
pub(super) struct Move {
    /// The shard's number; `None`: the system group.
    pub(super) shard: Option<u32>,
    pub(super) from: Vec<String>,
    pub(super) to: Vec<String>,
    pub(super) begun_ms_ago: u64,
    pub(super) caught_up_after_ms: Option<u64>,
    pub(super) ended_after_ms: Option<u64>,
    pub(super) given_up: Option<String>,
}

/// What is known of a cluster besides what nodes say of their replicas.
#[derive(Debug)]
pub(super) struct Known<'a> {
    /// Members' names by store.
    pub(super) names: &'a BTreeMap<u64, String>,
    /// Stores that hold each shard, by the routing table.
    pub(super) holders: &'a [Vec<u64>],
}

/// Puts together what the nodes said.
pub(super) fn compose(known: &Known<'_>, hosted: &[HostedShards]) -> View {
    let mut said: BTreeMap<u64, Vec<(u64, &ReplicaStatus)>> = BTreeMap::new();
    for node in hosted {
        for replica in &node.replicas {
            let of = said.entry(replica.group).or_default();
            of.push((node.store, replica));
        }
    }
    let count = known.holders.len() as u64;
    let groups = (0..=count).map(|group| {
        let replicas = said.get(&group).map_or(&[][..], Vec::as_slice);
        let look = Look {
            known,
            hosted,
            group,
            said: replicas,
        };
        look.group()
    });
    let groups = groups.collect();
    let answered: BTreeSet<u64> = hosted.iter().map(|node| node.store).collect();
    let silent = known.names.iter();
    let silent = silent.filter(|(store, _)| !answered.contains(store));
    let moves = hosted.iter().find_map(|node| node.moves.as_ref());
    View {
        nodes: hosted.iter().map(|node| node.name.clone()).collect(),
        silent: silent.map(|(_, name)| name.clone()).collect(),
        groups,
        moves: moves.map(|moves| moves.iter().map(|one| known.named(one)).collect()),
    }
}

impl Known<'_> {
    fn name(&self, store: u64) -> String {
        let known = self.names.get(&store).cloned();
        known.unwrap_or_else(|| format!("store {store}"))
    }

    fn names_of<'s>(&self, stores: impl IntoIterator<Item = &'s u64>) -> Vec<String> {
        stores.into_iter().map(|store| self.name(*store)).collect()
    }

    fn named(&self, one: &MoveStatus) -> Move {
        Move {
            shard: shard_of(one.group),
            from: self.names_of(&one.from),
            to: self.names_of(&one.to),
            begun_ms_ago: one.begun_ms_ago,
            caught_up_after_ms: one.caught_up_after_ms,
            ended_after_ms: one.ended_after_ms,
            given_up: one.given_up.clone(),
        }
    }
}

/// Group 0 is the system group; shard n is group n + 1.
fn shard_of(group: u64) -> Option<u32> {
    group.checked_sub(1).map(|shard| shard as u32)
}

/// One group, and everything that was said of it.
struct Look<'a> {
    known: &'a Known<'a>,
    hosted: &'a [HostedShards],
    group: u64,
    said: &'a [(u64, &'a ReplicaStatus)],
}

impl Look<'_> {
    fn group(&self) -> Group {
        let leaders = self.said.iter().filter(|(_, known)| known.role == "leader");
        match leaders.max_by_key(|(_, known)| known.term) {
            Some((store, leader)) => self.led(*store, leader),
            None => self.unled(),
        }
    }

    fn led(&self, store: u64, leader: &ReplicaStatus) -> Group {
        let voters: BTreeSet<u64> = leader.voters.iter().copied().collect();
        let mut present = voters.clone();
        present.extend(leader.outgoing.iter().chain(&leader.learners));
        let goal: BTreeSet<u64> = leader.goal.iter().copied().collect();
        let mut moves: Vec<String> = Vec::new();
        for to in goal.difference(&present) {
            moves.push(format!("{} is to get a copy", self.known.name(*to)));
        }
        for from in present.difference(&goal) {
            moves.push(format!("{} is to give its copy up", self.known.name(*from)));
        }
        if !leader.outgoing.is_empty() {
            moves.push("its voters change".to_owned());
        }
        if let Some(to) = leader.hands_over_to {
            moves.push(format!("leadership goes to {}", self.known.name(to)));
        }
        let mut odd: Vec<String> = Vec::new();
        let replicas = present.iter().map(|of| {
            let peer = leader.peers.iter().find(|peer| peer.store == *of);
            let (lag, fetches) = match peer {
                _ if *of == store => (Some(0), false),
                Some(peer) => (peer.answers.then_some(peer.lag), peer.fetches),
                None => (None, false),
            };
            if lag.is_none() {
                odd.push(format!("{} does not answer", self.known.name(*of)));
            }
            Replica {
                node: self.known.name(*of),
                votes: voters.contains(of),
                lag,
                fetches,
            }
        });
        let replicas: Vec<Replica> = replicas.collect();
        let waits = !leader.serves && leader.hands_over_to.is_none();
        let state = match (waits, moves.is_empty()) {
            (true, _) => State::Leaderless,
            (false, false) => State::Moving,
            (false, true) => State::Serving,
        };
        if waits {
            let name = self.known.name(store);
            moves.insert(0, format!("{name} was elected and does not serve yet"));
        }
        moves.append(&mut odd);
        Group {
            shard: shard_of(self.group),
            state,
            why: (!moves.is_empty()).then(|| moves.join(", ")),
            leader: (!waits).then(|| self.known.name(store)),
            term: leader.term,
            applied: leader.applied,
            bytes: leader.log_bytes + leader.state_bytes,
            replicas,
            goal: self.known.names_of(&leader.goal),
        }
    }

    fn unled(&self) -> Group {
        let newest = self.said.iter().map(|(_, known)| *known);
        let newest = newest.max_by_key(|known| (known.term, known.last));
        let listed = shard_of(self.group).and_then(|shard| self.known.holders.get(shard as usize));
        let stores: Vec<u64> = match newest {
            Some(known) if !known.voters.is_empty() => {
                let all = known.voters.iter().chain(&known.outgoing);
                let all = all.chain(&known.learners).copied();
                all.collect::<BTreeSet<u64>>().into_iter().collect()
            }
            _ => listed.cloned().unwrap_or_default(),
        };
        let votes = |store: &u64| newest.is_none_or(|known| known.voters.contains(store));
        let replicas = stores.iter().map(|store| Replica {
            node: self.known.name(*store),
            votes: votes(store),
            lag: None,
            fetches: false,
        });
        Group {
            shard: shard_of(self.group),
            state: State::Leaderless,
            why: Some(self.why_unled(newest, &stores)),
            leader: None,
            term: newest.map_or(0, |known| known.term),
            applied: self
                .said
                .iter()
                .map(|(_, known)| known.applied)
                .max()
                .unwrap_or(0),
            bytes: newest.map_or(0, |known| known.log_bytes + known.state_bytes),
            replicas: replicas.collect(),
            goal: newest.map_or_else(Vec::new, |known| self.known.names_of(&known.goal)),
        }
    }

    fn why_unled(&self, newest: Option<&ReplicaStatus>, stores: &[u64]) -> String {
        let Some(newest) = newest else {
            let names: Vec<String> = stores
                .iter()
                .map(|store| self.with_reason(*store))
                .collect();
            return match names.is_empty() {
                true => "no node that answers knows where it is".to_owned(),
                false => format!("nobody answers for it: {}", names.join(", ")),
            };
        };
        for half in [&newest.voters, &newest.outgoing] {
            let missing: Vec<u64> = half
                .iter()
                .copied()
                .filter(|of| !self.speaks(*of))
                .collect();
            if !half.is_empty() && (half.len() - missing.len()) * 2 <= half.len() {
                let named: Vec<String> = missing.iter().map(|of| self.with_reason(*of)).collect();
                return format!("no majority without {}", named.join(", "));
            }
        }
        let follows = self.said.iter().find(|(_, known)| {
            known.term == newest.term && known.leader.is_some_and(|leader| !self.speaks(leader))
        });
        if let Some((by, known)) = follows {
            let leader = known.leader.expect("looked for above");
            return format!(
                "{} leads it, says {}, but was not heard here",
                self.with_reason(leader),
                self.known.name(*by)
            );
        }
        match self.said.iter().any(|(_, known)| known.role == "candidate") {
            true => format!("an election is under way in term {}", newest.term),
            false => "its replicas wait for a leader".to_owned(),
        }
    }

    /// Whether a replica on that store described itself.
    fn speaks(&self, store: u64) -> bool {
        self.said.iter().any(|(of, _)| *of == store)
    }

    /// The node's name, and why its replica did not describe itself.
    fn with_reason(&self, store: u64) -> String {
        let name = self.known.name(store);
        let Some(node) = self.hosted.iter().find(|node| node.store == store) else {
            return format!("{name} (does not answer)");
        };
        if node.stopped.contains(&self.group) {
            return format!("{name} (its replica stopped for good)");
        }
        if node.stuck.contains(&self.group) {
            return format!("{name} (its replica is stuck)");
        }
        format!("{name} (has no replica yet)")
    }
}

#[cfg(test)]
mod tests;
