//! How long each shard kept its prober waiting, phase by phase.
//!
//! Here: [`Gaps`], pure: time comes in as an argument. A wait counts whole in every phase that it touches, the ones that
//! still last at a phase's end included. Not here: the probers (`probe`).

use std::time::Duration;

#[derive(Clone, Copy, Debug, Default)]
struct Shard {
    /// Since when the prober waits, if it does.
    since: Option<Duration>,
    /// Longest wait that ended in this phase.
    longest: Duration,
    /// Whether a wait that began in this phase has ended.
    answered: bool,
}

/// Waits of one prober per shard.
#[derive(Debug)]
pub(crate) struct Gaps {
    shards: Vec<Shard>,
    began: Duration,
}

impl Gaps {
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            shards: vec![Shard::default(); shards],
            began: Duration::ZERO,
        }
    }

    /// A new phase; waits that last go on.
    pub(crate) fn begin_phase(&mut self, now: Duration) {
        self.began = now;
        for shard in &mut self.shards {
            *shard = Shard {
                since: shard.since,
                ..Shard::default()
            };
        }
    }

    /// What this phase is about has happened now: only commands that are asked from here on prove that a shard is well.
    pub(crate) fn prove_from(&mut self, now: Duration) {
        self.began = now;
        for shard in &mut self.shards {
            shard.answered = false;
        }
    }

    /// The shard's prober begins to wait. It goes on waiting until [`acknowledged`](Self::acknowledged), whatever
    /// becomes of its attempts.
    pub(crate) fn asked(&mut self, shard: usize, now: Duration) {
        self.shards[shard].since.get_or_insert(now);
    }

    /// The shard's prober has its acknowledgement.
    pub(crate) fn acknowledged(&mut self, shard: usize, now: Duration) {
        let began = self.began;
        let shard = &mut self.shards[shard];
        if let Some(since) = shard.since.take() {
            shard.longest = shard.longest.max(now.saturating_sub(since));
            shard.answered |= since >= began;
        }
    }

    /// Each shard's longest wait in this phase so far, the shortest first.
    pub(crate) fn waits(&self, now: Duration) -> Vec<Duration> {
        let lasting = |shard: &Shard| {
            shard
                .since
                .map_or(Duration::ZERO, |since| now.saturating_sub(since))
        };
        let shards = self.shards.iter();
        let mut waits: Vec<Duration> = shards
            .map(|shard| shard.longest.max(lasting(shard)))
            .collect();
        waits.sort_unstable();
        waits
    }

    /// The longest wait of any shard in this phase so far.
    #[cfg(test)]
    fn longest(&self, now: Duration) -> Duration {
        self.waits(now).last().copied().unwrap_or_default()
    }

    /// Shards that acknowledged a command which was asked in this phase.
    pub(crate) fn probed(&self) -> usize {
        self.shards.iter().filter(|shard| shard.answered).count()
    }

    /// Whether every shard did.
    pub(crate) fn all_probed(&self) -> bool {
        self.probed() == self.shards.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_worst_shard_counts_however_well_the_others_do() {
        // DESIGN 16: "per shard, longest time that a waiting command went without an acknowledgement; worst shard".
        let mut gaps = Gaps::new(2);
        gaps.begin_phase(ms(0));
        gaps.asked(0, ms(0));
        gaps.asked(1, ms(0));
        gaps.acknowledged(0, ms(5));
        assert_eq!((gaps.longest(ms(900)), gaps.probed()), (ms(900), 1));
        gaps.acknowledged(1, ms(1_000));
        assert_eq!(
            (gaps.longest(ms(2_000)), gaps.all_probed()),
            (ms(1_000), true)
        );
    }

    #[test]
    fn what_was_answered_before_the_event_proves_nothing_and_still_counts_as_a_wait() {
        let mut gaps = Gaps::new(1);
        gaps.asked(0, ms(10));
        gaps.acknowledged(0, ms(60));
        gaps.asked(0, ms(70));
        gaps.prove_from(ms(80));
        gaps.acknowledged(0, ms(90));
        assert_eq!((gaps.probed(), gaps.longest(ms(90))), (0, ms(50)));
        gaps.asked(0, ms(100));
        gaps.acknowledged(0, ms(101));
        assert_eq!(gaps.probed(), 1);
    }

    #[test]
    fn attempts_that_fail_do_not_end_a_wait() {
        let mut gaps = Gaps::new(1);
        gaps.asked(0, ms(10));
        gaps.asked(0, ms(500));
        gaps.acknowledged(0, ms(700));
        assert_eq!(gaps.longest(ms(700)), ms(690));
    }

    #[test]
    fn a_wait_over_the_end_of_a_phase_counts_in_both_and_proves_recovery_of_neither() {
        let mut gaps = Gaps::new(1);
        gaps.asked(0, ms(10));
        assert_eq!(gaps.longest(ms(110)), ms(100));
        gaps.begin_phase(ms(110));
        gaps.acknowledged(0, ms(210));
        assert_eq!((gaps.longest(ms(210)), gaps.probed()), (ms(200), 0));
        gaps.asked(0, ms(220));
        gaps.acknowledged(0, ms(221));
        assert_eq!(gaps.probed(), 1);
    }
}
