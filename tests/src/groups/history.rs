//! What happened in the whole world so far, and what may not follow from it: the invariants between replicas.
//!
//! Each is checked where it could first break, in constant time, so that every step of every run is held against all of them.

use std::collections::{BTreeMap, HashMap};

use synod_consensus::{Configuration, LogIndex, ReplicaId, Term, Write};

use super::machine::chained;
use super::model::{Model, digest};
use crate::coverage::Coverage;
use crate::violation::{Violation, broken};

/// Which invariants count. A negative control looks for one and lets the others pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Judged {
    All,
    Only(&'static str),
}

/// What is known of one committed entry.
#[derive(Clone, Copy, Debug)]
struct Committed {
    term: Term,
    content: u64,
    /// Of it and all before it.
    chain: u64,
    /// In which leader's term it was committed.
    decided_in: Term,
}

#[derive(Debug)]
pub(crate) struct History {
    judged: Judged,
    leaders: HashMap<Term, ReplicaId>,
    last_leader: Option<ReplicaId>,
    /// Digest and predecessor's term of every entry that any log ever held.
    entries: HashMap<(LogIndex, Term), (u64, Term)>,
    /// Everything committed, from index 1 on.
    committed: Vec<Committed>,
    /// Where acknowledged commands are.
    acknowledged: BTreeMap<LogIndex, u64>,
    commands: HashMap<u64, LogIndex>,
    /// What the next read or command must at least see.
    pub(crate) floor: LogIndex,
}

impl History {
    pub(crate) fn new(judged: Judged) -> Self {
        Self {
            judged,
            leaders: HashMap::new(),
            last_leader: None,
            entries: HashMap::new(),
            committed: Vec::new(),
            acknowledged: BTreeMap::new(),
            commands: HashMap::new(),
            floor: LogIndex::ZERO,
        }
    }

    /// Lets a violation pass that this run does not look for.
    pub(crate) fn judge(&self, result: Result<(), Violation>) -> Result<(), Violation> {
        match (self.judged, result) {
            (Judged::Only(name), Err(violation)) if violation.invariant != name => Ok(()),
            (_, result) => result,
        }
    }

    pub(crate) fn forgives(&self) -> bool {
        self.judged != Judged::All
    }

    pub(crate) fn committed(&self) -> LogIndex {
        LogIndex::new(self.committed.len() as u64)
    }

    fn committed_at(&self, index: LogIndex) -> Option<Committed> {
        self.committed
            .get(usize::try_from(index.get().checked_sub(1)?).ok()?)
            .copied()
    }

    /// A replica asks its disk for `writes`; `log` is what it asked for before.
    pub(crate) fn asked(
        &mut self,
        replica: ReplicaId,
        log: &Model,
        write: &Write,
    ) -> Result<(), Violation> {
        let Write::Append(entries) = write else {
            return Ok(());
        };
        let Some(first) = entries.first() else {
            return Ok(());
        };
        let mut before = log.term_at(first.index.previous());
        for entry in entries {
            let Some(predecessor) = before else {
                return self.judge(broken(
                    "Log Matching",
                    format!("{replica} appends {} after a hole", entry.position()),
                ));
            };
            let named = self
                .entries
                .entry((entry.index, entry.term))
                .or_insert((digest(entry), predecessor));
            if *named != (digest(entry), predecessor) {
                return self.judge(broken(
                    "Log Matching",
                    format!("{replica} holds another entry at {}", entry.position()),
                ));
            }
            before = Some(entry.term);
        }
        // A replica that holds a committed entry never gives it up.
        for entry in entries
            .iter()
            .take_while(|entry| entry.index <= self.committed())
        {
            let Committed { term, content, .. } =
                self.committed_at(entry.index).expect("up to there");
            if log.at(entry.index) == Some((term, content))
                && (entry.term, digest(entry)) != (term, content)
            {
                let detail = format!(
                    "{replica} replaces committed entry {} by one of term {}",
                    entry.index, entry.term
                );
                return self.judge(broken("State Machine Safety", detail));
            }
        }
        Ok(())
    }

    /// A replica leads.
    pub(crate) fn leads(
        &mut self,
        replica: ReplicaId,
        term: Term,
        log: &Model,
        coverage: &mut Coverage,
    ) -> Result<(), Violation> {
        match self.leaders.insert(term, replica) {
            Some(other) if other != replica => {
                self.judge(broken(
                    "Election Safety",
                    format!("{other} and {replica} both lead term {term}"),
                ))?;
            }
            Some(_) => return Ok(()),
            None => {
                coverage.count("elections");
                let before = self.last_leader.replace(replica);
                if before.is_some_and(|before| before != replica) {
                    coverage.count("leader_changed");
                }
            }
        }
        // What was committed in an earlier term, that is: a vote that comes late makes a leader of a term that a later one has passed.
        let earlier = |entry: &Committed| entry.decided_in < term;
        let known = self.committed.partition_point(earlier) as u64;
        let missing = (log.base.index.next().get()..=known)
            .map(LogIndex::new)
            .find(|index| {
                let entry = self.committed_at(*index).expect("up to there");
                log.at(*index) != Some((entry.term, entry.content))
            });
        if let Some(index) = missing {
            self.judge(broken(
                "Leader Completeness",
                format!("{replica} leads term {term} without committed entry {index}"),
            ))?;
        }
        Ok(())
    }

