//! Drives the pure gossip machine: its timer, its packets, what it learns.
//!
//! Here: [`GossipActor`] on the node's main arbiter, and the keys that verify records ([`Keys`]). Not here: the rules
//! (`synod-membership`), who is a member (`system`).

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, SpawnHandle};
use bytes::Bytes;
use synod_membership::{
    MemberEvent, MemberState, Packet, SignedRecord, StoreId, Swim, SwimOutput, Verifier,
};
use tokio::sync::oneshot;

use super::sight::{Seen, Sight};
use crate::group::{Counters, Shared};
use crate::system::{Description, Level};
use crate::transport::{Lane, PublicKey, Signer};

/// By how much a timer may be early: an answered probe leaves one that nobody waits for, well before the next probe.
const EARLY: Duration = Duration::from_millis(20);
/// Gossip packets that may wait. Beyond, they are dropped: gossip repeats itself.
const GOSSIP_MAILBOX: usize = 1_024;

/// The certificate keys of the members, as the system log names them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys(Arc<RwLock<BTreeMap<u64, PublicKey>>>);

impl Keys {
    pub(crate) fn set(&self, keys: impl IntoIterator<Item = (u64, Bytes)>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (store, key) in keys {
            if let Ok(key) = <[u8; 32]>::try_from(key.as_ref()) {
                known.insert(store, PublicKey::new(key));
            }
        }
    }

    pub(crate) fn get(&self, store: u64) -> Option<PublicKey> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&store)
            .copied()
    }

    pub(crate) fn all(&self) -> Vec<(u64, Bytes)> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .map(|(store, key)| (*store, Bytes::copy_from_slice(key.as_bytes())))
            .collect()
    }
}

impl Verifier for Keys {
    fn verify(&self, store: StoreId, bytes: &[u8], signature: &[u8]) -> bool {
        self.get(store.get())
            .is_some_and(|key| key.verify(bytes, signature))
    }
}

/// Signs the own record with the certificate's key.
#[derive(Debug)]
pub(crate) struct RecordSigner(pub(crate) Signer);

impl synod_membership::Signer for RecordSigner {
    fn sign(&self, bytes: &[u8]) -> Bytes {
        self.0.sign(bytes)
    }
}

/// The actor.
pub(crate) struct GossipActor {
    swim: Swim,
    shared: Arc<Shared>,
    keys: Keys,
    sight: Sight,
    timer: Option<(Duration, SpawnHandle)>,
    left: Option<oneshot::Sender<()>>,
}

impl std::fmt::Debug for GossipActor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GossipActor").finish_non_exhaustive()
    }
}

impl GossipActor {
    pub(crate) fn new(swim: Swim, shared: Arc<Shared>, keys: Keys, sight: Sight) -> Self {
        Self {
            swim,
            shared,
            keys,
            sight,
            timer: None,
            left: None,
        }
    }

    fn now(&self) -> Duration {
        self.shared.clock.now()
    }

    fn flush(&mut self, ctx: &mut Context<Self>) {
        let mut seen_changed = false;
        while let Some(output) = self.swim.poll_output() {
            match output {
                SwimOutput::Datagram { to, packet } => {
                    let bytes = Bytes::from(packet.encode());
                    if self
                        .shared
                        .transport
                        .datagram(to.get(), tag(TAG_GOSSIP, &bytes))
                        .is_err()
                    {
                        let now = self.now();
                        self.swim.send_failed(now, to);
                    }
                }
                SwimOutput::Stream { to, packet } => {
                    let frame = Bytes::from(packet.encode());
                    // Refused = the peer is away; the machine's timer judges that.
                    let _refused = self
                        .shared
                        .transport
                        .send(to.get(), Lane::Gossip, vec![frame]);
                }
                SwimOutput::Event(event) => {
                    seen_changed = true;
                    self.event(event);
                }
                other => tracing::warn!(?other, "output of a newer gossip machine is not handled"),
            }
        }
        if seen_changed {
            self.publish();
        }
        self.arm(ctx);
    }

