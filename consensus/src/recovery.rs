//! How a group goes on when its majority is gone for good: what its surviving replicas hold, and who of them decides from now on.
//!
//! Here: [`assess`], a pure look at every replica that survived, and [`Recovery`], what must be written so that one of them decides
//! alone. Not here: the operator's word that the others will never come back, the stores, the order of writes over several of them
//! (all in `synod`). Nothing calls this by itself: it gives up what only the lost disks held.
//!
//! Who is chosen: the best log by the rule of elections (Raft paper 5.4.1), but only among those that hold *every* entry which some
//! survivor knows to be committed. The second half is needed because the rule alone rests on the majority that is gone: a log can
//! end in a later term and yet lack an entry of an earlier one that was committed afterwards (Raft paper, figure 8).
//!
//! Why everybody gets a new replica id: the lost replicas still count the old ids as voters. Should they run again, whatever they say
//! is addressed to replicas that do not exist any more, so they can neither elect one of the survivors, nor be elected by one, nor
//! overwrite its log. What no id can prevent: a majority of the old configuration that runs again goes on by itself, with the old
//! history. Who declares a disk lost must see to it that it stays lost.

use core::cmp::Reverse;
use core::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::RestoreError;
use crate::quorum::{self, Verdict};
use crate::storage::{HardState, Write};
use crate::{
    Configuration, Entry, EntryKind, Group, GroupId, GroupOptions, LogIndex, Members, Position,
    ReplicaId, Restored, SnapshotMeta, Term,
};

/// A replica whose disk is there, exactly as a restart would find it.
#[derive(Debug)]
pub struct Survivor(Group);

impl Survivor {
    /// Reads what the disk holds; refuses what [`Group::new`] refuses.
    pub fn new(
        group: GroupId,
        replica: ReplicaId,
        restored: Restored,
    ) -> Result<Self, RestoreError> {
        let options = GroupOptions::default()
            .check()
            .expect("the defaults hang together");
        // Chance and time matter to nothing that is asked of it here.
        Group::new(options, group, replica, restored, 0, Duration::ZERO).map(Self)
    }

    /// Its id.
    pub fn replica(&self) -> ReplicaId {
        self.0.me
    }

    /// The last entry of its log.
    pub fn last(&self) -> Position {
        self.0.last()
    }

    /// The effective configuration: the last one in its log.
    pub fn configuration(&self) -> &Configuration {
        self.0.configuration()
    }

    /// The last entry that it knows to be committed.
    pub fn committed(&self) -> Position {
        let index = self.0.committed.max(self.0.log.base().index);
        let term = self.0.log.term_at(index);
        Position::new(term.expect("a sound log holds what is committed"), index)
    }

    /// Whether it holds anything of the group: a newcomer that heard nothing yet does not.
    pub fn holds_anything(&self) -> bool {
        self.last() > Position::ZERO || !self.configuration().voters.is_empty()
    }

    /// Everything in its log that is not compacted. Their payloads share its memory.
    pub fn entries(&self) -> Vec<Entry> {
        self.0.log.entries().cloned().collect()
    }

    fn base(&self) -> SnapshotMeta {
        let log = &self.0.log;
        log.meta_at(log.base().index)
            .expect("a log knows its beginning")
    }

    /// Whether its log holds this entry, as far as that can be told: what is compacted was committed, and so was `position`.
    fn holds_committed(&self, position: Position) -> bool {
        position.index < self.0.log.base().index || self.0.log.holds(position)
    }

    /// The last entry that the chosen log is known to hold too. Below what it has compacted nobody can compare; there this one counts
    /// only what it knows to be committed, which the chosen one holds.
    fn agrees_with(&self, chosen: &Self) -> Position {
        let (mine, theirs) = (&self.0.log, &chosen.0.log);
        let mut index = mine.last_index().min(theirs.last_index());
        while let (Some(term), Some(other)) = (mine.term_at(index), theirs.term_at(index)) {
            if term == other {
                return Position::new(term, index);
            }
            index = index.previous();
        }
        self.committed()
    }
}

/// How a group stands without the replicas that are lost.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outlook {
    /// It can still elect a leader, such as this one. Nothing may be done to it.
    Lives {
        /// A survivor that the others would elect.
        heir: ReplicaId,
    },
    /// It can never elect one again.
    Stuck(Recovery),
    /// No survivor holds anything of it.
    Gone,
}

/// Two survivors each hold something committed that the other's log contradicts. No group that was left to itself comes to that: a
/// disk was exchanged, or given back after it was declared lost.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the surviving replicas of group {group} contradict each other about what was committed, so they are not of one history"
)]
pub struct Contradiction {
    /// The group.
    pub group: GroupId,
}

/// What becomes of a group whose survivors go on without the others.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Recovery {
    /// The survivor that decides from now on.
    pub chosen: ReplicaId,
    /// The configuration that was effective at the chosen one; its voters that are not among the survivors are lost.
    pub before: Configuration,
    /// Term of the new configuration: above every term that a survivor has seen.
    pub term: Term,
    /// The last entry that some survivor knows to be committed. The chosen one holds it.
    pub committed: Position,
    /// The last entry of the chosen one. What lies behind `committed` will be committed now, whatever became of it before.
    pub last: Position,
    /// The other survivors. They go on as learners.
    pub others: Vec<Other>,
}

/// A survivor that was not chosen.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Other {
    /// Its old id.
    pub replica: ReplicaId,
    /// The last entry of its log.
    pub last: Position,
    /// The last entry that the chosen one holds too. What it has behind that was never committed and goes.
    pub agrees: Position,
}

