//! How a store without a cluster comes to one: it founds, founds with others, or is let in.
//!
//! Here: [`enter`], which ends with an admitted store, durably, and whatever the start must know of how it came to that; and
//! the joiner's way in ([`ask_to_join`]). Called by `start`, once the endpoint listens and the log is open. Not here: the
//! founding by several seeds (`founding`), who may be let in (`calls`, `system`).

use core::time::Duration;

use synod_consensus::{
    GroupId, HardState, LogStore, Position, Recovered, ReplicaKey, SnapshotMeta, Write,
};
use tokio::sync::mpsc;

use super::builder::{CheckedEntrance, NodeBuilder, StartError, resolve};
use super::calls::CALLS_WAITING_MAX;
use super::founding::{Came, Charter, Kept, Seeker, born_on, seek};
use super::inbound::NodeInbound;
use super::protocol::{Admission as AdmissionAnswer, Answer, Call};
use super::start::recover;
use crate::group::Clock;
use crate::storage::{Admission, Disk, SegmentedLog, StoreDirectory, read_sealed, write_sealed};
use crate::system::{Founding, MemberEntry};
use crate::transport::{CallError, Transport};
use crate::wire::{self, Sharding};

/// How many stores hold each shard.
pub(super) const COPIES: u32 = 3;
/// Patience for one call while joining.
const CALL_PATIENCE: Duration = Duration::from_secs(4);
/// Patience for the last call of a joiner that was told when to give up: it asks at least once.
const CALL_LEAST: Duration = Duration::from_secs(1);
/// Pause between two rounds of asking to be let in.
const JOIN_PAUSE: Duration = Duration::from_millis(200);
/// An unreachable cluster is mentioned again this often.
const JOIN_MENTION: Duration = Duration::from_secs(30);
/// File in the store with the joiner's nonce.
const NONCE: &str = "join.nonce";

/// How this store came to its cluster at this start.
pub(super) struct Place {
    pub(super) admission: Admission,
    pub(super) admitted: Option<AdmissionAnswer>,
    /// What is left of a founding by several seeds in which this store took part.
    pub(super) kept: Option<Kept>,
}

/// Afterwards the store is admitted, and its log holds the replicas that begin here.
pub(super) async fn enter(
    builder: &NodeBuilder,
    entrance: &CheckedEntrance,
    directory: &mut StoreDirectory,
    log: &mut SegmentedLog,
    transport: &Transport,
    joiner: MemberEntry,
    inbound: &NodeInbound,
) -> Result<Place, StartError> {
    let mut kept = Kept::read(directory.disk())?;
    if let Some(admission) = directory.identity().admission {
        remember_birth(directory, &mut kept)?;
        return Ok(Place {
            admission,
            admitted: None,
            kept,
        });
    }
    if kept.as_ref().is_some_and(|kept| kept.born) || has_lived(directory, log)? {
        return Err(StartError::IdentityGone {
            path: directory.path().to_owned(),
        });
    }
    if !matches!(entrance, CheckedEntrance::Seeds(_))
        && let Some(word) = kept
            .as_ref()
            .and_then(|kept| kept.durable.electorate.as_ref())
    {
        return Err(StartError::FoundingBegun {
            list: word.list().to_string(),
        });
    }
    let sharding = Sharding {
        seed: rand::random(),
        shards: builder.shards,
    };
    let came = match entrance {
        CheckedEntrance::Known => return Err(StartError::NoEntrance),
        CheckedEntrance::Found => {
            let founding = Founding {
                cluster: rand::random(),
                sharding,
                copies: COPIES,
                name: joiner.name,
                key: joiner.key,
                others: Vec::new(),
            };
            Came::Founder(founding, Founding::FOUNDER)
        }
        CheckedEntrance::Join(addresses) => {
            let nonce = nonce(directory)?;
            let member = MemberEntry { nonce, ..joiner };
            Came::Joiner(ask_to_join(transport, addresses, member, builder.give_up).await?)
        }
        CheckedEntrance::Seeds(seats) => {
            let nonce = nonce(directory)?;
            let seeker = Seeker {
                seats,
                transport,
                disk: directory.disk(),
                kept: kept.take(),
                member: MemberEntry { nonce, ..joiner },
                charter: Charter {
                    sharding,
                    copies: COPIES,
                },
                give_up: builder.give_up,
            };
            let (seeking, calls) = mpsc::channel(CALLS_WAITING_MAX);
            let first = inbound.seeking.set(seeking).is_ok();
            assert!(first, "a node starts once");
            seek(seeker, calls).await?
        }
    };
    // The groups that begin here, all or none, and before the store calls itself admitted: a crash in between does it anew,
    // and an admitted store always has its system replica.
    let (admission, admitted, born) = match came {
        Came::Founder(founding, store) => {
            let admission = Admission {
                cluster: founding.cluster,
                store,
                sharding: founding.sharding,
            };
            (admission, None, born_on(&founding, store))
        }
        Came::Joiner(admitted) => {
            let admission = Admission {
                cluster: admitted.founding.cluster,
                store: admitted.store,
                sharding: admitted.founding.sharding,
            };
            let key = ReplicaKey {
                group: GroupId::ZERO,
                replica: admitted.replica,
            };
            let to = SnapshotMeta::default();
            (
                admission,
                Some(admitted),
                vec![(key, vec![Write::Reset { to }])],
            )
        }
    };
    // What an interrupted birth left behind goes.
    let leftovers = log.replicas().into_iter();
    let batch: Vec<_> = leftovers
        .map(|key| (key, vec![Write::Drop]))
        .chain(born)
        .collect();
    log.write(&batch).map_err(internal)?;
    directory.admit(admission)?;
    let mut kept = Kept::read(directory.disk())?;
    remember_birth(directory, &mut kept)?;
    Ok(Place {
        admission,
        admitted,
        kept,
    })
}

