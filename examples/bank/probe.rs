//! One prober per shard: a command always outstanding, so that no shard's silence goes unseen.
//!
//! A prober's account is chosen so that it lies in its shard, and is journalled like every other. Not here: what the
//! waits add up to (`gaps`).

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use actix_rt::task::JoinHandle;
use synod::wire::Sharding;

use super::clients::{End, Teller};
use super::gaps::Gaps;
use super::journal::Journal;
use super::load::Kept;

/// Pause between an answer and the next command.
const PAUSE: Duration = Duration::from_millis(50);

/// One key per shard.
pub(crate) fn keys(sharding: &Sharding) -> Vec<String> {
    let mut keys: Vec<Option<String>> = vec![None; sharding.shards as usize];
    let mut missing = keys.len();
    for number in 0u64.. {
        if missing == 0 {
            break;
        }
        let key = format!("probe-{number}");
        let place = &mut keys[sharding.shard_of(&key).number as usize];
        if place.is_none() {
            *place = Some(key);
            missing -= 1;
        }
    }
    keys.into_iter().flatten().collect()
}

/// Starts the prober of a shard; it ends with its journal when the desk stops.
pub(crate) fn start(
    teller: Teller,
    shard: usize,
    key: String,
    gaps: Rc<RefCell<Gaps>>,
) -> JoinHandle<Kept> {
    let mut kept = Kept {
        key,
        journal: Journal::default(),
    };
    actix_rt::spawn(async move {
        while !teller.desk.stopping() && kept.journal.usable() {
            gaps.borrow_mut().asked(shard, teller.desk.now());
            match teller.command(&kept.key, &mut kept.journal, 1).await {
                End::Acknowledged => {
                    gaps.borrow_mut().acknowledged(shard, teller.desk.now());
                    actix_rt::time::sleep(PAUSE).await;
                }
                // The wait goes on; the journal has settled the command.
                End::Refused { pause } => actix_rt::time::sleep(pause).await,
                End::Unknown => {}
                End::Declined | End::Failed => actix_rt::time::sleep(PAUSE).await,
            }
        }
        kept
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_has_a_key_of_its_own() {
        let sharding = Sharding {
            seed: 7,
            shards: 256,
        };
        let keys = keys(&sharding);
        assert_eq!(keys.len(), 256);
        for (shard, key) in keys.iter().enumerate() {
            assert_eq!(sharding.shard_of(key).number as usize, shard);
        }
    }
}
