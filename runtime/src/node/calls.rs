//! Answers to calls: joining, introducing, the routing table, status, and seeds that found.
//!
//! Here: [`Calls`], which receives calls on the transport's thread and answers them on the node's main arbiter.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use actix::Addr;
use bytes::Bytes;
use synod_consensus::GroupId;
use synod_membership::MemberState;
use tokio::sync::mpsc;

use super::founding::{self, Holder};
use super::gate;
use super::gossip::{GossipActor, Introduce, Keys};
use super::protocol::{Admission, Answer, Call, HOPS_MAX, MemberStatus, NodeStatus, given_up};
use super::sight::{Seen, Sight};
use super::steward::{Steward, TableSlot, Unsettled, Waiting};
use crate::group::{Hosted, Shared, lock};
use crate::system::{Description, MemberEntry, SystemCommand, SystemOutcome};
use crate::transport::{CallAnswer, Peer};
use crate::wire;

/// Calls that may wait for the main arbiter. More are dropped unanswered; callers ask again.
pub(crate) const CALLS_WAITING_MAX: usize = 256;
/// How long an admission may take before the joiner is told to ask again.
const ADMISSION_PATIENCE: Duration = Duration::from_secs(3);

/// Where calls go in.
#[derive(Clone, Debug)]
pub(crate) struct Calls(mpsc::Sender<(Peer, Bytes, CallAnswer)>);

impl Calls {
    /// Starts answering on the current arbiter.
    pub(crate) fn start(desk: Arc<Desk>) -> Self {
        let (sender, mut calls) = mpsc::channel::<(Peer, Bytes, CallAnswer)>(CALLS_WAITING_MAX);
        actix_rt::spawn(async move {
            while let Some((from, frame, answer)) = calls.recv().await {
                let desk = desk.clone();
                actix_rt::spawn(async move {
                    let reply = match wire::decode::<Call>(&frame) {
                        Ok(call) => desk.answer(&from, call).await,
                        Err(error) => Answer::Refused {
                            reason: format!("the call does not decode: {error}"),
                        },
                    };
                    answer.send(wire::encode(&reply));
                });
            }
        });
        Self(sender)
    }

    /// Takes a call in, or drops it when too many wait.
    pub(crate) fn answer(&self, from: Peer, frame: Bytes, answer: CallAnswer) {
        let _full = self.0.try_send((from, frame, answer));
    }
}

/// What is needed to answer.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) shared: Arc<Shared>,
    pub(crate) gossip: Addr<GossipActor>,
    pub(crate) steward: Addr<Steward>,
    pub(crate) keys: Keys,
    pub(crate) sight: Sight,
    pub(crate) table: TableSlot,
    pub(crate) name: String,
    pub(crate) generation: u64,
    /// Answers seeds that have no data yet.
    pub(crate) founding: Mutex<Holder>,
}

impl Desk {
    async fn answer(&self, from: &Peer, call: Call) -> Answer {
        match call {
            Call::Join { member, hops } => self.join(from, member, hops).await,
            Call::Introduce { .. } if from.client => refused("a client cannot be a member"),
            Call::Introduce { record } if self.is_given_up(record.record().store.get()) => {
                let store = record.record().store.get();
                let state = lock(&self.shared.system);
                Answer::GivenUp {
                    reason: given_up(&state, store, &from.name),
                }
            }
            Call::Operate { wish, hops } => self.operate(from, wish, hops).await,
            Call::Introduce { record } => match self.gossip.send(Introduce(vec![record])).await {
                Ok(records) => Answer::View { records },
                Err(_) => not_now("the node is stopping"),
            },
            Call::Table => match self
                .table
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .as_ref()
            {
                Some(table) => Answer::Table(Box::new(wire::RoutingTable::clone(table))),
                None => not_now("the node does not know the placement yet"),
            },
            Call::Shards { from } => Answer::Shards(Box::new(self.shards(from).await)),
            Call::Status => Answer::Status(Box::new(self.status().await)),
            Call::Founding { to, messages } => match founding::misdirected(&to, &self.name) {
                Some(reason) => Answer::Refused { reason },
                None if from.client => refused("a client cannot found"),
                None => Answer::Founding {
                    messages: lock(&self.founding).answer(&from.name, messages),
                },
            },
        }
    }

    fn is_given_up(&self, store: u64) -> bool {
        lock(&self.shared.system).is_given_up(store)
    }

