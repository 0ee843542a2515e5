//! Linearizable reads without a log entry.
//!
//! Here: what a read waits for: an entry of the leader's own term committed (H60), then a round of heartbeats begun after the read
//! and answered by a quorum (H61), then the state to hold what was committed when it was asked. Source: Ongaro's thesis, 6.4.

use core::time::Duration;

use crate::error::ReadError;
use crate::group::Group;
use crate::options::Sabotage;
use crate::output::Output;
use crate::{LogIndex, ReadId};

#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) id: ReadId,
    /// A quorum must answer this round or a later one.
    round: u64,
    /// Committed when the read was asked.
    index: LogIndex,
}

impl Group {
    /// Begins a linearizable read: answered by `Output::ReadReady` or `Output::ReadFailed`.
    pub fn read(&mut self, now: Duration) -> Result<ReadId, ReadError> {
        self.begin(now);
        let open = self.is_open() || self.is_sabotaged(Sabotage::ReadUnopened);
        let Some(leadership) = &mut self.leadership else {
            return Err(ReadError::NotLeader {
                group: self.id,
                leader: self.leader,
            });
        };
        let waiting = leadership.reads.len() + leadership.unopened_reads.len();
        if waiting >= self.options.waiting_reads {
            return Err(ReadError::Busy {
                group: self.id,
                waiting,
            });
        }
        self.last_read = self.last_read.next();
        let id = self.last_read;
        if open {
            // Any round begun from now on is above the last one.
            leadership.reads.push_back(Waiting {
                id,
                round: leadership.round + 1,
                index: self.committed,
            });
            leadership.round_wanted = true;
        } else {
            leadership.unopened_reads.push(id);
        }
        Ok(id)
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
        leadership
            .reads
            .extend(
                leadership
                    .unopened_reads
                    .drain(..)
                    .map(|id| Waiting { id, round, index }),
            );
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
        if leadership.reads.is_empty() {
            return;
        }
        // Counted afresh each time, so that a smaller configuration answers what a larger one kept waiting (H63).
        let confirmed = match self.options.sabotage {
            Some(Sabotage::ReadUnconfirmed) => u64::MAX,
            _ => leadership.confirmed_round(&self.options).unwrap_or(0),
        };
        while let Some(read) = leadership.reads.front() {
            if read.round > confirmed || read.index > self.applied {
                break;
            }
            self.outputs.push_back(Output::ReadReady {
                id: read.id,
                index: read.index,
            });
            leadership.reads.pop_front();
        }
    }
}
