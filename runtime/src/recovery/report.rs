//! A plan in words, for the person who has to answer for it.

use std::fmt::Write as _;

use synod_consensus::GroupId;
use synod_consensus::recovery::Recovery;

use super::plan::{Fate, GroupPlan, Plan, store_of};
use crate::node::shard_of;
use crate::system::UnsafeRecovery;

/// Groups that are listed one by one; the others are only counted.
const LISTED: usize = 400;

impl Plan {
    /// What would be done and what may be lost.
    pub fn report(&self) -> String {
        let mut text = String::new();
        let head = &self.head;
        let names = |stores: &std::collections::BTreeMap<u64, String>| {
            let name = |(store, name): (&u64, &String)| format!("{name} (store {store})");
            listed(stores.iter().map(name))
        };
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "cluster {:032x}\nsurvivors: {}\ngiven up for ever: {}\n",
            head.cluster,
            names(&head.stores),
            names(&head.lost)
        );
        if self.resumed {
            let _ = writeln!(
                text,
                "this recovery was begun at {} and is to be finished as it was planned then:\n",
                utc(head.at)
            );
        }
        text.push_str(&self.table());
        let stuck = self.stuck();
        let undecided: u64 = stuck.iter().map(|(_, recovery)| recovery.undecided()).sum();
        if !stuck.is_empty() {
            let _ = writeln!(
                text,
                "\nMAY BE LOST: in {} whatever was acknowledged and is not in the log of the copy that goes on, because only lost disks held it; nobody can tell how much that is.",
                count(stuck.len(), "group")
            );
        }
        if undecided > 0 {
            let _ = writeln!(
                text,
                "WILL TAKE EFFECT: {} that no survivor knows to have been committed; their callers may have been told `Unknown`, or nothing.",
                count(undecided as usize, "entry of the log")
                    .replace("entry of the logs", "entries of the logs")
            );
        }
        let system_lives = self.groups.iter().any(|plan| {
            matches!(plan.fate, Fate::Reformed { stuck: false, .. }) && plan.group == GroupId::ZERO
        });
        if system_lives {
            let _ = writeln!(
                text,
                "NOT LOST: the system group has its majority; it is re-formed with all that it holds, so that its log can say who was given up."
            );
        }
        let unlisted = self.groups.iter().filter(|plan| {
            matches!(plan.fate, Fate::Reformed { stuck: false, .. }) && plan.group != GroupId::ZERO
        });
        let unlisted = unlisted.count();
        if unlisted > 0 {
            let _ = writeln!(
                text,
                "NOT LOST: {} with a majority among the survivors, re-formed with all that it holds, because the system log does not list the copies.",
                count(unlisted, "shard")
            );
        }
        for copy in self.unused.iter().take(LISTED) {
            let _ = writeln!(text, "NOT USED: {copy}.");
        }
        let more = self.unused.len().saturating_sub(LISTED);
        if more > 0 {
            let _ = writeln!(text, "NOT USED: {more} more.");
        }
        if self.emptied() > 0 {
            let _ = writeln!(
                text,
                "IS LOST: everything in {} of which no copy is left; they begin anew, empty.",
                count(self.emptied(), "shard")
            );
        }
        let alone = head.alone as usize - usize::from(system_lives);
        let _ = writeln!(
            text,
            "LEFT ALONE: {} that {} a majority among the survivors.",
            count(alone, "group"),
            if alone == 1 { "has" } else { "have" }
        );
        if !head.lost.is_empty() {
            let _ = writeln!(
                text,
                "NEVER AGAIN may {} run on the disks that are given up here: two of the lost nodes, in small clusters even one, can be a majority of some group's old configuration and go on with the old history beside the new one: none of them may.",
                listed(head.lost.values().cloned())
            );
        }
        text
    }

    fn stuck(&self) -> Vec<(GroupId, &Recovery)> {
        let stuck = |plan: &'_ GroupPlan| matches!(plan.fate, Fate::Reformed { stuck: true, .. });
        let groups = self.groups.iter().filter(|plan| stuck(plan));
        groups
            .filter_map(|plan| match &plan.fate {
                Fate::Reformed { recovery, .. } => Some((plan.group, recovery)),
                Fate::Emptied { .. } => None,
            })
            .collect()
    }

    fn table(&self) -> String {
        let name = |store: u64| {
            let known = self
                .head
                .stores
                .get(&store)
                .or_else(|| self.head.lost.get(&store));
            known.cloned().unwrap_or_else(|| format!("store {store}"))
        };
        let mut rows = vec![
            [
                "GROUP",
                "GOES ON AT",
                "LAST",
                "COMMITTED",
                "MISSING VOTERS",
                "OTHER COPIES",
            ]
            .map(str::to_owned),
        ];
        for plan in self.groups.iter().take(LISTED) {
            let group = group_name(plan.group);
            rows.push(match &plan.fate {
                Fate::Reformed { recovery, .. } => {
                    let missing = recovery.missing();
                    let others = recovery.others.iter().map(|other| {
                        format!(
                            "{} at {}, {}",
                            name(store_of(other.replica)),
                            other.last,
                            distance(recovery, other)
                        )
                    });
                    [
                        group,
                        name(store_of(recovery.chosen)),
                        recovery.last.to_string(),
                        recovery.committed.to_string(),
                        listed(missing.iter().map(|replica| name(store_of(*replica)))),
                        listed(others),
                    ]
                }
                Fate::Emptied { replica } => [
                    group,
                    name(store_of(*replica)),
                    "nothing is left".to_owned(),
                    "-".to_owned(),
                    "all".to_owned(),
                    "none".to_owned(),
                ],
            });
        }
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let widths: Vec<usize> = (0..rows[0].len())
            .map(|column| width(column).unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in &rows {
            let cells = row.iter().zip(&widths);
            let line: Vec<String> = cells
                .map(|(cell, width)| format!("{cell:<width$}", width = *width))
                .collect();
            text.push_str(line.join("  ").trim_end());
            text.push('\n');
        }
        let more = self.groups.len().saturating_sub(LISTED);
        if more > 0 {
            let _ = writeln!(text, "and {more} more");
        }
        text
    }
}

