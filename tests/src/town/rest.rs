//! Groups that rest: the claims of every node, the beats between nodes, and what replicas are told by them, as the runtime's `group::rest`
//! and `node::beats` do it.
//!
//! Here: [`Rest`], this part of a process and of [`World`]. In about every second world groups rest. Not here: claims and beats alone, with
//! clocks that differ and threads that stand still (`idle`).

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use synod::system::{Circle, ReplicaAddress, Ties};
use synod_consensus::claims::{Beat, Claims, ClaimsOutput};
use synod_consensus::{CheckedOptions, GroupId, GroupOptions, ReplicaKey};

use super::Sabotage;
use super::node::{Process, Replica};
use super::world::{Event, Packet, World};
use crate::violation::{Violation, broken};

/// Gap between beats.
const BEAT_EVERY: Duration = Duration::from_millis(100);
/// Heartbeats without anything to do after which a group of the runtime asks to rest.
const REST_AFTER: u16 = 4;

/// What groups at rest live by, in one process.
#[derive(Debug)]
pub(super) struct Rest {
    claims: Claims,
    /// Somebody carries out what the claims want done.
    drains: bool,
    beat_at: Duration,
    /// Who listens in the groups in which this node does; `None`: that changed.
    fellows: Option<BTreeSet<u64>>,
    /// When each store was last heard, by any packet.
    heard: BTreeMap<u64, Duration>,
}

impl Rest {
    pub(super) fn new(claims: Claims) -> Self {
        Self {
            claims,
            drains: false,
            beat_at: Duration::ZERO,
            fellows: None,
            heard: BTreeMap::new(),
        }
    }

    /// Other replicas are hosted here, or other members are known.
    pub(super) fn ties_change(&mut self) {
        self.fellows = None;
    }

    /// The next beat comes at that time.
    pub(super) fn beats_at(&mut self, at: Duration) {
        self.beat_at = at;
    }
}

/// The options of a group: the system group never rests.
pub(super) fn options_of(options: &CheckedOptions, rests: bool, group: GroupId) -> CheckedOptions {
    if !rests || group == GroupId::ZERO {
        return options.clone();
    }
    let options = GroupOptions {
        rest_after: REST_AFTER,
        ..(**options).clone()
    };
    options.check().expect("they did without")
}

impl World {
    /// Whether groups rest here is drawn from the seed, too.
    pub(super) fn draw_rest(self) -> Self {
        const SALT: u64 = 0x5e57; // another draw than any else
        let rests = ChaCha8Rng::seed_from_u64(self.seed ^ SALT).random_bool(0.5);
        self.resting(rests)
    }

    /// Groups with nothing to do rest here, or they never do. Where they do they are let, in most worlds, and what their leaders say once
    /// is lost in many.
    #[must_use]
    pub fn resting(mut self, rests: bool) -> Self {
        let (seldom, frames_lost) = match rests {
            true => (
                [1, 6, 30][(self.seed % 3) as usize],
                [0.0, 0.1, 0.5][(self.seed / 3 % 3) as usize],
            ),
            false => (1, 0.0),
        };
        self.network.frames_lost = frames_lost;
        self.rests = rests;
        self.append_every = self.scale.append_every * seldom;
        self
    }

    /// Tells a node's claims something, and carries out what they want done.
    pub(super) fn claims(
        &mut self,
        store: u64,
        input: impl FnOnce(&mut Claims),
    ) -> Result<(), Violation> {
        let Some(process) = self.process(store) else {
            return Ok(());
        };
        input(&mut process.rest.claims);
        if core::mem::replace(&mut process.rest.drains, true) {
            return Ok(()); // whoever is at it goes on
        }
        while let Some(output) =
            { self.process(store) }.and_then(|process| process.rest.claims.poll_output())
        {
            self.carry_out_claims(store, output)?;
        }
        if let Some(process) = self.process(store) {
            process.rest.drains = false;
        }
        Ok(())
    }

