//! The numbers that a group is run with, each with its reason, checked once.

use core::time::Duration;

/// How a group behaves. All replicas of a group should use the same.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// Gap between a leader's heartbeats; they fall on multiples of it, so that those of many groups share a frame. Above the p99
    /// round trip. Default 500 ms: commits do not wait for it, only the discovery of a dead leader does.
    pub heartbeat_interval: Duration,
    /// Silence after which a follower campaigns, and during which it refuses to vote for others. At least 3 heartbeats, so that
    /// two lost ones elect nobody. Default 1,500 ms; a failure detector shortens it by `Group::peer_silent`.
    pub election_timeout: Duration,
    /// Added per rank of the voter, plus a random part below a third of it, redrawn per election (E33). Two thirds should be above the
    /// time of one election (two round trips and one sync). Default 150 ms.
    pub election_stagger: Duration,
    /// How soon followers learn that something was committed when no append carries the news. Default 50 ms.
    pub commit_notice: Duration,
    /// How soon a newcomer that said nothing yet is asked again, and then after twice as long each time, up to `heartbeat_interval`: its
    /// node may start it only after the first append came. Above a round trip. Default 20 ms.
    pub first_contact: Duration,
    /// Payload of one append, in bytes; a single larger entry still goes alone. Default 512 KiB.
    pub append_bytes: usize,
    /// Appends on the way to one follower. Default 128.
    pub inflight_appends: usize,
    /// Bytes on the way to one follower. Default 8 MiB.
    pub inflight_bytes: usize,
    /// Bytes of one snapshot chunk. Default 256 KiB: a few milliseconds of a gigabit link, so that little is lost with a lost one.
    pub chunk_bytes: usize,
    /// Bytes of a snapshot on the way to one follower and not stored there yet; at least one chunk. Default 4 MiB: 100 MB/s over a
    /// round trip, with the follower's disk in it, of 40 ms.
    pub chunk_window_bytes: usize,
    /// Largest snapshot that a follower takes, in bytes. Default 1 GiB.
    pub snapshot_bytes: usize,
    /// Bytes of log that a compaction leaves for a follower whose snapshot is on its way, or has arrived and is not caught up with yet;
    /// or twice the snapshot's own length, if that is more and no more than `pinned_bytes_max`. A log that grows faster is better followed
    /// by another snapshot. As many followers are waited for as the caller provides snapshots for. Default 64 MiB.
    pub pinned_bytes: usize,
    /// The most of it, however long the snapshot is: it is memory, and a state may be larger than that. No less than `pinned_bytes` is
    /// left all the same. Default 256 MiB.
    pub pinned_bytes_max: usize,
    /// Bytes proposed and not yet committed; beyond it proposals are refused as busy. What is taken on commits at no more than one
    /// window (`append_bytes` times `inflight_appends`, at most `inflight_bytes`) per round trip: with small windows, make this
    /// smaller, too, or what was accepted waits for long. Default 16 MiB: two round trips of the default window.
    pub uncommitted_bytes: usize,
    /// Largest payload of one entry, in bytes. Default 16 MiB.
    pub entry_bytes: usize,
    /// Bytes handed out by one `Output::Apply`; a single larger entry still goes alone. Default 1 MiB.
    pub apply_bytes: usize,
    /// Linearizable reads that may wait at once. Default 65,536.
    pub waiting_reads: usize,
    /// Entries kept behind a compaction, so that a follower that was away for a moment needs no snapshot. Default 1,024.
    pub keep_entries: u64,
    /// Bytes of log that these may have; of larger entries fewer are kept. Default 1 MiB: less, and a node that was away for a
    /// moment would need whole states where some entries do.
    pub keep_bytes: usize,
    /// How far a learner may be behind when it becomes a voter, in entries. Default 1,024.
    pub learner_lag: u64,
    /// Heartbeats in a row without anything to do after which a leader asks to rest (module `rest`), and again after as many as long as it
    /// may not. Whoever sets it carries claims (module `claims`). 0: never. Default 0.
    pub rest_after: u16,
    /// How long a leader waits for its own disk before it gives way (H21). Default 6 s: longer than a busy disk, shorter than an operator.
    pub disk_stall: Duration,
    /// For how long a follower that answered a heartbeat promises to help nobody else, so that its leader can answer reads by
    /// itself meanwhile (module `lease`). At most `election_timeout`; zero: nothing is promised. A replica that restarts holds
    /// still for this long, so a replica must never start with less than it had before (nor as a version that knew no promises,
    /// within that time). Default 400 ms: below the time in which
    /// a failure detector notices a dead node, so that no election waits for a promise.
    pub lease: Duration,
    /// Whether this replica, as a leader, reads by its lease. Otherwise every read asks a quorum, which rests on no clock; what
    /// it promises others stays the same. Default true.
    pub lease_reads: bool,
    /// By how much two clocks of a group may run apart, in millionths of the faster one; below 1,000,000. Lease reads (and nothing
    /// else) are wrong beyond it. Hardware is off by some 100; what counts is how fast the clock is set right: an NTP daemon may
    /// slew it by 83,333 (chrony's `maxslewrate`), two of them in opposite directions come to 153,847. Default 160,000.
    pub clock_drift_ppm: u32,
    /// A bug put back on purpose, so that the simulators can show that they see it. Never set it elsewhere.
    #[doc(hidden)]
    pub sabotage: Option<Sabotage>,
}

