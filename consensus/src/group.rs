//! One replica of one Raft group, as a pure machine: inputs are method calls with the time, effects come out of `poll_output`.

use core::time::Duration;

use bytes::Bytes;

use crate::error::{ChangeError, ProposeError, ReadError, RestoreError, TransferError};
use crate::options::CheckedOptions;
use crate::output::Output;
use crate::status::Status;
use crate::storage::{HardState, PersistToken, Recovered};
use crate::{
    Change, Configuration, Entry, GroupId, LogIndex, Message, Position, ReadId, ReplicaId,
    Snapshot, SnapshotMeta,
};

/// What a replica starts from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Restored {
    /// As the store recovered it.
    pub hard_state: HardState,
    /// Where the log begins.
    pub base: SnapshotMeta,
    /// The entries after it.
    pub entries: Vec<Entry>,
    /// What the state machine's durable checkpoint covers; at or after `base`. It may lie beyond the log when a crash came
    /// between installing a snapshot and resetting the log; the log is then reset.
    pub state: SnapshotMeta,
    /// Nothing of this replica is in the store: the first write creates it.
    pub is_new: bool,
}

impl Restored {
    /// A replica of a new group, the only kind that is born a voter.
    pub fn founding(configuration: Configuration) -> Self {
        let base = SnapshotMeta::founding(configuration);
        Self {
            state: base.clone(),
            base,
            is_new: true,
            ..Self::default()
        }
    }

    /// A replica of a group that exists: it is born empty and learns everything from the leader.
    pub fn newcomer() -> Self {
        Self {
            is_new: true,
            ..Self::default()
        }
    }

    /// After a restart: what the store recovered, and what the state machine's newest durable checkpoint covers (`None`: it has
    /// none and starts from the log's base, which is right only while that base is zero or the state came with it).
    pub fn after_restart(recovered: Recovered, state: Option<SnapshotMeta>) -> Self {
        let Recovered {
            hard_state,
            base,
            entries,
        } = recovered;
        Self {
            hard_state,
            state: state.unwrap_or_else(|| base.clone()),
            base,
            entries,
            is_new: false,
        }
    }
}

/// One replica of one group. After each input, drain [`Group::poll_output`].
#[derive(Debug)]
pub struct Group {
    id: GroupId,
    me: ReplicaId,
    options: CheckedOptions,
    status: Status,
    outputs: std::collections::VecDeque<Output>,
}

impl Group {
    /// Starts replica `me` of group `id`. `seed` draws its timeouts.
    pub fn new(
        options: CheckedOptions,
        id: GroupId,
        me: ReplicaId,
        restored: Restored,
        seed: u64,
        now: Duration,
    ) -> Result<Self, RestoreError> {
        let _ = (seed, now);
        let status = Status {
            group: id,
            replica: me,
            term: restored.hard_state.term,
            vote: restored.hard_state.vote,
            role: crate::Role::Follower,
            leader: None,
            commit: restored.hard_state.commit,
            applied: restored.state.position.index,
            persisted: LogIndex::ZERO,
            first: restored.base.position.index.next(),
            last: restored
                .entries
                .last()
                .map_or(restored.base.position, Entry::position),
            configuration: restored.base.configuration,
            configuration_index: restored.base.configuration_index,
            peers: Vec::new(),
            pending_bytes: 0,
            transfer: None,
            data_lost: false,
        };
        Ok(Self {
            id,
            me,
            options,
            status,
            outputs: std::collections::VecDeque::new(),
        })
    }

    /// This replica.
    pub fn replica(&self) -> ReplicaId {
        self.me
    }

    /// The group.
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// The options it runs with.
    pub fn options(&self) -> &CheckedOptions {
        &self.options
    }

    /// A message arrived for this replica.
    pub fn receive(&mut self, now: Duration, message: Message) {
        let _ = (now, message);
    }

    /// Time passed; call it when `now >= wake_at()`.
    pub fn tick(&mut self, now: Duration) {
        let _ = now;
    }

    /// When to call `tick` next; `None`: not before another input. Ask again after each input.
    pub fn wake_at(&self) -> Option<Duration> {
        None
    }

    /// Appends one entry, if this replica leads. The entry may still be replaced by another leader's: compare the term at
    /// `Output::Apply` (H31).
    pub fn propose(&mut self, now: Duration, payload: Bytes) -> Result<Position, ProposeError> {
        let _ = (now, payload);
        Err(ProposeError::NotLeader {
            group: self.id,
            leader: None,
        })
    }

    /// Begins a linearizable read: answered by `Output::ReadReady` or `Output::ReadFailed`.
    pub fn read(&mut self, now: Duration) -> Result<ReadId, ReadError> {
        let _ = now;
        Err(ReadError::NotLeader {
            group: self.id,
            leader: None,
        })
    }

    /// Begins a change of configuration; joint ones are left without another call.
    pub fn change(&mut self, now: Duration, target: Change) -> Result<Position, ChangeError> {
        let _ = (now, target);
        Err(ChangeError::NotLeader {
            group: self.id,
            leader: None,
        })
    }

    /// Hands leadership to the voter `to`: brings it up to date, refusing proposals meanwhile, then lets it campaign at once.
    pub fn transfer(&mut self, now: Duration, to: ReplicaId) -> Result<(), TransferError> {
        let _ = (now, to);
        Err(TransferError::NotLeader {
            group: self.id,
            leader: None,
        })
    }

    /// The writes named by `token` are durable.
    pub fn persisted(&mut self, now: Duration, token: PersistToken) {
        let _ = (now, token);
    }

    /// The state machine holds everything through `index`.
    pub fn applied(&mut self, now: Duration, index: LogIndex) {
        let _ = (now, index);
    }

    /// The snapshot of `Output::Install` at `position` is durable and is the state now.
    pub fn installed(&mut self, now: Duration, position: Position) {
        let _ = (now, position);
    }

    /// Answers `Output::SnapshotNeeded`.
    pub fn provide_snapshot(&mut self, now: Duration, to: ReplicaId, snapshot: Snapshot) {
        let _ = (now, to, snapshot);
    }

    /// What a snapshot or checkpoint of the state at `index` must say about itself; `None` when the log does not hold `index`.
    pub fn meta_at(&self, index: LogIndex) -> Option<SnapshotMeta> {
        let _ = index;
        None
    }

    /// A checkpoint through `through` is durable: forgets the entries before it, but keeps a tail of `keep_entries`.
    pub fn compact(&mut self, now: Duration, through: LogIndex) {
        let _ = (now, through);
    }

    /// Like `compact`, but keeps no tail: for idle groups, so that they pin no old file.
    pub fn compact_all(&mut self, now: Duration, through: LogIndex) {
        let _ = (now, through);
    }

    /// The failure detector suspects `peer`: if it leads, stickiness ends and this replica campaigns by its rank. Never evidence for a vote.
    pub fn peer_silent(&mut self, now: Duration, peer: ReplicaId) {
        let _ = (now, peer);
    }

    /// Campaigns at once (pre-vote first), for operators and tests.
    pub fn campaign(&mut self, now: Duration) {
        let _ = now;
    }

    /// The next thing to do; `None`: nothing until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// One look at everything.
    pub fn status(&self) -> Status {
        self.status.clone()
    }
}
