//! What a claim changes.
//!
//! Here: the one order over claims and every rule that lets one in: signed records, accusations, the own store's refutation.
//! Not here: how claims travel ([`super::gossip`], [`super::sync`]).
//! Source: SWIM 4.2; DESIGN section 10; hazards M1 (a third party's "alive" resets nothing), M2 (stale is answered), M10 (an
//! accusation never adds), M12 (jumps are bounded), M19 and M22 (a restart wins at once), M41 and M42 (the log decides who may be
//! here), E32 (the store id is the key).

use core::time::Duration;

use super::flapping::Flaps;
use super::gossip::Class;
use super::members::Member;
use super::suspicion::Suspicion;
use super::{Counters, Phase, Swim, WAITING_MAX};
use crate::accusation::Accusation;
use crate::event::{MemberEvent, SwimOutput};
use crate::ids::StoreId;
use crate::record::{MemberState, SignedRecord};

/// Furthest an incarnation may jump within a generation. Honest ones move by one per refutation or change.
const INCARNATION_JUMP_MAX: u64 = 1 << 20;

/// What became of a claim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Merged {
    /// It changed something.
    News,
    /// Known, or nothing to be said about it.
    Known,
    /// This node knows newer, and owes it to whoever claimed.
    Stale,
    /// Against a rule; counted.
    Refused,
}

impl Swim {
    /// A record whose signature was checked.
    pub(super) fn merge_record(&mut self, now: Duration, signed: &SignedRecord) -> Merged {
        self.merge_record_of(now, signed, false)
    }

    /// A record whose signature was checked, out of a view that whoever told it tells the others too.
    pub(super) fn merge_old_record(&mut self, now: Duration, signed: &SignedRecord) -> Merged {
        self.merge_record_of(now, signed, true)
    }

    fn merge_record_of(&mut self, now: Duration, signed: &SignedRecord, is_old: bool) -> Merged {
        let store = signed.record().store;
        if store == self.me {
            return self.hear_of_oneself(signed);
        }
        if self.removed.contains(store) {
            Counters::add(&mut self.counters.refused_removed);
            return Merged::Refused;
        }
        if !self.admitted.contains(&store) {
            // M41: the log first. Kept for the moment when the log says so: it may be on its way to this node.
            Counters::add(&mut self.counters.refused_unadmitted);
            if self.waiting_records.len() < WAITING_MAX || self.waiting_records.contains_key(&store)
            {
                let kept = self
                    .waiting_records
                    .entry(store)
                    .or_insert_with(|| signed.clone());
                if kept.record().position() < signed.record().position() {
                    *kept = signed.clone();
                }
            }
            return Merged::Refused;
        }
        let (position, state) = (signed.record().position(), signed.record().state);
        let Some(held) = self.members.get(store) else {
            self.insert(now, signed, is_old);
            self.take_waiting_accusation(now, store);
            return Merged::News;
        };
        let known = held.position();
        if (position, state) == (known, held.state) {
            return Merged::Known;
        }
        if (position, state) < (known, held.state) {
            return Merged::Stale;
        }
        if position.generation == known.generation
            && position.incarnation - known.incarnation > INCARNATION_JUMP_MAX
        {
            Counters::add(&mut self.counters.refused_jumps);
            return Merged::Refused;
        }
        self.replace(now, signed, is_old);
        self.take_waiting_accusation(now, store);
        Merged::News
    }

    /// Of an unknown store; `is_old` when whoever told it tells the others too.
    fn insert(&mut self, now: Duration, signed: &SignedRecord, is_old: bool) {
        let (store, state) = (signed.record().store, signed.record().state);
        let member = Member {
            signed: signed.clone(),
            state,
            since: now,
            suspicion: None,
            flaps: Flaps::default(),
            refuted_at: None,
        };
        self.members.update(store, |slot| *slot = Some(member));
        self.pass_on(now, store, Class::Membership, is_old);
        if state == MemberState::Left {
            self.outputs
                .push_back(SwimOutput::Event(MemberEvent::Left { store }));
        } else {
            self.prober.enter(store, &mut self.rng);
            self.outputs
                .push_back(SwimOutput::Event(MemberEvent::Joined { store }));
        }
    }

    /// A record that came with an old view is no news, unless there was news about its subject already.
    fn pass_on(&mut self, now: Duration, store: StoreId, class: Class, is_old: bool) {
        if is_old && !self.news.has(store) {
            self.syncs.bore_fruit();
        } else {
            self.spread(now, store, class, true);
        }
    }

    /// Strictly newer than what is held.
    fn replace(&mut self, now: Duration, signed: &SignedRecord, is_old: bool) {
        let (store, state) = (signed.record().store, signed.record().state);
        let Some(held) = self.members.get(store) else {
            return;
        };
        let (before, after) = (held.record(), signed.record());
        let restarted = before.generation != after.generation;
        let changed = restarted
            || (&before.name, &before.addresses, &before.metadata)
                != (&after.name, &after.addresses, &after.metadata);
        let refuted_at = if changed {
            held.refuted_at.filter(|_| !restarted)
        } else {
            Some(now) // nothing but the incarnation is new
        };
        let member = Member {
            signed: signed.clone(),
            state,
            since: now,
            suspicion: None,
            flaps: held.flaps,
            refuted_at,
        };
        let Some(old) = self.members.update(store, |slot| slot.replace(member)) else {
            return;
        };
        self.suspects.remove(store);
        let class = if state == MemberState::Left || old.state != MemberState::Alive || !changed {
            Class::Liveness
        } else if restarted {
            Class::Membership
        } else {
            Class::Metadata
        };
        self.pass_on(now, store, class, is_old);
        if state == MemberState::Left {
            if old.state != MemberState::Left {
                self.outputs
                    .push_back(SwimOutput::Event(MemberEvent::Left { store }));
            }
            return;
        }
        if old.state != MemberState::Alive {
            Counters::add(&mut self.counters.returns);
            if old.state == MemberState::Dead {
                self.returned(now, store);
            } else if !old.flaps.is_held() {
                self.outputs
                    .push_back(SwimOutput::Event(MemberEvent::Returned { store }));
            } else {
                self.outputs
                    .push_back(SwimOutput::Event(MemberEvent::Unsteady { store }));
            }
        }
        if !old.is_present() {
            self.prober.enter(store, &mut self.rng);
        }
        if changed {
            self.outputs
                .push_back(SwimOutput::Event(MemberEvent::Changed { store }));
        }
    }

