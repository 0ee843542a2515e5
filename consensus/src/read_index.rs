//! Linearizable reads without a log entry.
//!
//! Here: what a read waits for: an entry of the leader's own term committed (H60), then a round of heartbeats begun after the read
//! and answered by a quorum (H61), or a lease (module `lease`), then the state to hold what was committed when it was asked.
//! Not here: the side of a follower that reads by itself (`follower_read`). Source: Ongaro's thesis, 6.4.

use core::time::Duration;

use crate::error::ReadError;
use crate::group::Group;
use crate::leadership::Leadership;
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

impl Leadership {
    /// A follower that asks again has given up its earlier reads or covers them: it waits once.
    fn wait_for_opening(&mut self, asker: Asker) {
        let Asker::Follower { from, life, upto } = asker else {
            return self.unopened_reads.push(asker);
        };
        let known = self
            .unopened_reads
            .iter_mut()
            .find_map(|known| match known {
                Asker::Follower {
                    from: f,
                    life: l,
                    upto,
                } if (*f, *l) == (from, life) => Some(upto),
                Asker::Follower { .. } | Asker::Here(_) => None,
            });
        match known {
            Some(known) => *known = upto.max(*known),
            None => self.unopened_reads.push(asker),
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
        let open = self.is_open() || self.is_sabotaged(Sabotage::ReadUnopened);
        let leased = open && self.has_lease();
        let Some(leadership) = &mut self.leadership else {
            return Err(ReadError::NotLeader {
                group: self.id,
                leader: self.leader,
            });
        };
        let waiting =
            leadership.reads.len() + leadership.confirmed.len() + leadership.unopened_reads.len();
        if waiting >= self.options.waiting_reads {
            return Err(ReadError::Busy {
                group: self.id,
                waiting,
            });
        }
        if !open {
            leadership.wait_for_opening(asker);
            return Ok(());
        }
        let index = self.committed;
        if leased {
            match asker {
                Asker::Here(id) => leadership.confirmed.push_back((id, index)),
                Asker::Follower { from, life, upto } => {
                    let index = Some(index);
                    self.send(from, Body::ReadAnswer { life, upto, index });
                }
            }
        } else {
            // Any round begun from now on is above the last one.
            let round = leadership.round + 1;
            leadership.reads.push_back(Waiting {
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
        if self.committed < leadership.opening || leadership.unopened_reads.is_empty() {
            return;
        }
        let (round, index) = (leadership.round + 1, self.committed);
        let opened = leadership.unopened_reads.drain(..);
        leadership.reads.extend(opened.map(|asker| Waiting {
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
        if leadership.reads.is_empty() && leadership.confirmed.is_empty() {
            return;
        }
        // Counted afresh each time, so that a smaller configuration answers what a larger one kept waiting (H63).
        let confirmed = match self.options.sabotage {
            Some(Sabotage::ReadUnconfirmed) => u64::MAX,
            _ => leadership.confirmed_round(&self.options).unwrap_or(0),
        };
        let applied = self.applied;
        let mut told = Vec::new();
        while let Some(read) = leadership.reads.front()
            && read.round <= confirmed
        {
            match read.asker {
                Asker::Here(id) => leadership.confirmed.push_back((id, read.index)),
                // A follower waits for its own state, not for this one.
                Asker::Follower { from, life, upto } => told.push((from, life, upto, read.index)),
            }
            leadership.reads.pop_front();
        }
        while let Some((id, index)) = leadership.confirmed.front().copied()
            && index <= applied
        {
            self.outputs.push_back(Output::ReadReady { id, index });
            leadership.confirmed.pop_front();
        }
        for (from, life, upto, index) in told {
            let index = Some(index);
            self.send(from, Body::ReadAnswer { life, upto, index });
        }
    }
}