    /// A replica takes everything through `index` as committed. `durable` says whether a replica's disk covers an entry. The last
    /// configuration in `log` decides, and, of a leader, the one that was the last before this step: what commits a joint
    /// configuration may append the one that leaves it, and was yet decided by both halves.
    pub(crate) fn commits(
        &mut self,
        replica: ReplicaId,
        from: LogIndex,
        index: LogIndex,
        log: &Model,
        before: Option<&Configuration>,
        durable: impl Fn(ReplicaId, LogIndex, Term) -> bool,
    ) -> Result<(), Violation> {
        let known_before = self.committed();
        for at in (from.get().max(log.base.index.get()) + 1..=index.get()).map(LogIndex::new) {
            let Some((term, content)) = log.at(at) else {
                return self.judge(broken(
                    "State Machine Safety",
                    format!("{replica} commits {at} without having it"),
                ));
            };
            if let Some(known) = self.committed_at(at) {
                if (known.term, known.content) != (term, content) {
                    let detail = format!(
                        "{replica} commits {at} of term {term}, but it is of term {}",
                        known.term
                    );
                    return self.judge(broken("State Machine Safety", detail));
                }
            } else if at == self.committed().next() {
                let last = self.committed.last();
                let chain = chained(last.map_or(0, |last| last.chain), term.get(), content);
                // The last entry of a commit is of its leader's own term (Raft paper 5.4.2).
                let decided = log.at(index).map_or(term, |(term, _)| term);
                let decided_in = decided.max(last.map_or(Term::ZERO, |last| last.decided_in));
                self.committed.push(Committed {
                    term,
                    content,
                    chain,
                    decided_in,
                });
            } else {
                return self.judge(broken(
                    "State Machine Safety",
                    format!("{replica} commits {at} before what lies below"),
                ));
            }
        }
        let Some(term) = log.term_at(index) else {
            return Ok(());
        };
        if index > known_before {
            let (_, now) = log.configuration();
            let before = before.filter(|before| *before != now);
            let in_force = before.into_iter().chain([now]);
            for half in in_force.flat_map(|it| [&it.voters, &it.outgoing]) {
                let holding = half
                    .iter()
                    .filter(|voter| durable(**voter, index, term))
                    .count();
                if 2 * holding <= half.len() && !half.is_empty() {
                    let detail = format!(
                        "{replica} commits {index}, which {holding} of {half:?} have on disk"
                    );
                    return self.judge(broken("Committed Is Durable", detail));
                }
            }
        }
        Ok(())
    }

    /// A replica's state covers everything through `index`, with this chain.
    pub(crate) fn applied(
        &self,
        replica: ReplicaId,
        index: LogIndex,
        chain: u64,
    ) -> Result<(), Violation> {
        match self.committed_at(index) {
            Some(known) if known.chain == chain => Ok(()),
            None if index == LogIndex::ZERO => Ok(()),
            known => self.judge(broken(
                "State Machine Safety",
                format!(
                    "{replica} applied another history through {index} (known: {})",
                    known.is_some()
                ),
            )),
        }
    }

    /// A replica applies command `id` at `index`.
    pub(crate) fn applies(
        &mut self,
        replica: ReplicaId,
        index: LogIndex,
        id: Option<u64>,
    ) -> Result<(), Violation> {
        if let Some(there) = self.acknowledged.get(&index)
            && Some(*there) != id
        {
            let detail = format!(
                "{replica} applies {id:?} at {index}, where command {there} was acknowledged"
            );
            return self.judge(broken("Acknowledged Commands", detail));
        }
        let Some(id) = id else { return Ok(()) };
        let at = *self.commands.entry(id).or_insert(index);
        if at != index {
            let detail =
                format!("{replica} applies command {id} at {index}, but it was applied at {at}");
            return self.judge(broken("Acknowledged Commands", detail));
        }
        Ok(())
    }

    /// A client is told that command `id`, proposed when `floor` was the floor, took effect at `index`.
    pub(crate) fn acknowledge(
        &mut self,
        id: u64,
        index: LogIndex,
        floor: LogIndex,
    ) -> Result<(), Violation> {
        if index <= floor {
            self.judge(broken(
                "Linearizable Reads",
                format!("command {id} took effect at {index}, before {floor}"),
            ))?;
        }
        self.acknowledged.insert(index, id);
        self.floor = self.floor.max(index);
        Ok(())
    }

    /// A client is told that a read, asked when `floor` was the floor, saw the state of `seen`.
    pub(crate) fn read(&mut self, seen: LogIndex, floor: LogIndex) -> Result<(), Violation> {
        if seen < floor {
            self.judge(broken(
                "Linearizable Reads",
                format!("a read saw {seen}, but {floor} was seen before it was asked"),
            ))?;
        }
        self.floor = self.floor.max(seen);
        Ok(())
    }

    /// A leader of `term` beside others answers a read without asking anybody.
    pub(crate) fn leased(&self, replica: ReplicaId, term: Term) -> Result<(), Violation> {
        match self.leaders.iter().max() {
            Some((later, other)) if *later > term => self.judge(broken(
                "One Lease",
                format!(
                    "{replica} reads by its lease in term {term}, {other} was elected in {later}"
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Where a command took effect, if it did.
    pub(crate) fn place(&self, id: u64) -> Option<LogIndex> {
        self.commands.get(&id).copied()
    }

    /// At the end, a leader's state must cover everything acknowledged.
    pub(crate) fn last_acknowledged(&self) -> LogIndex {
        self.acknowledged
            .last_key_value()
            .map_or(LogIndex::ZERO, |(index, _)| *index)
    }
}