/// Bugs that tests put back on purpose.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Sabotage {
    /// H22: one replica is a majority.
    MajorityOfOne,
    /// H1: stepping down within a term forgets the vote.
    VoteForgotten,
    /// H2, H73: votes and acknowledgements do not wait for the disk.
    PromisedEarly,
    /// Raft paper 5.4.1: a vote goes to whoever asks first, whatever its log holds.
    AnyLogWins,
    /// H23: entries of earlier terms are committed by counting.
    OldTermsCounted,
    /// H24: a follower commits what the leader names, checked or not.
    CommittedUnchecked,
    /// H25: a follower acknowledges all that it has, checked or not.
    AcknowledgedUnchecked,
    /// H26: an append cuts off what follows it without a conflict.
    CutWithoutConflict,
    /// H27: a truncation does not lower what writes under way may claim.
    TruncationForgotten,
    /// H60: a new leader reads before its own term has committed anything.
    ReadUnopened,
    /// H61: a read does not wait for a round.
    ReadUnconfirmed,
    /// H45: nobody leaves a joint configuration.
    JointForEver,
    /// A change may begin although a majority of its voters is silent.
    SilentMajority,
    /// H46: in a joint configuration the new half alone decides.
    NewHalfDecides,
    /// H46: a restart forgets the outgoing half of a joint configuration.
    OutgoingForgotten,
    /// H42, H47: a configuration is effective from its commit on, not from its append.
    ConfigurationAtCommit,
    /// H65: an installed snapshot leaves the former configuration in force.
    ConfigurationKept,
    /// H28: the completion that comes last counts, whichever write it is of.
    CompletionOverwrites,
    /// H37: a leader takes its own log as durable before it is.
    OwnDiskAssumed,
    /// H35: what was committed stays charged to the proposals under way.
    ChargeLeaks,
    /// H19: a transfer that went wrong keeps proposals waiting for ever.
    TransferForEver,
    /// H62: a leader that is deposed answers the reads that waited.
    ReadsKept,
    /// H57: a replica that restarts votes at once, whatever it promised before.
    PromiseForgotten,
    /// H58: a lease counts from when its heartbeat was answered.
    LeaseFromAnswer,
    /// H58: a lease lasts as long by the leader's clock as the promise does by the follower's.
    DriftIgnored,
    /// H59: a leader that told somebody to campaign still reads by its lease.
    LeaseKeptInTransfer,
    /// E19: a leader that rests has its lease by the beats of those that rest under its claims.
    LeaseFromBeats,
    /// H53: a leader that rests heeds nobody who asks it for something.
    RestsDeaf,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(500),
            election_timeout: Duration::from_millis(1_500),
            election_stagger: Duration::from_millis(150),
            commit_notice: Duration::from_millis(50),
            first_contact: Duration::from_millis(20),
            append_bytes: 512 << 10,
            inflight_appends: 128,
            inflight_bytes: 8 << 20,
            chunk_bytes: 256 << 10,
            chunk_window_bytes: 4 << 20,
            snapshot_bytes: 1 << 30,
            pinned_bytes: 64 << 20,
            pinned_bytes_max: 256 << 20,
            uncommitted_bytes: 16 << 20,
            entry_bytes: 16 << 20,
            apply_bytes: 1 << 20,
            waiting_reads: 65_536,
            keep_entries: 1_024,
            keep_bytes: 1 << 20,
            learner_lag: 1_024,
            rest_after: 0,
            disk_stall: Duration::from_secs(6),
            lease: Duration::from_millis(400),
            lease_reads: true,
            clock_drift_ppm: 160_000,
            sabotage: None,
        }
    }
}

