//! Groups and moves as tables.

use super::view::{Group, Move, Replica, View};
use crate::options::State;
use crate::table::aligned;

/// What all groups are like, in one line; then those that were asked for, line by line.
pub(super) fn groups(view: &View, shown: &[&Group]) -> String {
    let count = |state| {
        let shards = view.groups.iter().filter(|group| group.shard.is_some());
        shards.filter(|group| group.state == state).count()
    };
    let mut text = format!(
        "{} shards: {} serving, {} moving, {} leaderless",
        view.groups.len().saturating_sub(1),
        count(State::Serving),
        count(State::Moving),
        count(State::Leaderless)
    );
    if !view.silent.is_empty() {
        text.push_str(&format!("; no answer from {}", view.silent.join(", ")));
    }
    text.push_str("\n\n");
    let mut rows = vec![
        [
            "SHARD", "STATE", "LEADER", "TERM", "APPLIED", "SIZE", "REPLICAS", "WHY",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for group in shown {
        rows.push(vec![
            name(group.shard),
            match group.state {
                State::Serving => "serving",
                State::Moving => "moving",
                State::Leaderless => "leaderless",
            }
            .to_owned(),
            group.leader.clone().unwrap_or_else(|| "-".to_owned()),
            group.term.to_string(),
            group.applied.to_string(),
            bytes(group.bytes),
            group
                .replicas
                .iter()
                .map(replica)
                .collect::<Vec<_>>()
                .join(" "),
            group.why.clone().unwrap_or_default(),
        ]);
    }
    text.push_str(&aligned(&rows));
    text
}

/// Moves, the oldest first; those under way at the end.
pub(super) fn moves(moves: &[Move]) -> String {
    let mut rows = vec![
        [
            "SHARD",
            "FROM",
            "TO",
            "BEGUN",
            "CAUGHT UP",
            "ENDED",
            "OUTCOME",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let after = |ms: Option<u64>| ms.map_or("-".to_owned(), |ms| format!("after {}", seconds(ms)));
    let names = |names: &[String]| match names.is_empty() {
        true => "-".to_owned(),
        false => names.join(","),
    };
    for one in moves {
        rows.push(vec![
            name(one.shard),
            names(&one.from),
            names(&one.to),
            format!("{} ago", seconds(one.begun_ms_ago)),
            after(one.caught_up_after_ms),
            after(one.ended_after_ms),
            match (&one.given_up, one.ended_after_ms) {
                (Some(reason), _) => format!("given up: {reason}"),
                (None, Some(_)) => "done".to_owned(),
                (None, None) => "under way".to_owned(),
            },
        ]);
    }
    aligned(&rows)
}

fn name(shard: Option<u32>) -> String {
    shard.map_or("system".to_owned(), |shard| shard.to_string())
}

fn replica(replica: &Replica) -> String {
    let learns = if replica.votes { "" } else { "+" };
    let behind = match (replica.lag, replica.fetches) {
        (None, _) => "(?)".to_owned(),
        (Some(lag), true) => format!("({lag}, snapshot)"),
        (Some(0), false) => String::new(),
        (Some(lag), false) => format!("({lag})"),
    };
    format!("{learns}{}{behind}", replica.node)
}

fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let (mut size, mut unit) = (bytes as f64 / 1_024.0, 0);
    while size >= 1_024.0 && unit + 1 < UNITS.len() {
        size /= 1_024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_state_leader_lag_and_reason() {
        let replica = |node: &str, votes, lag, fetches| Replica {
            node: node.to_owned(),
            votes,
            lag,
            fetches,
        };
        let group = |shard, state, why: &str| Group {
            shard,
            state,
            why: Some(why.to_owned()),
            leader: (state != State::Leaderless).then(|| "n1".to_owned()),
            term: 3,
            applied: 120,
            bytes: 12_595,
            replicas: vec![
                replica("n1", true, Some(0), false),
                replica("n2", true, Some(12), false),
                replica("n3", true, None, false),
                replica("n4", false, Some(900), true),
            ],
            goal: Vec::new(),
        };
        let view = View {
            silent: vec!["n3".to_owned()],
            groups: vec![
                group(None, State::Serving, ""),
                group(Some(0), State::Moving, "n4 is to get a copy"),
                group(Some(1), State::Leaderless, "no majority without n2"),
            ],
            ..View::default()
        };
        let text = groups(&view, &view.groups.iter().collect::<Vec<_>>());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "2 shards: 0 serving, 1 moving, 1 leaderless; no answer from n3",
                "",
                "SHARD   STATE       LEADER  TERM  APPLIED  SIZE      REPLICAS                            WHY",
                "system  serving     n1      3     120      12.3 KiB  n1 n2(12) n3(?) +n4(900, snapshot)",
                "0       moving      n1      3     120      12.3 KiB  n1 n2(12) n3(?) +n4(900, snapshot)  n4 is to get a copy",
                "1       leaderless  -       3     120      12.3 KiB  n1 n2(12) n3(?) +n4(900, snapshot)  no majority without n2",
            ]
        );
    }

    #[test]
    fn a_move_tells_how_it_ended() {
        let one = |ended, reason: Option<&str>| Move {
            shard: Some(7),
            from: vec!["n1".to_owned()],
            to: vec!["n4".to_owned()],
            begun_ms_ago: 61_250,
            caught_up_after_ms: ended,
            ended_after_ms: ended,
            given_up: reason.map(str::to_owned),
        };
        let text = moves(&[
            one(Some(940), None),
            one(Some(15_000), Some("`n4` drains")),
            one(None, None),
        ]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].ends_with("after 0.9 s   done"), "{text}");
        assert!(lines[2].ends_with("given up: `n4` drains"), "{text}");
        assert!(lines[3].ends_with("under way"), "{text}");
        assert!(
            lines[1].starts_with("7      n1    n4  61.2 s ago"),
            "{text}"
        );
    }

    #[test]
    fn sizes_are_short() {
        let drawn = [0, 1_023, 1_024, 1 << 20, 5 << 40].map(bytes);
        assert_eq!(drawn, ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "5.0 TiB"]);
    }
}