    fn event(&mut self, event: MemberEvent) {
        match event {
            MemberEvent::Superseded { store } if store.get() == self.shared.store => {
                self.shared.fail(
                    "a later start of this store runs elsewhere: this process must not go on",
                );
            }
            MemberEvent::Left { store } if store.get() == self.shared.store => {
                if let Some(left) = self.left.take() {
                    let _gone = left.send(());
                }
            }
            MemberEvent::Isolated { store } => {
                tracing::error!(%store, "this node has served badly for too long: restart it");
            }
            event => {
                if let MemberEvent::Died { store, .. } = event {
                    Counters::bump(&self.shared.counters.members_died);
                    tracing::warn!("member {store} is held dead: nobody reaches it");
                }
                tracing::info!(?event, "membership changed");
            }
        }
    }

    fn publish(&self) {
        let mut seen = BTreeMap::new();
        for member in self.swim.members() {
            let record = member.record();
            if record.store.get() != self.shared.store {
                self.shared
                    .transport
                    .set_address(record.store.get(), record.addresses.clone());
            }
            seen.insert(
                record.store.get(),
                Seen {
                    // Who flaps or calls itself degraded is not to be relied on, and not gone either.
                    state: match member.state() {
                        MemberState::Alive if !member.is_steady() => MemberState::Suspect,
                        state => state,
                    },
                    generation: record.generation,
                    addresses: record.addresses.clone(),
                    level: Level::new(record.metadata.versions.system),
                    description: Description {
                        zone: record.metadata.zone.clone(),
                        capacity: record.metadata.capacity,
                    },
                    roles: record.metadata.roles.clone(),
                },
            );
        }
        self.sight.publish(seen);
        self.shared.touch();
    }

    /// What the machine cannot know: whether this node is well (M26), and what its connections carry (M48).
    fn heed_node(&mut self, now: Duration) {
        let shared = &self.shared;
        let degraded = shared.degraded.load(Ordering::Relaxed);
        self.swim.set_degraded(now, degraded);
        let others = self
            .swim
            .members()
            .map(|member| member.record().store.get());
        // Also to those who are not connected yet: what they will carry is assumed to be little.
        if let Some(bytes) = packet_budget(others.map(|to| shared.transport.max_datagram(to))) {
            self.swim.set_datagram_bytes(bytes);
        }
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        let wake_at = self.swim.wake_at();
        if let Some((armed, handle)) = self.timer {
            // One that rings a little early is cheaper than another one; one that rings in vain wakes the thread.
            if armed <= wake_at && wake_at - armed < EARLY {
                return;
            }
            ctx.cancel_future(handle);
        }
        let handle = ctx.run_later(wake_at.saturating_sub(self.now()), |actor, ctx| {
            actor.timer = None;
            let now = actor.now();
            actor.heed_node(now);
            actor.swim.tick(now);
            actor.flush(ctx);
        });
        self.timer = Some((wake_at, handle));
    }
}

impl Actor for GossipActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(GOSSIP_MAILBOX);
        self.publish();
        self.flush(ctx);
    }
}

/// Datagrams begin with what they are.
pub(crate) const TAG_GOSSIP: u8 = 1;
/// A beat: "this process runs".
pub(crate) const TAG_BEAT: u8 = 2;

/// Puts a tag before a datagram's body.
pub(crate) fn tag(tag: u8, body: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(body.len() + 1);
    bytes.push(tag);
    bytes.extend_from_slice(body);
    Bytes::from(bytes)
}

/// What the machine may put into one packet when the connections carry datagrams of so many bytes each: a packet may go to any of
/// them, behind its tag. `None` without any other member: the machine's own assumption stands.
fn packet_budget(datagrams: impl Iterator<Item = usize>) -> Option<usize> {
    Some(datagrams.min()?.saturating_sub(1))
}

/// A packet from another member, decoded within its bounds and not yet verified.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Heard {
    pub(crate) from: u64,
    pub(crate) packet: Packet,
}

