//! Three replicas of one machine on one thread, with its own store in memory: ours and those it is measured against.
//!
//! Here: what every [`Trio`] does, so that all do the same work. Not here: measuring (`core`, `memory`).
//!
//! A batch is proposed at the leader command by command, written by all three, acknowledged to the leader, committed there and
//! handed to the state machine. Followers learn of a commit as each machine prefers. Messages move as values; nothing is encoded.
//! Every command is 16 bytes made anew, in the form that the machine takes.

pub(crate) mod omnipaxos;
pub(crate) mod raft_rs;
pub(crate) mod synod;

/// Bytes of one command.
pub(crate) const COMMAND: usize = 16;
/// Applied entries after which a log is compacted,
pub(crate) const COMPACT_EVERY: u64 = 20_000;
/// to this many, so that memory stays flat.
pub(crate) const KEEP: u64 = 1_024;

/// Three replicas, one of which leads.
pub(crate) trait Trio {
    /// Whose machine it is.
    const NAME: &'static str;

    /// Three replicas with a leader. `batch`: the commands of one batch, for machines that want to know.
    fn new(batch: u64) -> Self;

    /// Proposes `batch` commands and delivers messages until none is left.
    fn commit(&mut self, batch: u64);

    /// Commands that each replica has handed to its state machine. Replicas that wait for news of a commit get it first.
    fn applied(&mut self) -> [u64; 3];
}

/// The bytes of command `number`.
pub(crate) fn command(number: u64) -> [u8; COMMAND] {
    let mut bytes = [7; COMMAND];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}
