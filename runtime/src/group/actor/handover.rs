//! A leadership on its way to another replica.
//!
//! Here: [`Handover`], by which a group's actor knows which of its attempts is under way. Not here: when one begins and ends
//! (`placement`), how the leadership moves (`synod-consensus`).

use synod_consensus::ReplicaId;

/// The attempt under way, if any. Attempts are numbered, so that what was meant for an earlier one, to the same replica perhaps, does
/// not touch a later one.
#[derive(Debug, Default)]
pub(super) struct Handover {
    to: Option<ReplicaId>,
    begun: u64,
}

impl Handover {
    /// Begins an attempt; returns its number.
    pub(super) fn begin(&mut self, to: ReplicaId) -> u64 {
        self.to = Some(to);
        self.begun += 1;
        self.begun
    }

    /// The attempt is over, well or not.
    pub(super) fn end(&mut self) {
        self.to = None;
    }

    /// Who shall lead.
    pub(super) fn to(&self) -> Option<ReplicaId> {
        self.to
    }

    /// The number of the attempt under way, if it is for this replica.
    pub(super) fn attempt_for(&self, to: ReplicaId) -> Option<u64> {
        (self.to == Some(to)).then_some(self.begun)
    }

    /// Whether the attempt of that number is still under way.
    pub(super) fn is_still(&self, number: u64) -> bool {
        self.to.is_some() && self.begun == number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_of_an_earlier_attempt_does_not_know_a_later_one_to_the_same_replica() {
        // The patience with an evaluator that drains ended a later attempt of the same leadership after a moment.
        let (mut handover, heir) = (Handover::default(), ReplicaId::new(7));
        let first = handover.begin(heir);
        assert!(handover.is_still(first));
        handover.end();
        assert!(!handover.is_still(first));
        let second = handover.begin(heir);
        assert!(!handover.is_still(first) && handover.is_still(second));
        assert_eq!(handover.to(), Some(heir));
    }
}
