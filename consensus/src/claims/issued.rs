//! The claims that this node has on one other.
//!
//! Here: [`Issued`]: what is claimed there, in versions that follow each other without gap, and what of it the other confirmed.
//! Not here: the other side ([`super::taken`]).

use std::collections::BTreeMap;

use super::message::{Added, Answer, NewsBody, Removed, digest};
use super::options::ClaimsOptions;
use crate::{Claim, GroupId, ReplicaId, ReplicaKey};

#[derive(Debug, Default)]
pub(super) struct Issued {
    /// Of the list as it was last sent.
    version: u64,
    claims: BTreeMap<GroupId, IssuedClaim>,
    /// Changes that are not sent yet: `None`, an addition.
    unsent: BTreeMap<GroupId, Option<Removed>>,
    /// Of those that the other holds.
    digest: u64,
    /// What the last beat said: version held, digest held, digest here; and how often in a row it said what is not so.
    last: (u64, u64, u64),
    differs: u32,
    /// After how many beats the list is sent anew, doubled each time.
    patience: u32,
}

#[derive(Clone, Copy, Debug)]
struct IssuedClaim {
    claim: Claim,
    to: ReplicaId,
    /// The version that it was last sent in.
    since: u64,
    held: bool,
}

impl Issued {
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.unsent.is_empty()
    }

    /// Number of groups claimed there.
    pub(super) fn len(&self) -> usize {
        self.claims.len()
    }

    /// Those that the other confirmed.
    pub(super) fn held(&self) -> impl Iterator<Item = Claim> {
        let held = self.claims.values().filter(|issued| issued.held);
        held.map(|issued| issued.claim)
    }

    /// Claims `to` for `claim`; anew, if it is claimed already.
    pub(super) fn add(&mut self, claim: Claim, to: ReplicaId) {
        self.drop_claim(claim.group);
        let since = 0; // until it is sent
        let held = false;
        self.claims.insert(
            claim.group,
            IssuedClaim {
                claim,
                to,
                since,
                held,
            },
        );
        self.unsent.insert(claim.group, None);
    }

    /// Withdraws a claim of that leader.
    pub(super) fn remove(&mut self, leader: ReplicaKey, lost: bool) {
        let group = leader.group;
        let claimed = self.claims.get(&group);
        if claimed.is_some_and(|issued| issued.claim.leads() == leader) {
            self.drop_claim(group);
            self.unsent.insert(group, Some(Removed { group, lost }));
        }
    }

    fn drop_claim(&mut self, group: GroupId) {
        if let Some(former) = self.claims.remove(&group)
            && former.held
        {
            self.digest ^= digest(&former.claim);
        }
    }

    /// The other side is another process now, or knows nothing any more: gives back all that was claimed.
    pub(super) fn void(&mut self) -> impl Iterator<Item = Claim> + use<> {
        let claims = core::mem::take(self).claims;
        claims.into_values().map(|issued| issued.claim)
    }

    /// What is to be sent; in pages.
    pub(super) fn flush(&mut self, options: &ClaimsOptions, mut send: impl FnMut(NewsBody)) {
        let patience = self.patience.max(options.patience);
        if self.differs >= patience && !self.unsent.is_empty() {
            // It would not follow on what the other holds.
            self.differs = 0;
            self.patience = (patience * 2).min(options.patience_most);
            return self.send_whole(options, send);
        }
        while !self.unsent.is_empty() {
            let rest = match self.unsent.keys().nth(options.page).copied() {
                Some(next) => self.unsent.split_off(&next),
                None => BTreeMap::new(),
            };
            let page = core::mem::replace(&mut self.unsent, rest);
            let (from, upto) = (self.version, self.version + 1);
            let mut add = Vec::new();
            let mut remove = Vec::new();
            for (group, change) in page {
                match (change, self.claims.get_mut(&group)) {
                    (None, Some(issued)) => add.push(issued.sent_in(upto)),
                    (None, None) => {}
                    (Some(removed), _) => remove.push(removed),
                }
            }
            self.version = upto;
            send(NewsBody::Delta {
                from,
                upto,
                whole: false,
                more: false,
                add,
                remove,
            });
        }
    }

    /// The whole list, in pages.
    fn send_whole(&mut self, options: &ClaimsOptions, mut send: impl FnMut(NewsBody)) {
        self.unsent.clear();
        let mut claims = self.claims.values_mut().peekable();
        let mut whole = true;
        loop {
            let (from, upto) = (self.version, self.version + 1);
            let page = claims.by_ref().take(options.page);
            let add = page.map(|issued| issued.sent_in(upto)).collect();
            let more = claims.peek().is_some();
            self.version = upto;
            send(NewsBody::Delta {
                from,
                upto,
                whole,
                more,
                add,
                remove: Vec::new(),
            });
            whole = false;
            if !more {
                return;
            }
        }
    }

    /// A beat said which version the other holds, and what rests there under it. Sends the list anew when it has said otherwise than it
    /// is here for some beats in a row, during which nothing changed: something was lost.
    pub(super) fn compare(
        &mut self,
        held: u64,
        theirs: u64,
        options: &ClaimsOptions,
        send: impl FnMut(NewsBody),
    ) {
        let now = (held, theirs, self.digest);
        let before = core::mem::replace(&mut self.last, now);
        if held == self.version && theirs == self.digest {
            self.differs = 0;
            self.patience = 0;
            return;
        }
        // Behind a lost piece the other side gets no further, however much is sent.
        let stands = if held == self.version {
            before == now
        } else {
            before.0 == held
        };
        self.differs = if stands { self.differs + 1 } else { 0 };
        if self.claims.is_empty() && theirs == 0 {
            return; // nothing is claimed, and nothing rests: that can wait for the next claim
        }
        let patience = self.patience.max(options.patience);
        if self.differs >= patience {
            self.differs = 0;
            self.patience = (patience * 2).min(options.patience_most);
            self.send_whole(options, send);
        }
    }

    /// What became of a claim: `Ok` if its replica rests now, `Err` if it does not; `None` if the answer is of the past, or no news.
    pub(super) fn answer(&mut self, answer: &Answer) -> Option<Result<(Claim, ReplicaId), Claim>> {
        let issued = self.claims.get_mut(&answer.group)?;
        if issued.since != answer.since {
            return None;
        }
        let claim = issued.claim;
        if !answer.rests {
            self.remove(claim.leads(), false);
            return Some(Err(claim));
        }
        if core::mem::replace(&mut issued.held, true) {
            return None;
        }
        self.digest ^= digest(&claim);
        Some(Ok((claim, issued.to)))
    }
}

impl IssuedClaim {
    fn sent_in(&mut self, version: u64) -> Added {
        self.since = version;
        Added {
            claim: self.claim,
            to: self.to,
        }
    }
}
