//! The lookout of an admitted node for members that its gossip does not see.
//!
//! Here: [`look_out`], which goes on for as long as the node runs. Started by `start`. Not here: the addresses that a restart begins with
//! (`addresses`), the way of a store without a cluster to one (`enter`, `founding`), reconnection to known members (`synod-membership`,
//! `transport`).

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use synod_membership::SignedRecord;

use super::addresses::Addresses;
use super::builder::resolve;
use super::gossip::{GossipActor, Learn};
use super::protocol::{Answer, Call};
use super::sight::Sight;
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

/// Looks for members that gossip does not see alive: introduces this node at its seeds and at the addresses of the last
/// start, for ever and at a bounded rate, until everybody was found (M32, E27).
pub(super) async fn look_out(
    shared: Arc<Shared>,
    gossip: actix::Addr<GossipActor>,
    sight: Sight,
    seeds: Vec<String>,
    mine: SignedRecord,
    mut known: Addresses,
) {
    let call = wire::encode(&Call::Introduce { record: mine });
    let mut asked: Option<Duration> = None;
    let mut judged = seeds.is_empty();
    let mut warned = false;
    loop {
        known.learn(shared.store, &sight.all());
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
            let missing = known.iter().filter(|(store, _)| !alive.contains(store));
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