    async fn join(&self, from: &Peer, member: MemberEntry, hops: u8) -> Answer {
        if from.client {
            return refused("a client certificate cannot join: use a node certificate");
        }
        // The first hop proves the key by its certificate; later hops trust the member that relays.
        if hops == 0 && (member.key.as_ref() != from.key.as_bytes() || member.name != *from.name) {
            return refused("name and key must be those of the certificate");
        }
        if hops > 0 && from.store.is_none() {
            return refused("only members relay a join");
        }
        let description = Description {
            zone: member.zone.clone(),
            capacity: member.capacity,
        };
        if let Err(error) = description.check() {
            return refused(&error.to_string());
        }
        let Some(system) = self.shared.registry.get(GroupId::ZERO) else {
            return not_now("this node has no replica of the system group yet");
        };
        if !system.leads() {
            let hops = hops.saturating_add(1);
            let call = Call::Join { member, hops };
            return self.relay(system.leader_store(), call, hops).await;
        }
        if lock(&self.shared.system).founding.is_none() {
            return not_now("the cluster is being founded");
        }
        // Of a start nobody has heard yet: the log counts them from zero, whatever the joiner says.
        let member = MemberEntry {
            described: 0,
            ..member
        };
        match self.decide(&system, SystemCommand::Admit(member)).await {
            Ok(SystemOutcome::Admitted { store, replica }) => {
                let founding = lock(&self.shared.system).founding.clone();
                let Some(founding) = founding else {
                    return not_now("the cluster is being founded");
                };
                let records = self
                    .gossip
                    .send(Introduce(Vec::new()))
                    .await
                    .unwrap_or_default();
                self.keys.set(
                    lock(&self.shared.system)
                        .members
                        .iter()
                        .map(|(store, member)| (*store, member.key.clone())),
                );
                let keys = self.keys.all();
                Answer::Admitted(Box::new(Admission {
                    founding,
                    store,
                    replica,
                    keys,
                    records,
                }))
            }
            Ok(_) => not_now("the system group answered something else"),
            Err(answer) => answer,
        }
    }

    /// `hops` counts this relaying, too.
    pub(super) async fn relay(&self, leader: Option<u64>, call: Call, hops: u8) -> Answer {
        if hops > HOPS_MAX {
            return not_now("the leader of the system group keeps moving");
        }
        let address = leader.and_then(|leader| self.address_of(leader));
        let Some(address) = address else {
            return not_now("the system group has no known leader");
        };
        let call = wire::encode(&call);
        match self
            .shared
            .transport
            .call(address, call, ADMISSION_PATIENCE)
            .await
        {
            Ok(answer) => wire::decode(&answer)
                .unwrap_or_else(|_| not_now("the leader's answer does not decode")),
            Err(error) => not_now(&format!(
                "the leader of the system group does not answer: {error}"
            )),
        }
    }

