//! What the runs must have seen.

use crate::coverage::Coverage;

/// Name, and how often a seed must show it on average.
const LEAST_PER_SEED: &[(&str, f64)] = &[
    ("messages", 200.0),
    ("messages_lost", 10.0),
    ("messages_doubled", 5.0),
    ("messages_late", 5.0),
    ("faults", 5.0),
    ("starts", 5.0),
    ("crashes", 2.0),
    ("crashes_while_writing", 0.2),
    ("blackouts", 0.2),
    ("cuts", 0.5),
    ("wipes", 0.3),
    ("wipes_after_the_word", 0.1),
    ("wipes_after_the_choice", 0.05),
    ("words", 2.0),
    ("words_of_witnesses", 0.05),
    ("chosen", 0.4),
    ("learned_after_a_restart", 0.05),
    ("refused", 0.05),
    ("promises_with_a_value", 0.1),
    ("joins", 0.3),
    ("old_data", 0.05),
    ("lists_differ", 0.15),
    ("lists_put_right", 0.05),
    ("foundings_after_lists_were_put_right", 0.02),
    ("lists_changed_at_a_restart", 0.05),
    ("obstructed_by_lists", 0.1),
    ("obstructed_by_lost_disks", 0.01),
    ("all_agreed", 0.05),
];

/// What was seen less often than so many seeds must show it.
pub fn lacking(seen: &Coverage, seeds: usize) -> Vec<String> {
    let mean = |name: &str| seen.get(name) as f64 / seeds as f64;
    let rare = LEAST_PER_SEED
        .iter()
        .filter(|(name, least)| mean(name) < *least);
    rare.map(|(name, least)| format!("{name}: {:.2} per seed, at least {least}", mean(name)))
        .collect()
}
