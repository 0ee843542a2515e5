//! What many runs must have seen.

use core::fmt;
use std::collections::BTreeMap;

use crate::coverage::Coverage;

/// Every feature, and every fault: at least one seed of a hundred shows it.
pub const FEATURES: &[&str] = &[
    // Elections.
    "leader_changed",
    "pre_vote_refused",
    "check_quorum_step_down",
    "disk_stall_step_down",
    "vote_refused_by_stickiness",
    "tick_late",
    "suspicions",
    "preferred_leader_took_over",
    "transfer_moved",
    "transfer_timed_out",
    "transfer_aborted",
    // Configurations.
    "joint_entered",
    "joint_left",
    "committed_by_both_halves",
    "leader_removed_itself",
    "minority_replaced_at_once",
    "several_replaced_at_once",
    "learner_promoted",
    "voter_demoted",
    "configuration_reverted_by_truncation",
    "restart_in_a_joint_configuration",
    "removed",
    // Snapshots and compaction.
    "snapshot_begun",
    "snapshot_resumed",
    "snapshot_superseded",
    "snapshot_installed",
    "snapshot_met_a_candidate",
    "restart_with_a_part_of_a_snapshot",
    "partial_gone_after_a_crash",
    "partial_bits_flipped",
    "partial_damaged_by_a_crash",
    "snapshot_store_slow",
    "snapshot_piece_not_stored",
    "snapshot_read_throttled",
    "snapshot_read_failed",
    "snapshot_waits_for_a_permit",
    "snapshot_waits_for_another",
    "checkpoint_bits_flipped",
    "snapshot_arrived_damaged",
    "shipment_arrived",
    "shipment_abandoned",
    "shipment_refused",
    "snapshot_cut_by_a_crash_of_its_receiver",
    "snapshot_cut_by_a_crash_of_its_sender",
    "snapshot_cut_by_a_crash_while_installed",
    "compacted_but_for_a_tail",
    "compacted_whole",
    // Replication.
    "refused_busy",
    "busy_and_empty_again",
    "refused_transferring",
    "window_full",
    "probe_to_replicate",
    "conflict_backed_off",
    "committed_by_followers_alone",
    "truncations",
    "replaced",
    // Reads.
    "read_confirmed",
    "read_failed",
    "read_before_the_terms_first_commit",
    "read_by_lease",
    "lease_expired",
    "lease_given_up_by_transfer",
    "trial_restarts",
    "trial_restarts_elected_another",
    "trial_late_answers",
    "trial_late_answers_elected_another",
    "trial_clocks",
    "trial_clocks_elected_another",
    "trial_transfer",
    "trial_transfer_elected_another",
    "trial_pause",
    "trial_pause_elected_another",
    "read_after_a_pause_outlasted_the_lease",
    "read_after_a_pause_saw_another_elected",
    "follower_read_answered",
    "follower_read_failed",
    "follower_read_refused",
    // Disks.
    "torn_tail_at_a_restart",
    "syncs_failed",
    "power_lost_while_writing",
    "write_refused_by_a_full_disk",
    "stalls",
    "wiped",
    "damage_refused",
    // Processes and links.
    "pauses",
    "waited_for_a_paused_process",
    "lost_before_a_paused_process",
    "one_way_cuts",
    "links_died_one_by_one",
    "links_congested",
    "quick_restarts",
    "blackouts",
];

/// Name, and how often a seed must show it on average.
const LEAST_PER_SEED: &[(&str, f64)] = &[
    ("events", 20_000.0),
    ("acknowledged", 500.0),
    ("faults", 20.0),
    ("elections", 4.0),
    ("truncations", 0.5),
    ("transfer_moved", 0.5),
    ("snapshot_installed", 0.5),
    ("configurations", 3.0),
    ("joint_entered", 1.0),
    ("configuration_changes_with_a_crash", 0.5),
    ("newcomers", 1.0),
    ("read_confirmed", 100.0),
    ("crashes", 3.0),
    ("partitions", 2.0),
    ("messages_lost", 100.0),
    ("messages_doubled", 50.0),
    ("outcomes_unknown", 5.0),
];

/// What many runs have seen.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    seeds: u64,
    /// How often, and in how many seeds.
    seen: BTreeMap<&'static str, (u64, u64)>,
}

impl Tally {
    /// One more run.
    pub fn add(&mut self, run: &Coverage) {
        self.seeds += 1;
        for (name, count) in run.iter().filter(|(_, count)| *count > 0) {
            let (total, seeds) = self.seen.entry(name).or_default();
            *total += count;
            *seeds += 1;
        }
    }

    /// What was seen less often than many seeds must show it.
    pub fn lacking(&self) -> Vec<String> {
        let seen = |name: &str| self.seen.get(name).copied().unwrap_or_default();
        let rare = FEATURES
            .iter()
            .filter(|name| seen(name).1 * 100 < self.seeds)
            .map(|name| format!("{name}: in {} of {} seeds", seen(name).1, self.seeds));
        let scarce = LEAST_PER_SEED
            .iter()
            .map(|(name, least)| (name, seen(name).0 as f64 / self.seeds as f64, least))
            .filter(|(_, mean, least)| mean < least)
            .map(|(name, mean, least)| format!("{name}: {mean:.2} per seed, at least {least}"));
        rare.chain(scarce).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, (total, seeds)) in &self.seen {
            let share = *seeds as f64 * 100.0 / self.seeds as f64;
            writeln!(f, "{total:>12} {share:>5.1} % of seeds  {name}")?;
        }
        Ok(())
    }
}