    /// A record of the own store, from elsewhere. Only this process signs newer ones; another one that did is a later start of
    /// this store, or a copy of it (hazard M20).
    fn hear_of_oneself(&mut self, signed: &SignedRecord) -> Merged {
        let own = self.position();
        let position = signed.record().position();
        let other_content = || {
            self.members
                .get(self.me)
                .is_some_and(|held| held.signed != *signed)
        };
        if position > own || position == own && other_content() {
            Counters::add(&mut self.counters.superseded);
            self.phase = Phase::Silent;
            self.outputs
                .push_back(SwimOutput::Event(MemberEvent::Superseded {
                    store: self.me,
                }));
            return Merged::Refused;
        }
        if position < own {
            Merged::Stale
        } else {
            Merged::Known
        }
    }

    /// An unsigned accusation: it starts or shortens a suspicion at exactly the position that is held, and nothing else.
    pub(super) fn merge_accusation(&mut self, now: Duration, accusation: &Accusation) -> Merged {
        let subject = accusation.subject;
        if accusation.accuser != self.me && !self.admitted.contains(&accusation.accuser) {
            Counters::add(&mut self.counters.refused_unadmitted);
            return Merged::Refused;
        }
        if subject == self.me {
            return self.accused_oneself(now, accusation);
        }
        let mut timing = self.timing();
        let Some(held) = self.members.get(subject) else {
            self.keep_waiting(accusation);
            return Merged::Refused; // M10
        };
        let known = held.position();
        if accusation.position() < known {
            return Merged::Stale;
        }
        if accusation.position() > known {
            self.keep_waiting(accusation);
            return Merged::Known;
        }
        if held.refuted_within(now, timing.refuted_memory) {
            timing = timing.with_patience();
        }
        match held.state {
            MemberState::Left => Merged::Stale,
            MemberState::Dead => Merged::Known,
            MemberState::Suspect => {
                let (fresh, deadline) = self.members.update(subject, |slot| {
                    let Some(suspicion) = slot
                        .as_mut()
                        .and_then(|member| member.suspicion.as_deref_mut())
                    else {
                        return (false, None);
                    };
                    let fresh = suspicion.add(now, accusation, &timing);
                    (fresh, Some(suspicion.deadline()))
                });
                if let Some(deadline) = deadline {
                    self.suspects.set(subject, deadline);
                }
                if !fresh {
                    return Merged::Known;
                }
                self.spread(now, subject, Class::Liveness, false);
                Merged::News
            }
            MemberState::Alive => {
                let suspicion = Suspicion::new(now, accusation, &timing);
                self.suspects.set(subject, suspicion.deadline());
                self.members.update(subject, |slot| {
                    if let Some(member) = slot {
                        member.state = MemberState::Suspect;
                        member.since = now;
                        member.suspicion = Some(Box::new(suspicion));
                    }
                });
                Counters::add(&mut self.counters.suspicions);
                self.spread(now, subject, Class::Liveness, false);
                if accusation.accuser != self.me {
                    self.check_soon(subject);
                }
                self.outputs
                    .push_back(SwimOutput::Event(MemberEvent::Suspected { store: subject }));
                Merged::News
            }
        }
    }

    /// Refutes by an incarnation one higher. An accusation at a position never reached moves nothing (M12): the answer is the
    /// own record as it is.
    fn accused_oneself(&mut self, now: Duration, accusation: &Accusation) -> Merged {
        if accusation.position() == self.position() && self.phase == Phase::Active {
            Counters::add(&mut self.counters.refutations);
            self.health.raise(1);
            self.restate(now, Class::Liveness, |_| {});
        }
        Merged::Stale
    }

    fn keep_waiting(&mut self, accusation: &Accusation) {
        if !self.admitted.contains(&accusation.subject) {
            return;
        }
        let full = self.waiting_accusations.len() >= WAITING_MAX;
        if full && !self.waiting_accusations.contains_key(&accusation.subject) {
            return;
        }
        let kept = self
            .waiting_accusations
            .entry(accusation.subject)
            .or_insert(*accusation);
        if (kept.position(), kept.verdict) < (accusation.position(), accusation.verdict) {
            *kept = *accusation;
        }
    }

    /// M2: an accusation that came before the record it is about.
    fn take_waiting_accusation(&mut self, now: Duration, subject: StoreId) {
        let Some(&accusation) = self.waiting_accusations.get(&subject) else {
            return;
        };
        let known = self.members.get(subject).map(Member::position);
        if known >= Some(accusation.position()) {
            self.waiting_accusations.remove(&subject);
            self.merge_accusation(now, &accusation);
        }
    }
}
