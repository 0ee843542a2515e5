//! `synod move` and `synod rebalance`: where copies lie, by an operator's word.

use std::error::Error;

use synod::node::PlannedMove;

use crate::connection::connect;
use crate::drain::first;
use crate::options::ClusterOptions;

/// Moves shown one by one; of more, only the number.
const SHOWN_MAX: usize = 32;

pub(crate) async fn move_shard(
    shard: u32,
    from: &str,
    to: &str,
    cluster: ClusterOptions,
) -> Result<(), Box<dyn Error>> {
    let client = connect(&cluster).await?;
    let moves = client.move_shard(first(&cluster)?, shard, from, to).await?;
    if moves.is_empty() {
        println!("shard {shard} is to be on {to} and not on {from} already");
        return Ok(());
    }
    print!("{}", told(&moves));
    println!("`synod shards {shard}` shows how far it is");
    Ok(())
}

pub(crate) async fn run(
    afresh: bool,
    dry_run: bool,
    cluster: ClusterOptions,
) -> Result<(), Box<dyn Error>> {
    let client = connect(&cluster).await?;
    let moves = client.rebalance(first(&cluster)?, afresh, dry_run).await?;
    if moves.is_empty() {
        println!("every node has its share: nothing moves");
        return Ok(());
    }
    print!("{}", told(&moves));
    println!(
        "{}",
        match dry_run {
            true => "nothing was changed",
            false => "`synod shards --moves` shows how far it is",
        }
    );
    Ok(())
}

/// One line for each move, and their number.
fn told(moves: &[PlannedMove]) -> String {
    let line = |planned: &PlannedMove| {
        let shard = planned.shard;
        match (&planned.from, &planned.to) {
            (_, Some(to)) if planned.leadership => format!("shard {shard}: {to} is to lead\n"),
            (Some(from), Some(to)) => format!("shard {shard}: {from} -> {to}\n"),
            (None, Some(to)) => format!("shard {shard}: one more copy on {to}\n"),
            (Some(from), None) => format!("shard {shard}: no more copy on {from}\n"),
            (None, None) => String::new(),
        }
    };
    let mut text: String = moves.iter().take(SHOWN_MAX).map(line).collect();
    if moves.len() > SHOWN_MAX {
        text.push_str(&format!("and {} more\n", moves.len() - SHOWN_MAX));
    }
    let leaderships = moves.iter().filter(|planned| planned.leadership).count();
    let copies = moves.len() - leaderships;
    text.push_str(&format!("copies: {copies}, leaderships: {leaderships}\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_moves_are_counted_and_not_all_told() {
        let planned = |shard, leadership: bool| PlannedMove {
            shard,
            from: (!leadership).then(|| "n1".to_owned()),
            to: Some("n2".to_owned()),
            leadership,
        };
        let two = told(&[planned(3, false), planned(3, true)]);
        assert_eq!(
            two,
            "shard 3: n1 -> n2\nshard 3: n2 is to lead\ncopies: 1, leaderships: 1\n"
        );
        let many: Vec<PlannedMove> = (0..100).map(|shard| planned(shard, false)).collect();
        let text = told(&many);
        assert_eq!(text.lines().count(), SHOWN_MAX + 2);
        assert!(text.contains("and 68 more\n"), "{text}");
    }
}