impl Handler<Heard> for GossipActor {
    type Result = ();
    fn handle(&mut self, Heard { from, mut packet }: Heard, ctx: &mut Self::Context) {
        for _ in 0..self.swim.screen(&mut packet, &self.keys) {
            Counters::bump(&self.shared.counters.records_unverified);
        }
        let now = self.now();
        self.swim.receive(now, StoreId::new(from), packet);
        self.flush(ctx);
    }
}

/// Somebody introduces itself; answered with the whole view.
#[derive(Debug, actix::Message)]
#[rtype(result = "Vec<SignedRecord>")]
pub(crate) struct Introduce(pub(crate) Vec<SignedRecord>);

/// What another node answered to an introduction or a join: its view. No news to anybody else.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Learn(pub(crate) Vec<SignedRecord>);

impl Handler<Introduce> for GossipActor {
    type Result = actix::MessageResult<Introduce>;
    fn handle(&mut self, Introduce(records): Introduce, ctx: &mut Self::Context) -> Self::Result {
        let now = self.now();
        for record in self.signed_ones(records) {
            self.swim.introduce(now, record);
        }
        self.flush(ctx);
        self.publish();
        actix::MessageResult(self.swim.view())
    }
}

impl Handler<Learn> for GossipActor {
    type Result = ();
    fn handle(&mut self, Learn(records): Learn, ctx: &mut Self::Context) {
        let now = self.now();
        let records = self.signed_ones(records);
        self.swim.learn(now, records);
        self.flush(ctx);
        self.publish();
    }
}

impl GossipActor {
    /// Those whose subject's key signed them. Of the others at least the address is worth a try, where no key is known.
    fn signed_ones(&self, records: Vec<SignedRecord>) -> Vec<SignedRecord> {
        let is_signed = |record: &SignedRecord| {
            let subject = record.record();
            if record.is_signed(&self.keys) {
                return true;
            }
            if self.keys.get(subject.store.get()).is_none()
                && subject.store.get() != self.shared.store
            {
                // The system log here does not know the store yet, perhaps because this node hears nobody. An address
                // is only where to dial: the certificate and the hello decide who answers there.
                let (store, addresses) = (subject.store.get(), subject.addresses.clone());
                self.shared.transport.set_address(store, addresses);
            } else {
                Counters::bump(&self.shared.counters.records_unverified);
            }
            false
        };
        records.into_iter().filter(is_signed).collect()
    }
}

/// Who is a member, by the system log.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Admitted(pub(crate) Vec<u64>);

impl Handler<Admitted> for GossipActor {
    type Result = ();
    fn handle(&mut self, Admitted(stores): Admitted, ctx: &mut Self::Context) {
        let now = self.now();
        self.swim
            .admitted(now, stores.into_iter().map(StoreId::new));
        self.flush(ctx);
    }
}

/// Who is none any more, by the system log.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct GivenUp(pub(crate) Vec<u64>);

impl Handler<GivenUp> for GossipActor {
    type Result = ();
    fn handle(&mut self, GivenUp(stores): GivenUp, ctx: &mut Self::Context) {
        for store in stores {
            self.swim.removed(StoreId::new(store));
        }
        self.flush(ctx);
        self.publish();
    }
}

/// Say goodbye; answered when the goodbye was spread.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Leave(pub(crate) oneshot::Sender<()>);

impl Handler<Leave> for GossipActor {
    type Result = ();
    fn handle(&mut self, Leave(done): Leave, ctx: &mut Self::Context) {
        self.left = Some(done);
        let now = self.now();
        self.swim.leave(now);
        self.flush(ctx);
    }
}

/// The node stops.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

impl Handler<Stop> for GossipActor {
    type Result = ();
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_fits_the_narrowest_connection_behind_its_tag() {
        // M43, M48: above what a path takes a datagram never arrives.
        assert_eq!(
            packet_budget([1_414, 1_162, 1_300].into_iter()),
            Some(1_161)
        );
        assert_eq!(packet_budget([].into_iter()), None);
        let packet = vec![7; 1_161];
        assert_eq!(tag(TAG_GOSSIP, &packet).len(), 1_162);
    }
}
