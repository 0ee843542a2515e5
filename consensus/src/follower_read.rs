//! Linearizable reads that a follower serves from its own state.
//!
//! Here, on the follower: reads that wait for the leader's word and then for the state to get there. The leader treats the
//! question as a read of its own (`read_index`), so the same rules hold: an entry of its own term committed, then a round begun
//! after the question arrived, or a lease. One question serves all reads that came since the last one. Each read ends: answered,
//! or failed by a change of leader before the answer, or by one election timeout; nothing is asked twice, the caller decides.
//! Source: Ongaro's thesis, 6.4, last paragraph; H61, H62.

use core::time::Duration;
use std::collections::VecDeque;

use crate::error::ReadError;
use crate::group::Group;
use crate::message::Body;
use crate::output::{Output, Role};
use crate::read_index::Asker;
use crate::{LogIndex, ReadId, ReplicaId};

/// Reads of this replica under somebody else's leadership.
#[derive(Debug)]
pub(crate) struct FollowerReads {
    /// Drawn once per start, so that no answer to a former life counts.
    life: u64,
    /// In the order in which they came.
    waiting: VecDeque<FollowerRead>,
    /// Some of them are not asked for yet.
    unasked: bool,
}

#[derive(Debug)]
struct FollowerRead {
    id: ReadId,
    deadline: Duration,
    /// What the state must hold, once the leader said so.
    index: Option<LogIndex>,
}

impl Group {
    /// Begins a linearizable read that this replica serves itself, whatever its role: on a leader like `read`; else answered by
    /// `Output::ReadReady` or, within one election timeout, by `Output::ReadFailed`.
    pub fn read_here(&mut self, now: Duration) -> Result<ReadId, ReadError> {
        if self.role == Role::Leader {
            return self.read(now);
        }
        self.begin(now);
        if self.leader.is_none() || self.role != Role::Follower || self.data_lost {
            return Err(ReadError::NotLeader {
                group: self.id,
                leader: self.leader,
            });
        }
        let id = self.last_read.next();
        let (limit, group) = (self.options.waiting_reads, self.id);
        let deadline = self.now + self.options.election_timeout;
        let reads = self.follower_reads.get_or_insert_with(|| {
            Box::new(FollowerReads {
                life: self.campaign.draw_life(),
                waiting: VecDeque::new(),
                unasked: false,
            })
        });
        let waiting = reads.waiting.len();
        if waiting >= limit {
            return Err(ReadError::Busy { group, waiting });
        }
        reads.waiting.push_back(FollowerRead {
            id,
            deadline,
            index: None,
        });
        reads.unasked = true;
        self.last_read = id;
        Ok(id)
    }

    /// Whether none of them waits.
    pub(crate) fn has_no_follower_reads(&self) -> bool {
        self.follower_reads
            .as_ref()
            .is_none_or(|reads| reads.waiting.is_empty())
    }

    /// One question for all reads that came since the last one.
    pub(crate) fn ask_leader(&mut self) {
        let (Some(reads), Some(leader)) = (&mut self.follower_reads, self.leader) else {
            return;
        };
        if core::mem::take(&mut reads.unasked)
            && let Some(newest) = reads.waiting.back()
        {
            let body = Body::ReadRequest {
                life: reads.life,
                upto: newest.id,
            };
            self.send(leader, body);
        }
    }

    /// A follower asks. Without leadership the answer is "cannot say", so that it need not wait for its deadline.
    pub(crate) fn handle_read_request(&mut self, from: ReplicaId, life: u64, upto: ReadId) {
        let asker = Asker::Follower { from, life, upto };
        if self.begin_read(asker).is_err() {
            let index = None;
            self.send(from, Body::ReadAnswer { life, upto, index });
        }
    }

    /// The leader answers for all reads through `upto`: they began before it was asked.
    pub(crate) fn handle_read_answer(
        &mut self,
        from: ReplicaId,
        life: u64,
        upto: ReadId,
        index: Option<LogIndex>,
    ) {
        let Some(reads) = self.follower_reads.as_mut().filter(|r| r.life == life) else {
            return;
        };
        if self.leader != Some(from) {
            return;
        }
        match index {
            Some(_) => reads
                .waiting
                .iter_mut()
                .take_while(|read| read.id <= upto)
                .filter(|read| read.index.is_none())
                .for_each(|read| read.index = index),
            None => self.fail_follower_reads(|read| read.id <= upto && read.index.is_none()),
        }
    }

    fn fail_follower_reads(&mut self, fails: impl Fn(&FollowerRead) -> bool) {
        let Some(reads) = &mut self.follower_reads else {
            return;
        };
        let outputs = &mut self.outputs;
        reads.waiting.retain(|read| {
            let failed = fails(read);
            if failed {
                outputs.push_back(Output::ReadFailed { id: read.id });
            }
            !failed
        });
    }

    /// Another leader, or none: what was asked of the former one stays open for ever. What it answered stays true.
    pub(crate) fn forget_questions(&mut self) {
        self.fail_follower_reads(|read| read.index.is_none());
    }

    pub(crate) fn tick_follower_reads(&mut self) {
        let now = self.now;
        self.fail_follower_reads(|read| now >= read.deadline);
    }

    /// The earliest deadline: reads end in the order in which they came, whatever they wait for.
    pub(crate) fn follower_reads_wake_at(&self) -> Option<Duration> {
        let reads = self.follower_reads.as_ref()?;
        Some(reads.waiting.front()?.deadline)
    }

    pub(crate) fn answer_follower_reads(&mut self) {
        let Some(reads) = &mut self.follower_reads else {
            return;
        };
        while let Some(FollowerRead {
            id,
            index: Some(index),
            ..
        }) = reads.waiting.front()
            && *index <= self.applied
        {
            self.outputs.push_back(Output::ReadReady {
                id: *id,
                index: *index,
            });
            reads.waiting.pop_front();
        }
    }
}
