//! The claims that one other node has on this one.
//!
//! Here: [`Taken`]: the list as the other sent it, and which of its groups rest here under it. Not here: the other side
//! ([`super::issued`]).

use std::collections::BTreeMap;

use super::message::{Added, Answer, Beat, Removed, digest};
use super::options::ClaimsOptions;
use crate::{Claim, GroupId, ReplicaId, ReplicaKey};

#[derive(Debug, Default)]
pub(super) struct Taken {
    version: u64,
    claims: BTreeMap<GroupId, TakenClaim>,
    /// Of those that rest here.
    digest: u64,
    /// A list that begins anew is coming in pages.
    renewing: bool,
    /// Beats in a row that named another version while this one stood still; and this one.
    behind: (u32, u64),
    /// To be sent.
    answers: Vec<Answer>,
}

#[derive(Clone, Copy, Debug)]
struct TakenClaim {
    claim: Claim,
    to: ReplicaId,
    since: u64,
    rests: bool,
    /// Not seen again yet in the list that is coming anew.
    unseen: bool,
}

/// What is to be done at a replica here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    Ask {
        claim: Claim,
        to: ReplicaId,
        since: u64,
    },
    Rouse {
        claim: Claim,
        to: ReplicaId,
        lost: bool,
    },
}

impl Taken {
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.answers.is_empty()
    }

    /// Number of groups that rest here under it.
    pub(super) fn resting(&self) -> usize {
        self.claims.values().filter(|taken| taken.rests).count()
    }

    /// Applies one piece of the list, if it follows on what is held.
    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(super) fn delta(
        &mut self,
        from: u64,
        upto: u64,
        whole: bool,
        more: bool,
        add: Vec<Added>,
        remove: Vec<Removed>,
        mut order: impl FnMut(Order),
    ) {
        if whole {
            self.claims
                .values_mut()
                .for_each(|taken| taken.unseen = true);
            self.renewing = true;
        } else if from != self.version {
            return;
        }
        self.version = upto;
        for Removed { group, lost } in remove {
            self.drop_claim(group, lost, &mut order);
        }
        for Added { claim, to } in add {
            let known = self.claims.get_mut(&claim.group);
            if let Some(known) = known.filter(|known| (known.claim, known.to) == (claim, to)) {
                known.unseen = false;
                known.since = upto;
                if known.rests {
                    let (group, since, rests) = (claim.group, upto, true);
                    self.answers.push(Answer {
                        group,
                        since,
                        rests,
                    });
                    continue;
                }
            } else {
                // What rests under another claim is asked anew, and wakes if this one is not true of it.
                self.forget(claim.group);
                let taken = TakenClaim {
                    claim,
                    to,
                    since: upto,
                    rests: false,
                    unseen: false,
                };
                self.claims.insert(claim.group, taken);
            }
            let since = upto;
            order(Order::Ask { claim, to, since });
        }
        if self.renewing && !more {
            self.renewing = false;
            let unseen = self.claims.iter().filter(|(_, taken)| taken.unseen);
            let gone: Vec<GroupId> = unseen.map(|(group, _)| *group).collect();
            for group in gone {
                self.drop_claim(group, false, &mut order);
            }
        }
    }

    fn forget(&mut self, group: GroupId) -> Option<TakenClaim> {
        let taken = self.claims.remove(&group)?;
        if taken.rests {
            self.digest ^= digest(&taken.claim);
        }
        Some(taken)
    }

    fn drop_claim(&mut self, group: GroupId, lost: bool, order: &mut impl FnMut(Order)) {
        // Also one that has only been asked: it may rest by now.
        if let Some(TakenClaim { claim, to, .. }) = self.forget(group) {
            order(Order::Rouse { claim, to, lost });
        }
    }

    /// The replica that was asked says whether it rests. Returns whether it should.
    pub(super) fn answered(&mut self, claim: &Claim, since: u64, rests: bool) -> bool {
        let group = claim.group;
        let Some(taken) = self.claims.get_mut(&group) else {
            return false;
        };
        if taken.claim != *claim {
            return true; // the answer to the later question counts
        }
        if taken.since != since {
            return true; // it is asked again
        }
        if core::mem::replace(&mut taken.rests, rests) != rests {
            self.digest ^= digest(claim);
        }
        self.answers.push(Answer {
            group,
            since,
            rests,
        });
        true
    }

    /// A replica here wakes by itself, or is no more.
    pub(super) fn woke(&mut self, ReplicaKey { group, replica }: ReplicaKey) {
        if let Some(taken) = self.claims.get_mut(&group)
            && taken.to == replica
            && core::mem::take(&mut taken.rests)
        {
            self.digest ^= digest(&taken.claim);
            let since = taken.since;
            self.answers.push(Answer {
                group,
                since,
                rests: false,
            });
        }
    }

    /// The other node named the version of its list. Returns whether that has been another one than this for too long.
    pub(super) fn compare(&mut self, beat: &Beat, options: &ClaimsOptions) -> bool {
        let (count, at) = self.behind;
        let is_behind = beat.issued != self.version && !self.claims.is_empty();
        let count = if is_behind && at == self.version {
            count + 1
        } else {
            0
        };
        self.behind = (count, self.version);
        count > options.behind_most
    }

    /// Gives all of it up; what rested has to look for a leader.
    pub(super) fn void(&mut self, lost: bool) -> impl Iterator<Item = Order> + use<> {
        let claims = core::mem::take(self).claims;
        claims
            .into_values()
            .map(move |TakenClaim { claim, to, .. }| Order::Rouse { claim, to, lost })
    }

    /// Takes up to a page of answers.
    pub(super) fn take_answers(&mut self, options: &ClaimsOptions) -> Option<Vec<Answer>> {
        let count = self.answers.len().min(options.page);
        (count > 0).then(|| self.answers.drain(..count).collect())
    }
}