    fn carry_out_claims(&mut self, store: u64, output: ClaimsOutput) -> Result<(), Violation> {
        let now = self.now;
        match output {
            ClaimsOutput::Send { to, news } => self.send(store, to, Packet::News(news)),
            ClaimsOutput::Ask(asked) => {
                let mut rests = false;
                self.tell(store, asked.replica(), |replica| {
                    rests = replica.group.take_claim(now, &asked.claim);
                })?;
                if let Some(process) = self.process(store) {
                    process.rest.claims.answered(asked, rests);
                }
            }
            ClaimsOutput::Taken { claim, by } => self.tell(store, claim.leads(), |replica| {
                replica.group.claim_taken(now, &claim, by);
            })?,
            ClaimsOutput::Rouse(here) => {
                self.coverage.count("roused");
                self.tell(store, here, |replica| replica.group.rouse(now))?;
            }
            ClaimsOutput::Silent { here, leader } => {
                self.coverage.count("roused_by_silence");
                let of = ReplicaAddress::of(leader).store;
                self.tell(store, here, |replica| {
                    let follows = |leader: &_| ReplicaAddress::of(*leader).store == of;
                    if let Some(leader) = replica.leader.filter(follows) {
                        replica.group.peer_silent(now, leader);
                    }
                })?;
            }
            other => return broken("Nothing Unasked", format!("nobody knows of {other:?}")),
        }
        Ok(())
    }

    fn tell(
        &mut self,
        store: u64,
        key: ReplicaKey,
        input: impl FnOnce(&mut Replica),
    ) -> Result<(), Violation> {
        match self.replica(store, key.group) {
            Some(replica) if replica.key == key => self.drive(store, key.group, input),
            _ => Ok(()),
        }
    }

    /// Other replicas are hosted here, or other members are known.
    pub(super) fn ties_change(&mut self, store: u64) {
        if let Some(process) = self.process(store) {
            process.rest.ties_change();
        }
    }

    /// Something came from there.
    pub(super) fn heard_of(&mut self, store: u64, from: u64) {
        let (now, rests) = (self.now, self.rests);
        if let Some(process) = self.process(store)
            && rests
        {
            process.rest.heard.insert(from, now);
        }
    }

    pub(super) fn heard_beat(
        &mut self,
        store: u64,
        from: u64,
        beat: &Beat,
    ) -> Result<(), Violation> {
        let now = self.now;
        self.claims(store, |claims| claims.heard(now, from, beat))
    }

    /// A node that starts beats with all others, on multiples of the gap.
    pub(super) fn begin_beats(&mut self, store: u64) {
        let (now, life) = (self.now, self.nodes[&store].life);
        let passed = (now.as_nanos() % BEAT_EVERY.as_nanos()) as u64;
        let at = now + BEAT_EVERY - Duration::from_nanos(passed);
        if let Some(process) = self.process(store) {
            process.rest.beats_at(at);
            if self.rests {
                self.push_at(at, Event::Beat { store, life });
            }
        }
    }

    /// A node says that it lives, and judges who is silent.
    pub(super) fn beat(&mut self, store: u64) -> Result<(), Violation> {
        let (now, life) = (self.now, self.nodes[&store].life);
        let until = self.nodes[&store].paused_until;
        let rests = self.rests;
        let Some(process) = self.process(store) else {
            return Ok(());
        };
        if process.rest.beat_at != now || !rests {
            return Ok(()); // it beats at another time
        }
        if until > now {
            process.rest.beats_at(until);
            self.push_at(until, Event::Beat { store, life });
            return Ok(());
        }
        self.begin_beats(store);
        let alive = self.alive(store);
        let is_deaf = self.sabotage == Some(Sabotage::ListedUnheard);
        let Some(process) = self.process(store) else {
            return Ok(());
        };
        let partners: Vec<u64> = process.rest.claims.partners().collect();
        let mut to = process.fellows(store, !is_deaf).clone();
        to.extend(partners);
        to.retain(|other| *other != store && alive.contains(other));
        for other in to {
            let mut beat = None;
            self.claims(store, |claims| beat = Some(claims.beat(other)))?;
            if let Some(beat) = beat {
                self.send(store, other, Packet::Beat(beat));
            }
        }
        let Some(process) = self.process(store) else {
            return Ok(());
        };
        let heard = process.rest.heard.clone();
        self.claims(store, |claims| {
            claims.judge(now, |other| heard.get(&other).copied());
        })
    }
}

impl Process {
    /// To whom beats of this node of that store go.
    fn fellows(&mut self, store: u64, by_log: bool) -> &BTreeSet<u64> {
        let Self {
            hosted,
            rest,
            system,
            ..
        } = self;
        rest.fellows.get_or_insert_with(|| {
            let circles = hosted.iter().map(|(group, replica)| Circle {
                listeners: Circle::listeners(*group, &replica.group.status().configuration),
                leader: None, // who is silent is found out otherwise here
                listed: match by_log {
                    true => Circle::listed(*group, system),
                    false => BTreeSet::new(),
                },
            });
            Ties::of(store, circles).fellows
        })
    }
}