/// Options that hang together; the only kind that [`Group::new`](crate::Group::new) takes.
#[derive(Clone, Debug)]
pub struct CheckedOptions(std::sync::Arc<GroupOptions>);

impl core::ops::Deref for CheckedOptions {
    type Target = GroupOptions;

    fn deref(&self) -> &GroupOptions {
        &self.0
    }
}

/// What does not hang together, and what would.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// Make it at least `least`.
    #[error("election_timeout is {got:?}, below three heartbeat intervals ({least:?})")]
    ElectionTimeoutTooShort {
        /// As given.
        got: Duration,
        /// The smallest allowed.
        least: Duration,
    },
    /// Make it at most `most`, or the rest of the group could elect nobody for the difference.
    #[error("lease is {got:?}, above the election timeout ({most:?})")]
    LeaseTooLong {
        /// As given.
        got: Duration,
        /// The greatest allowed.
        most: Duration,
    },
    /// Make it less than 1,000,000: clocks that drift by their whole length measure nothing.
    #[error("clock_drift_ppm is {got}, it must be below 1,000,000")]
    DriftTooLarge {
        /// As given.
        got: u32,
    },
    /// Make it more than zero.
    #[error("{option} must be more than zero")]
    Zero {
        /// Name of the option.
        option: &'static str,
    },
}

impl GroupOptions {
    /// Checks them once.
    pub fn check(self) -> Result<CheckedOptions, OptionsError> {
        let positive = [
            ("heartbeat_interval", !self.heartbeat_interval.is_zero()),
            ("election_stagger", !self.election_stagger.is_zero()),
            ("commit_notice", !self.commit_notice.is_zero()),
            ("first_contact", !self.first_contact.is_zero()),
            ("append_bytes", self.append_bytes > 0),
            ("inflight_appends", self.inflight_appends > 0),
            ("inflight_bytes", self.inflight_bytes > 0),
            ("chunk_bytes", self.chunk_bytes > 0),
            ("chunk_window_bytes", self.chunk_window_bytes > 0),
            ("uncommitted_bytes", self.uncommitted_bytes > 0),
            ("entry_bytes", self.entry_bytes > 0),
            ("apply_bytes", self.apply_bytes > 0),
            ("waiting_reads", self.waiting_reads > 0),
            ("disk_stall", !self.disk_stall.is_zero()),
        ];
        if let Some((option, _)) = positive.into_iter().find(|(_, ok)| !ok) {
            return Err(OptionsError::Zero { option });
        }
        let least = self.heartbeat_interval * 3;
        if self.election_timeout < least {
            return Err(OptionsError::ElectionTimeoutTooShort {
                got: self.election_timeout,
                least,
            });
        }
        if self.lease > self.election_timeout {
            return Err(OptionsError::LeaseTooLong {
                got: self.lease,
                most: self.election_timeout,
            });
        }
        if self.clock_drift_ppm >= 1_000_000 {
            return Err(OptionsError::DriftTooLarge {
                got: self.clock_drift_ppm,
            });
        }
        Ok(CheckedOptions(std::sync::Arc::new(self)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_hang_together() {
        GroupOptions::default().check().unwrap();
    }

    #[test]
    fn a_timeout_below_three_heartbeats_is_refused() {
        let options = GroupOptions {
            election_timeout: Duration::from_millis(1_400),
            ..GroupOptions::default()
        };
        assert!(matches!(
            options.check(),
            Err(OptionsError::ElectionTimeoutTooShort { .. })
        ));
    }
}