/// A group as people know it.
pub(super) fn group_name(group: GroupId) -> String {
    match shard_of(group) {
        None => "system".to_owned(),
        Some(shard) => format!("shard {}", shard.number),
    }
}

/// How far another copy is from the one that goes on.
fn distance(recovery: &Recovery, other: &synod_consensus::recovery::Other) -> String {
    let behind = other
        .agrees
        .index
        .entries_until(recovery.last.index)
        .unwrap_or(0);
    let ahead = other
        .agrees
        .index
        .entries_until(other.last.index)
        .unwrap_or(0);
    match (behind, ahead) {
        (0, 0) => "equal".to_owned(),
        (_, 0) => format!("{behind} behind"),
        _ => format!("{behind} behind, {ahead} of its own go"),
    }
}

/// One sentence for the log of a node and for `status`.
pub(crate) fn in_words(recovery: &UnsafeRecovery) -> String {
    let mut text = format!(
        "this cluster was recovered unsafely at {}: {} given up, {} went on from what was left",
        utc(recovery.at),
        match recovery.given_up.len() {
            0 => "no node was".to_owned(),
            1 => format!("{} was", listed(recovery.given_up.values().cloned())),
            _ => format!("{} were", listed(recovery.given_up.values().cloned())),
        },
        count(recovery.reformed as usize, "group"),
    );
    if recovery.emptied > 0 {
        let _ = write!(
            text,
            ", {} began anew, empty",
            count(recovery.emptied as usize, "shard")
        );
    }
    text
}

fn listed(words: impl IntoIterator<Item = String>) -> String {
    let words: Vec<String> = words.into_iter().collect();
    match words.is_empty() {
        true => "none".to_owned(),
        false => words.join(", "),
    }
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// A time as people write it: days from the civil calendar (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468; // days since 0000-03-01
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..=9 => (era * 400 + year, month + 3),
        _ => (era * 400 + year + 1, month - 9),
    };
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year:04}-{month:02}-{of_month:02} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_calendar_has_them() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (951_868_800, "2000-03-01 00:00 UTC"),
            (1_767_225_599, "2025-12-31 23:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}
