//! The lookout of an admitted node for members that its gossip does not see.
//!
//! Here: [`look_out`], which goes on for as long as the node runs, and the file of addresses that a restart begins with. Started by
//! `start`. Not here: the way of a store without a cluster to one (`enter`, `founding`), reconnection to known members
//! (`synod-membership`, `transport`).

use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use synod_membership::SignedRecord;

use super::builder::resolve;
use super::gossip::{GossipActor, Learn, Sight};
use super::protocol::{Answer, Call};
use crate::group::Shared;
use crate::transport::CallError;
use crate::wire;

/// Patience for one call.
const CALL_PATIENCE: Duration = Duration::from_secs(4);
/// How often an admitted node that hears nobody asks its seeds.
const SEEK_PAUSE: Duration = Duration::from_millis(500);
/// A node that was given seeds asks them at its start even if it misses nobody, and stops when one of them is another
/// cluster's. Later than this the address may have become somebody else's, which is no reason to stop.
const SEEDS_JUDGED: Duration = Duration::from_secs(60);
/// How often it asks while it hears some members and misses others.
const SEEK_REST: Duration = Duration::from_secs(5);
/// File in the store with the addresses of the others, for a restart without `--join`.
const PEERS: &str = "peers";

/// Looks for members that gossip does not see alive: introduces this node at its seeds and at the addresses of the last
/// start, for ever and at a bounded rate, until everybody was found (M32, E27). Keeps a record of where the others are.
pub(super) async fn look_out(
    shared: Arc<Shared>,
    gossip: actix::Addr<GossipActor>,
    sight: Sight,
    seeds: Vec<String>,
    mine: SignedRecord,
    path: PathBuf,
) {
    let mut kept = Addresses::load(&path);
    let call = wire::encode(&Call::Introduce { record: mine });
    let mut asked: Option<Duration> = None;
    let mut judged = seeds.is_empty();
    let mut warned = false;
    loop {
        let seen = sight.all();
        let mut known = kept.clone();
        for (store, member) in seen.iter().filter(|(store, _)| **store != shared.store) {
            known.0.insert(*store, member.addresses.clone());
        }
        if known != kept {
            // A hint for the next start; without it the node needs `--join` again.
            if let Err(error) = known.save(&path) {
                tracing::warn!(%error, "the addresses of the other nodes could not be kept");
            }
            kept = known;
        }
        let alive = sight.alive();
        let members: Vec<u64> = crate::group::lock(&shared.system)
            .members
            .keys()
            .copied()
            .collect();
        let hears_somebody = alive.iter().any(|store| *store != shared.store);
        let misses_somebody =
            members.is_empty() || members.iter().any(|store| !alive.contains(store));
        let pause = if hears_somebody {
            SEEK_REST
        } else {
            SEEK_PAUSE
        };
        let now = shared.clock.now();
        let unjudged = !judged && now < SEEDS_JUDGED;
        if (misses_somebody || unjudged)
            && asked.is_none_or(|last| now.saturating_sub(last) >= pause)
        {
            asked = Some(now);
            let missing = kept.0.iter().filter(|(store, _)| !alive.contains(store));
            let mut addresses: Vec<SocketAddr> = missing.flat_map(|(_, at)| at).copied().collect();
            let mut named = Vec::new();
            for seed in &seeds {
                named.extend(resolve(seed).await);
            }
            addresses.extend(&named);
            let (mut strangers, mut found_ours) = (Vec::new(), hears_somebody);
            for address in addresses {
                if address == shared.transport.local_addr() {
                    continue;
                }
                let answer = shared
                    .transport
                    .call(address, call.clone(), CALL_PATIENCE)
                    .await;
                match answer.map(|answer| wire::decode(&answer)) {
                    Ok(Ok(Answer::View { records })) => {
                        judged |= named.contains(&address);
                        found_ours = true;
                        gossip.do_send(Learn(records));
                    }
                    // A member says so, by its system log (M21).
                    Ok(Ok(Answer::GivenUp { reason })) => shared.fail(&reason),
                    // Another cluster's node, or one of another CA: whoever named it as a seed meant something else.
                    Err(CallError::Refused { reason, .. })
                        if now < SEEDS_JUDGED && named.contains(&address) =>
                    {
                        strangers.push(format!(
                            "--join or --seeds names {address}, where this store does not belong: {reason}"
                        ));
                    }
                    _ => {}
                }
            }
            // In a cluster that has moved on an old template may name somebody else's node, too.
            let named_ours = named
                .iter()
                .filter(|at| **at != shared.transport.local_addr());
            match strangers.first() {
                Some(reason) if !found_ours && strangers.len() == named_ours.count() => {
                    shared.fail(reason);
                }
                Some(reason) if !warned => {
                    tracing::warn!(reason, "going on with those who are of this cluster");
                    (judged, warned) = (true, true);
                }
                _ => {}
            }
        }
        actix_rt::time::sleep(SEEK_PAUSE).await;
    }
}

/// Where other stores were last seen.
#[derive(Clone, Debug, Default, PartialEq)]
struct Addresses(BTreeMap<u64, Vec<SocketAddr>>);

impl Addresses {
    /// One line per store: its id, then its addresses. What cannot be read is no hint.
    fn load(store: &Path) -> Self {
        let text = std::fs::read_to_string(store.join(PEERS)).unwrap_or_default();
        let line = |line: &str| {
            let mut words = line.split(' ');
            let store = words.next()?.parse().ok()?;
            Some((store, words.filter_map(|word| word.parse().ok()).collect()))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// Whole or not at all; not synced, for it is only a hint.
    fn save(&self, store: &Path) -> std::io::Result<()> {
        let line = |(store, addresses): (&u64, &Vec<SocketAddr>)| {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            format!("{store} {}", addresses.join(" "))
        };
        let text: Vec<String> = self.0.iter().map(line).collect();
        let new = store.join("peers.new");
        std::fs::write(&new, text.join("\n"))?;
        std::fs::rename(&new, store.join(PEERS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_a_restart_and_garbage_is_no_hint() {
        let directory = tempfile::tempdir().unwrap();
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let addresses = Addresses(BTreeMap::from([(2, vec![at(1), at(2)]), (3, vec![at(3)])]));
        addresses.save(directory.path()).unwrap();
        assert_eq!(Addresses::load(directory.path()), addresses);
        std::fs::write(directory.path().join(PEERS), "x y\n7 127.0.0.1:9 z").unwrap();
        assert_eq!(
            Addresses::load(directory.path()).0,
            BTreeMap::from([(7, vec![at(9)])])
        );
        assert_eq!(Addresses::load(Path::new("/nowhere")), Addresses::default());
    }
}
