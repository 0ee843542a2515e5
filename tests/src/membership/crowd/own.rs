//! This project's machine behind the seam.
//!
//! Here: [`Own`], a [`Swim`] with LAN timing.

use std::sync::Arc;
use std::time::Duration;

use synod_membership::{
    CheckedSwimOptions, LocalMember, MemberEvent, Metadata, Packet, SignedRecord, StoreId, Swim,
    SwimOptions, SwimOutput,
};

use super::super::process::Keys;
use super::{Effect, Machine, Sight};

/// A node of this project.
pub struct Own {
    swim: Swim,
}

fn store(node: usize) -> StoreId {
    StoreId::new(node as u64 + 1)
}

fn node(store: StoreId) -> usize {
    store.get() as usize - 1
}

fn options() -> CheckedSwimOptions {
    let Ok(options) = SwimOptions::lan().check() else {
        unreachable!("the preset holds together")
    };
    options
}

impl Own {
    /// The machine, to look into.
    pub fn swim(&self) -> &Swim {
        &self.swim
    }

    /// The machine, to do to it what the seam has no word for.
    pub fn swim_mut(&mut self) -> &mut Swim {
        &mut self.swim
    }

    /// Everybody's first record, made once per world.
    fn records(size: usize) -> Arc<Vec<SignedRecord>> {
        thread_local! {
            static RECORDS: core::cell::RefCell<Arc<Vec<SignedRecord>>> = core::cell::RefCell::default();
        }
        RECORDS.with_borrow_mut(|known| {
            if known.len() < size {
                let record = |node| {
                    let made = Self::new(node, 1, 0, Duration::ZERO).swim.view();
                    made.into_iter().next()
                };
                *known = Arc::new((0..size).filter_map(record).collect());
            }
            known.clone()
        })
    }
}

impl Machine for Own {
    type Packet = Box<Packet>;

    fn new(me: usize, size: usize, seed: u64, now: Duration) -> Self {
        let local = LocalMember {
            store: store(me),
            name: format!("node-{me}"),
            generation: 1,
            addresses: vec![([10, 0, (me >> 8) as u8, me as u8], 7_000).into()],
            metadata: Metadata {
                zone: Some(["a", "b", "c"][me % 3].to_owned()),
                capacity: 1,
                build: "0.1.0".to_owned(),
                ..Metadata::default()
            },
        };
        let made = Swim::new(options(), local, Box::new(Keys(store(me))), seed, now);
        let Ok(mut swim) = made else {
            unreachable!("short names fit")
        };
        swim.admitted(now, (0..size).map(store));
        Self { swim }
    }

    fn acquainted(me: usize, size: usize, seed: u64, now: Duration) -> Self {
        let mut own = Self::new(me, size, seed, now);
        let records = Self::records(size);
        own.swim.learn(now, records.iter().take(size).cloned());
        own
    }

    fn join(&mut self, seed: &mut Self, now: Duration) -> usize {
        let mut bytes = 0;
        if let Some(me) = self.swim.member(self.swim.me()) {
            bytes += me.signed().encoded_bytes();
            seed.swim.introduce(now, me.signed().clone());
        }
        let view = seed.swim.view();
        bytes += view.iter().map(SignedRecord::encoded_bytes).sum::<usize>();
        self.swim.learn(now, view);
        bytes
    }

    fn wake_at(&self) -> Duration {
        self.swim.wake_at()
    }

    fn tick(&mut self, now: Duration) {
        self.swim.tick(now);
    }

    fn receive(&mut self, now: Duration, from: usize, packet: Box<Packet>) {
        self.swim.receive(now, store(from), *packet);
    }

    fn poll(&mut self) -> Option<Effect<Box<Packet>>> {
        loop {
            let (to, reliable, packet) = match self.swim.poll_output()? {
                SwimOutput::Datagram { to, packet } => (to, false, packet),
                SwimOutput::Stream { to, packet } => (to, true, packet),
                SwimOutput::Event(
                    MemberEvent::Joined { store }
                    | MemberEvent::Died { store }
                    | MemberEvent::Left { store }
                    | MemberEvent::Returned { store }
                    | MemberEvent::Unsteady { store },
                ) => return Some(Effect::Seen(node(store))),
                _ => continue,
            };
            return Some(Effect::Send {
                to: node(to),
                reliable,
                bytes: packet.encoded_bytes(),
                packet: Box::new(packet),
            });
        }
    }

    fn sight(&self, node: usize) -> Sight {
        match self.swim.member(store(node)) {
            None => Sight::Unknown,
            Some(member) if member.is_present() => Sight::Present,
            Some(_) => Sight::Gone,
        }
    }
}