    /// Has the system group, led here, decide a command. What it refused, or did not decide in time, is an answer already.
    pub(super) async fn decide(
        &self,
        system: &Hosted,
        command: SystemCommand,
    ) -> Result<SystemOutcome, Answer> {
        let outcome = match gate::propose(&self.shared, &self.sight, system, command) {
            Ok(outcome) => outcome,
            Err(reason) => return Err(Answer::Refused { reason }),
        };
        match tokio::time::timeout(ADMISSION_PATIENCE, outcome).await {
            Ok(Ok(SystemOutcome::Refused { reason })) => Err(Answer::Refused { reason }),
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(_)) | Err(_) => Err(not_now("the system group has no stable leader")),
        }
    }

    fn address_of(&self, store: u64) -> Option<SocketAddr> {
        self.sight.all().get(&store)?.addresses.first().copied()
    }

    /// The node as it is now.
    pub(crate) async fn status(&self) -> NodeStatus {
        let shared = &self.shared;
        let hosted = shared.registry.all();
        let led = hosted
            .iter()
            .filter(|(group, hosted)| *group != GroupId::ZERO && hosted.leads())
            .count() as u32;
        let leaderless = hosted
            .iter()
            .filter(|(_, hosted)| hosted.leader().is_none())
            .count() as u32;
        let behind = hosted
            .iter()
            .filter(|(_, hosted)| hosted.leader().is_some() && hosted.lags())
            .count();
        let system = shared.registry.get(GroupId::ZERO);
        let system_leader = system.as_ref().and_then(|system| system.leader_store());
        let unsettled = self.steward.send(Unsettled).await.ok().flatten();
        let table = self
            .table
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut notes = Vec::new();
        let electorate = system
            .as_ref()
            .map_or_else(BTreeSet::new, |system| system.voters());
        let announced = self.sight.announced(electorate);
        let (cluster, level, members, held, leaving, shortfalls, missing, recovered) = {
            let state = lock(&shared.system);
            let mut shortfalls = crate::system::shortfalls(&state);
            shortfalls.extend(state.held_back(shared.build, &announced));
            let missing = state
                .replicas_on(shared.store)
                .filter(|(group, replica)| {
                    shared
                        .registry
                        .get(*group)
                        .is_none_or(|hosted| hosted.replica != *replica)
                })
                .count();
            (
                state
                    .founding
                    .as_ref()
                    .map_or(0, |founding| founding.cluster),
                state.level,
                state.members.clone(),
                state.shards_by_store(),
                (state.draining.clone(), state.absent.clone()),
                shortfalls,
                missing,
                state.recoveries.last().map(crate::recovery::in_words),
            )
        };
        if members.len() < 3 && cluster != 0 {
            notes.push("one copy decides until a third node joins".to_owned());
        }
        notes.extend(shortfalls);
        notes.extend(self.steward.send(Waiting).await.ok().flatten());
        if missing > 0 {
            notes.push(format!("{missing} replicas are not created yet"));
        }
        if shared.overlays.disk_is_short() {
            notes.push("this node's disk is nearly full: it takes no commands and no copies, and others lead what they can, until there is room".to_owned());
        } else if shared.degraded.load(std::sync::atomic::Ordering::Relaxed) {
            notes.push("a thread of this node is stuck, so others lead what they can; if that goes on, restart it".to_owned());
        }
        let lost = lock(&shared.lost).len();
        if lost > 0 {
            notes.push(format!(
                "{lost} replicas stopped for good; they are replaced while a majority of their groups lives"
            ));
        }
        let seen = self.sight.all();
        if leaderless > 0 {
            notes.push(format!("{leaderless} groups have no known leader"));
            notes.extend(without_majority(&hosted, &members, &seen, shared.store));
        }
        if behind > 0 {
            notes.push(format!(
                "{behind} replicas have not caught up with their leaders yet"
            ));
        }
        notes.extend(recovered);
        let voters = system.as_ref().map(|system| system.voters());
        let voters = voters.unwrap_or_default();
        let members = members
            .into_iter()
            .map(|(store, member)| {
                let sight = seen.get(&store);
                let led = table.as_ref().map_or(0, |table| {
                    table
                        .shards
                        .iter()
                        .filter(|shard| shard.leader == Some(store))
                        .count() as u32
                });
                MemberStatus {
                    store,
                    name: member.name,
                    state: sight
                        .map_or("unknown", |seen| state_name(seen.state))
                        .to_owned(),
                    generation: sight.map_or(0, |seen| seen.generation),
                    level: sight.map_or(0, |seen| seen.level.get()),
                    zone: member.zone,
                    capacity: member.capacity,
                    roles: sight.map(|seen| seen.roles.clone()).unwrap_or_default(),
                    draining: leaving.0.contains(&store),
                    absent: leaving.1.contains(&store),
                    shards: held.get(&store).copied().unwrap_or(0),
                    votes: voters.contains(&store),
                    addresses: sight.map(|seen| seen.addresses.clone()).unwrap_or_default(),
                    led,
                }
            })
            .collect();
        let mut counters = shared.counters.named();
        let (claims, resting) = shared.claims(|claims| claims.counts());
        counters.push(("claims_issued".to_owned(), claims as u64));
        counters.push(("followers_resting".to_owned(), resting as u64));
        counters.extend(shared.freight.counters().named());
        counters.extend(
            shared
                .transport
                .counters()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value)),
        );
        let load = |counter: &std::sync::atomic::AtomicU64| {
            counter.load(std::sync::atomic::Ordering::Relaxed)
        };
        NodeStatus {
            name: self.name.clone(),
            store: shared.store,
            generation: self.generation,
            cluster,
            level: level.get(),
            uptime_s: shared.clock.now().as_secs(),
            ready: cluster != 0
                && missing == 0
                && leaderless == 0
                && behind == 0
                && table.is_some(),
            notes,
            replicas: hosted.len() as u32,
            led,
            leaderless,
            system_leader,
            unsettled,
            moves: load(&shared.counters.moves),
            fsyncs: shared.log.counters().fsyncs,
            commands: load(&shared.counters.answered),
            counters,
            members,
        }
    }
}

/// Says which groups here cannot go on because too many of their voters' nodes are missing, and which nodes those are.
fn without_majority(
    hosted: &[(GroupId, Arc<Hosted>)],
    members: &BTreeMap<u64, MemberEntry>,
    seen: &BTreeMap<u64, Seen>,
    me: u64,
) -> Option<String> {
    let present = |store: u64| {
        let state = seen.get(&store).map(|seen| seen.state);
        store == me || matches!(state, Some(MemberState::Alive | MemberState::Suspect))
    };
    let (mut shards, mut system, mut missed) = (0, false, BTreeSet::new());
    for (group, hosted) in hosted
        .iter()
        .filter(|(_, hosted)| hosted.leader().is_none())
    {
        let missing = hosted.missed(present);
        if missing.is_empty() {
            continue;
        }
        missed.extend(missing);
        match *group == GroupId::ZERO {
            true => system = true,
            false => shards += 1,
        }
    }
    let groups = match (system, shards) {
        (false, 0) => return None,
        (true, 0) => "the system group has".to_owned(),
        (false, shards) => format!("{shards} shards have"),
        (true, shards) => format!("the system group and {shards} shards have"),
    };
    let names: Vec<String> = missed
        .iter()
        .map(|store| match members.get(store) {
            Some(member) => member.name.clone(),
            None => format!("store {store}"),
        })
        .collect();
    Some(format!(
        "{groups} no majority while these nodes are missing: {}; start them again, or, if they are gone for good, see `synod recover --help`",
        names.join(", ")
    ))
}

fn state_name(state: MemberState) -> &'static str {
    match state {
        MemberState::Alive => "alive",
        MemberState::Suspect => "suspect",
        MemberState::Dead => "dead",
        MemberState::Left => "left",
    }
}

pub(super) fn refused(reason: &str) -> Answer {
    Answer::Refused {
        reason: reason.to_owned(),
    }
}

pub(super) fn not_now(reason: &str) -> Answer {
    Answer::NotNow {
        reason: reason.to_owned(),
    }
}
