//! Which files of retired replicas may go, and when.
//!
//! Here: [`Retirements`], a list with one rule. A crash may take back what the tail of the system log said. If a replica's
//! files were gone by then, the replica would be born again, empty, under an id that other members of its group may still
//! count as a voter's (H77, E26). So its files stay until a durable checkpoint of the system state covers its retirement.
//! Asked by `node::replicas`, which also sees to it that such a checkpoint is made. Not here: files, actors.

use synod_consensus::LogIndex;

/// Retired replicas, each with what the system log had said when it was found retired.
#[derive(Debug)]
pub struct Retirements<T>(Vec<(LogIndex, T)>);

impl<T> Default for Retirements<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Retirements<T> {
    /// A replica is retired by the system log, which was applied through `applied`.
    pub fn push(&mut self, applied: LogIndex, replica: T) {
        self.0.push((applied, replica));
    }

    /// Whether a durable checkpoint is wanted.
    pub fn wait(&self) -> bool {
        !self.0.is_empty()
    }

    /// Takes out what can no longer be forgotten: a checkpoint through `durable` is on disk. The files of these may go.
    pub fn covered(&mut self, durable: LogIndex) -> Vec<T> {
        let is_covered = |(applied, _): &mut (LogIndex, T)| *applied <= durable;
        let covered = self.0.extract_if(.., is_covered);
        covered.map(|(_, replica)| replica).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retired_replica_stays_until_a_durable_checkpoint_covers_its_retirement() {
        // H77, E26: files that go before could be followed by an empty replica of the same id.
        let mut retired = Retirements::default();
        assert!(!retired.wait());
        retired.push(LogIndex::new(7), "first");
        retired.push(LogIndex::new(9), "second");
        assert!(retired.wait());
        // Nothing is durable yet, then everything before the retirement is.
        for durable in [0, 6] {
            assert!(retired.covered(LogIndex::new(durable)).is_empty());
        }
        assert_eq!(retired.covered(LogIndex::new(7)), ["first"]);
        assert!(retired.wait(), "the second still waits");
        assert_eq!(retired.covered(LogIndex::new(20)), ["second"]);
        assert!(!retired.wait());
    }
}
