//! Linearizable reads without a log entry.
//!
//! Here: what a read waits for: an entry of the leader's own term committed (H60), then a round of heartbeats begun after the read
//! and answered by a quorum (H61), or a lease (module `lease`), then the state to hold what was committed when it was asked.
//! Not here: the side of a follower that reads by itself (`follower_read`). Source: Ongaro's thesis, 6.4.

use core::time::Duration;
use std::collections::VecDeque;

use crate::error::ReadError;
use crate::group::Group;
use crate::message::Body;
use crate::options::Sabotage;
use crate::output::Output;
use crate::{LogIndex, ReadId, ReplicaId};

/// Who wants to know.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asker {
    /// A caller of this replica.
    Here(ReadId),
    /// A follower, for all its reads through `upto`.
    Follower {
        from: ReplicaId,
        life: u64,
        upto: ReadId,
    },
}

#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) asker: Asker,
    /// A quorum must answer this round or a later one.
    round: u64,
    /// Committed when the read was asked.
    index: LogIndex,
}

/// Reads that a leader has not answered.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// They wait for an entry of this term to be committed (H60).
    unopened: Vec<Asker>,
    /// They wait for a round, in order of round and index.
    waiting: VecDeque<Waiting>,
    /// Of this replica, and confirmed by a round or a lease; they only wait for the state.
    confirmed: VecDeque<(ReadId, LogIndex)>,
}

impl Reads {
    fn len(&self) -> usize {
        self.unopened.len() + self.waiting.len() + self.confirmed.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many wait for the leader's term to be open.
    #[cfg(test)]
    pub(crate) fn unopened(&self) -> usize {
        self.unopened.len()
    }

    /// Those of callers of this replica.
    pub(crate) fn asked_here(self) -> impl Iterator<Item = ReadId> {
        let waiting = self.waiting.into_iter().map(|read| read.asker);
        let confirmed = self.confirmed.into_iter().map(|(id, _)| Asker::Here(id));
        let all = self.unopened.into_iter().chain(waiting).chain(confirmed);
        all.filter_map(|asker| match asker {
            Asker::Here(id) => Some(id),
            Asker::Follower { .. } => None,
        })
    }

    /// A follower that asks again has given up its earlier reads or covers them: it waits once.
    fn wait_for_opening(&mut self, asker: Asker) {
        let Asker::Follower { from, life, upto } = asker else {
            return self.unopened.push(asker);
        };
        let known = self.unopened.iter_mut().find_map(|known| match known {
            Asker::Follower {
                from: f,
                life: l,
                upto,
            } if (*f, *l) == (from, life) => Some(upto),
            Asker::Follower { .. } | Asker::Here(_) => None,
        });
        match known {
            Some(known) => *known = upto.max(*known),
            None => self.unopened.push(asker),
        }
    }
}

impl Group {
    /// Begins a linearizable read: answered by `Output::ReadReady` or `Output::ReadFailed`. The time must have been taken after
    /// the read arrived: a lease counts at that very moment.
    pub fn read(&mut self, now: Duration) -> Result<ReadId, ReadError> {
        self.begin(now);
        let id = self.last_read.next();
        self.begin_read(Asker::Here(id))?;
        self.last_read = id;
        Ok(id)
    }

    pub(crate) fn begin_read(&mut self, asker: Asker) -> Result<(), ReadError> {
        self.stir();
        let open = self.is_open() || self.is_sabotaged(Sabotage::ReadUnopened);
        let leased = open && self.has_lease();
        let Some(leadership) = &mut self.leadership else {
            return Err(ReadError::NotLeader {
                group: self.id,
                leader: self.leader,
            });
        };
        let reads = leadership.reads.get_or_insert_default();
        let waiting = reads.len();
        if waiting >= self.options.waiting_reads {
            return Err(ReadError::Busy {
                group: self.id,
                waiting,
            });
        }
        if !open {
            reads.wait_for_opening(asker);
            return Ok(());
        }
        let index = self.committed;
        if leased {
            match asker {
                Asker::Here(id) => reads.confirmed.push_back((id, index)),
                Asker::Follower { from, life, upto } => {
                    let index = Some(index);
                    self.send(from, Body::ReadAnswer { life, upto, index });
                }
            }
        } else {
            // Any round begun from now on is above the last one.
            let round = leadership.round + 1;
            reads.waiting.push_back(Waiting {
                asker,
                round,
                index,
            });
            leadership.round_wanted = true;
        }
        Ok(())
    }

    /// The leader's own term has committed something: reads that waited for it know their index now.
    pub(crate) fn open_reads(&mut self) {
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        if self.committed < leadership.opening {
            return;
        }
        let Some(reads) = leadership
            .reads
            .as_mut()
            .filter(|reads| !reads.unopened.is_empty())
        else {
            return;
        };
        let (round, index) = (leadership.round + 1, self.committed);
        let opened = reads.unopened.drain(..);
        reads.waiting.extend(opened.map(|asker| Waiting {
            asker,
            round,
            index,
        }));
        leadership.round_wanted = true;
    }

    /// One round serves all reads that came since the last one.
    pub(crate) fn broadcast_for_reads(&mut self) {
        if self
            .leadership
            .as_ref()
            .is_some_and(|leadership| leadership.round_wanted)
        {
            self.broadcast();
        }
    }

    pub(crate) fn answer_reads(&mut self) {
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        let is_empty = |reads: &Reads| reads.waiting.is_empty() && reads.confirmed.is_empty();
        if leadership.reads.as_deref().is_none_or(is_empty) {
            return;
        }
        // Counted afresh each time, so that a smaller configuration answers what a larger one kept waiting (H63).
        let confirmed = match self.options.sabotage {
            Some(Sabotage::ReadUnconfirmed) => u64::MAX,
            _ => leadership.confirmed_round(&self.options).unwrap_or(0),
        };
        let applied = self.applied;
        let mut told = Vec::new();
        let reads = leadership.reads.as_mut().expect("looked at above");
        while let Some(read) = reads.waiting.front()
            && read.round <= confirmed
        {
            match read.asker {
                Asker::Here(id) => reads.confirmed.push_back((id, read.index)),
                // A follower waits for its own state, not for this one.
                Asker::Follower { from, life, upto } => told.push((from, life, upto, read.index)),
            }
            reads.waiting.pop_front();
        }
        while let Some((id, index)) = reads.confirmed.front().copied()
            && index <= applied
        {
            self.outputs.push_back(Output::ReadReady { id, index });
            reads.confirmed.pop_front();
        }
        for (from, life, upto, index) in told {
            let index = Some(index);
            self.send(from, Body::ReadAnswer { life, upto, index });
        }
    }
}