/// Looks at every survivor of a group. Deterministic: the order of the survivors does not matter.
pub fn assess(group: GroupId, survivors: &[Survivor]) -> Result<Outlook, Contradiction> {
    if let Some(heir) = heir(survivors) {
        return Ok(Outlook::Lives { heir });
    }
    Ok(reform(group, survivors)?.map_or(Outlook::Gone, Outlook::Stuck))
}

/// A survivor that the others would elect, if there is one.
pub fn heir(survivors: &[Survivor]) -> Option<ReplicaId> {
    survivors
        .iter()
        .filter(|candidate| candidate.holds_anything() && can_win(candidate, survivors))
        .max_by_key(|candidate| rank(candidate))
        .map(Survivor::replica)
}

/// How the survivors go on without the others; `None` when they hold nothing of the group. Of a group that could elect a leader
/// nothing that was committed is lost by it: whoever could be elected holds all of that, and no chosen log is worse.
pub fn reform(group: GroupId, survivors: &[Survivor]) -> Result<Option<Recovery>, Contradiction> {
    let holders: Vec<&Survivor> = survivors
        .iter()
        .filter(|survivor| survivor.holds_anything())
        .collect();
    let Some(committed) = holders
        .iter()
        .map(|survivor| survivor.committed())
        .max_by_key(|position| position.index)
    else {
        return Ok(None);
    };
    let whole = |candidate: &&&Survivor| {
        holders
            .iter()
            .all(|other| candidate.holds_committed(other.committed()))
    };
    let chosen = holders
        .iter()
        .filter(whole)
        .max_by_key(|candidate| rank(candidate))
        .ok_or(Contradiction { group })?;
    let seen = survivors
        .iter()
        .map(|survivor| survivor.0.term)
        .max()
        .unwrap_or_default();
    let mut others: Vec<Other> = holders
        .iter()
        .filter(|other| other.replica() != chosen.replica())
        .map(|other| Other {
            replica: other.replica(),
            last: other.last(),
            agrees: other.agrees_with(chosen),
        })
        .collect();
    others.sort_by_key(|other| other.replica);
    Ok(Some(Recovery {
        chosen: chosen.replica(),
        before: chosen.configuration().clone(),
        term: seen.next(),
        committed,
        last: chosen.last(),
        others,
    }))
}

/// The rule of elections; what more is committed, and then the lower id, only make the choice the same everywhere.
fn rank(survivor: &Survivor) -> (Position, LogIndex, Reverse<ReplicaId>) {
    let committed = survivor.committed().index;
    (survivor.last(), committed, Reverse(survivor.replica()))
}

/// Whether the survivors would elect this one under the configuration that its log ends with.
fn can_win(candidate: &Survivor, survivors: &[Survivor]) -> bool {
    let votes: Vec<(ReplicaId, bool)> = survivors
        .iter()
        .filter(|voter| voter.last() <= candidate.last())
        .map(|voter| (voter.replica(), true))
        .collect();
    candidate.0.may_campaign()
        && quorum::verdict(candidate.configuration(), &votes, None) == Verdict::Won
}

impl Recovery {
    /// Old voters, of either half, that are not among the survivors.
    pub fn missing(&self) -> Members {
        let voters = self.before.voters.union(&self.before.outgoing);
        let survives = |replica: &ReplicaId| {
            *replica == self.chosen || self.others.iter().any(|other| other.replica == *replica)
        };
        voters
            .into_iter()
            .filter(|replica| !survives(replica))
            .collect()
    }

    /// Entries of the chosen one that nobody left knows to be committed. They will be.
    pub fn undecided(&self) -> u64 {
        self.committed
            .index
            .entries_until(self.last.index)
            .unwrap_or(0)
    }

    /// The configuration from now on. `renamed` gives every survivor its new id.
    pub fn configuration(&self, renamed: impl Fn(ReplicaId) -> ReplicaId) -> Configuration {
        Configuration {
            voters: [renamed(self.chosen)].into(),
            learners: self
                .others
                .iter()
                .map(|other| renamed(other.replica))
                .collect(),
            ..Configuration::default()
        }
    }

    /// The first writes of a survivor under its new id: an ordinary log, as if the chosen one had led a term in which it made itself
    /// the only voter and then appended `payloads`. The others get the part of their logs that the chosen one holds too; the rest
    /// comes from their new leader.
    ///
    /// The state that the survivor's log begins after must be durable under the new id before these writes are (E28).
    pub fn writes(
        &self,
        survivor: &Survivor,
        renamed: impl Fn(ReplicaId) -> ReplicaId,
        payloads: impl IntoIterator<Item = Bytes>,
    ) -> Vec<Write> {
        let mut entries = survivor.entries();
        if survivor.replica() == self.chosen {
            let configuration = (
                EntryKind::Configuration,
                self.configuration(&renamed).encode(),
            );
            let payloads = payloads
                .into_iter()
                .map(|payload| (EntryKind::Normal, payload));
            let mut index = self.last.index;
            for (kind, payload) in core::iter::once(configuration).chain(payloads) {
                index = index.next();
                entries.push(Entry {
                    term: self.term,
                    index,
                    kind,
                    payload,
                });
            }
        } else {
            let agrees = self
                .others
                .iter()
                .find(|other| other.replica == survivor.replica())
                .map_or(survivor.committed().index, |other| other.agrees.index);
            entries.retain(|entry| entry.index <= agrees);
        }
        let hard_state = HardState {
            term: self.term,
            vote: Some(renamed(self.chosen)),
            commit: survivor.committed().index,
        };
        let mut writes = vec![
            Write::Reset {
                to: survivor.base(),
            },
            Write::HardState(hard_state),
        ];
        if !entries.is_empty() {
            writes.push(Write::Append(entries.into()));
        }
        writes
    }
}