/// Whether replicas of this store have ever voted or held anything. An interrupted birth leaves bare beginnings and no state: what
/// is more was acknowledged by a store that was admitted and has lost its identity since. Born again, it would forget that (E26).
fn has_lived(directory: &StoreDirectory, log: &SegmentedLog) -> Result<bool, StartError> {
    let is_bare = |found: &Recovered| {
        found.hard_state == HardState::default()
            && found.base.position == Position::ZERO
            && found.entries.is_empty()
    };
    if !recover(log)?.iter().all(|(_, found)| is_bare(found)) {
        return Ok(true);
    }
    let state = directory.state().and_then(|state| state.list());
    Ok(!state?.is_empty())
}

fn internal(error: impl std::fmt::Display) -> StartError {
    StartError::Internal {
        reason: error.to_string(),
    }
}

/// A founder that was admitted is never born again.
fn remember_birth(directory: &StoreDirectory, kept: &mut Option<Kept>) -> Result<(), StartError> {
    if let Some(kept) = kept
        && kept.durable.chosen.is_some()
        && !kept.born
    {
        kept.born = true;
        kept.write(directory.disk())?;
    }
    Ok(())
}

/// The joiner's nonce, kept before it is first used: a repeated request after a crash finds the first (thesis 6.3).
fn nonce(directory: &StoreDirectory) -> Result<u64, StartError> {
    let broken = |reason: String| StartError::Internal { reason };
    if let Some(kept) =
        read_sealed(directory.disk(), NONCE).map_err(|error| broken(error.to_string()))?
    {
        return wire::decode(&kept).map_err(|error| broken(error.to_string()));
    }
    let nonce: u64 = rand::random();
    write_sealed(directory.disk(), NONCE, &wire::encode(&nonce))?;
    Ok(nonce)
}

pub(super) async fn ask_to_join(
    transport: &Transport,
    addresses: &[String],
    member: MemberEntry,
    give_up: Option<Duration>,
) -> Result<AdmissionAnswer, StartError> {
    let clock = Clock::start();
    let call = wire::encode(&Call::Join { member, hops: 0 });
    let mut mention = Mention::default();
    loop {
        let mut reason = "no address resolves".to_owned();
        // Names are resolved anew each round (M39).
        let mut resolved = Vec::new();
        for address in addresses {
            resolved.extend(resolve(address).await);
        }
        // One template may name all nodes, this one too.
        if resolved.contains(&transport.local_addr()) {
            resolved.retain(|address| *address != transport.local_addr());
            reason = "only this node's own address is named".to_owned();
        }
        // Whoever is no member of ours says nothing for those who are; only when nobody else is named, that is the answer.
        let (asked, mut strangers) = (resolved.len(), Vec::new());
        for address in resolved {
            let left = give_up.map(|patience| patience.saturating_sub(clock.now()));
            let patience = left.map_or(CALL_PATIENCE, |left| left.clamp(CALL_LEAST, CALL_PATIENCE));
            match transport.call(address, call.clone(), patience).await {
                Ok(answer) => match wire::decode(&answer) {
                    Ok(Answer::Admitted(admission)) => return Ok(*admission),
                    Ok(Answer::Refused { reason }) => {
                        return Err(StartError::NotAdmitted { reason });
                    }
                    Ok(Answer::NotNow { reason: why }) => reason = format!("{address}: {why}"),
                    Ok(_) | Err(_) => reason = format!("{address}: the answer is none to a join"),
                },
                Err(error @ CallError::Refused { .. }) => {
                    reason = format!("{address}: {error}");
                    strangers.push(reason.clone());
                }
                Err(error) => reason = format!("{address}: {error}"),
            }
        }
        if asked > 0 && strangers.len() == asked {
            return Err(StartError::NotAdmitted {
                reason: strangers.join("; "),
            });
        }
        let now = clock.now();
        if let Some(patience) = give_up.filter(|patience| now >= *patience) {
            return Err(StartError::JoinTimedOut {
                addresses: addresses.join(", "),
                patience,
                reason,
            });
        }
        if mention.is_due(now) {
            tracing::warn!(
                reason,
                "not let in yet; asking again until somebody answers"
            );
        }
        actix_rt::time::sleep(JOIN_PAUSE).await;
    }
}

/// When something that goes on and on is said: at once, then rarely.
#[derive(Debug, Default)]
struct Mention {
    last: Option<Duration>,
}

impl Mention {
    fn is_due(&mut self, now: Duration) -> bool {
        let due = self.last.is_none_or(|last| now - last >= JOIN_MENTION);
        if due {
            self.last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreachable_cluster_is_mentioned_at_once_and_then_rarely() {
        // Issue 2, bad input: says so once and then rarely.
        let mut mention = Mention::default();
        let mut said = Vec::new();
        for second in 0..100 {
            if mention.is_due(Duration::from_secs(second)) {
                said.push(second);
            }
        }
        assert_eq!(said, [0, 30, 60, 90]);
    }
}
