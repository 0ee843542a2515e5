//! Groups by the thousand that cost nothing while they rest: liveness between nodes instead of between replicas.
//!
//! Here: [`Claims`], one per node, a pure machine like [`Group`](crate::Group). A leader that has nothing to do claims its followers
//! ([`Output::Claim`](crate::Output::Claim)); their nodes ask them and answer; then nobody sends anything for that group. Instead the two
//! *nodes* exchange a [`Beat`] ten times a second, whatever the number of groups. The rooms: the claims on others (`issued`), those of
//! others on this node (`taken`), what is said (`message`).
//!
//! What a beat means: "all claims in version v of my list stand". So, for a follower that rests:
//! - its leader's process dies or cannot be heard: no beats, it looks for another leader after [`ClaimsOptions::silent_after`];
//! - its leader's replica stops, or its thread does not run, while the node beats on: the node takes the claim out of the list
//!   ([`Claims::gone`]), which is another version;
//! - news is lost: the beats name another version than it holds; the list is sent anew, or, when that cannot arrive either, it wakes;
//! - the node restarts: another life, no claim stands, on either side;
//! - the node was stopped for a while: one that was late itself judges nobody by what it may not have read yet.
//!
//! And for a leader that rests: a follower that wakes says so, by its node (an answer) or by itself (it asks for pre-votes); one that was
//! silent and is heard again is told who leads. A beat is never evidence for a lease, a vote or a commit: the claims of a leader that was
//! deposed, and does not know it, keep its followers from looking for another leader for as long as they follow *it*, and no others.
//! Source: DESIGN section 9. Left out of its rules is what only leases of leaders that rest would need: the first read after a rest asks a
//! quorum, so nobody echoes beats (5), supports a leader by a promise (4) or counts the turns of threads in beats (3; a node that sees a
//! thread of its own stand still withdraws what is claimed from there). All that rests under a silent node wakes at once (6): its
//! campaigns are spread by rank and chance, as those of groups that do not rest. Nobody passes on a hint when it refuses a vote (7): who
//! asks for votes asks the leader too, which then speaks up, and its node answers that it rests no more; each does without the other,
//! except that a learner asks nobody. Check-quorum does not run while a leader rests: one that nobody hears any more learns that by the
//! first thing that is wanted of it, for which it asks a quorum.

mod issued;
mod message;
mod options;
#[cfg(test)]
mod stories;
mod taken;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use self::message::{Beat, News};
pub use self::options::ClaimsOptions;
#[doc(hidden)]
pub use self::options::ClaimsSabotage;

use self::issued::Issued;
use self::message::NewsBody;
use self::taken::{Order, Taken};
use crate::{Claim, ReplicaId, ReplicaKey};

/// Intervals without a beat after which nothing rests any more under the claims of a node that is heard otherwise.
const BEATLESS: u32 = 20;

/// Which groups rest between this node and each other. Drain [`Claims::poll_output`] after each input.
#[derive(Debug)]
pub struct Claims {
    options: ClaimsOptions,
    /// Counts the starts of this node.
    life: u64,
    pairs: BTreeMap<u64, Pair>,
    judged_at: Option<Duration>,
    outputs: VecDeque<ClaimsOutput>,
}

/// This node and another one.
#[derive(Debug, Default)]
struct Pair {
    /// The other's present life; 0 before the first beat.
    life: u64,
    /// Of the last beat that was heard.
    heard: u64,
    heard_at: Duration,
    /// Of the last beat that was sent.
    sent: u64,
    silent: bool,
    issued: Issued,
    taken: Taken,
    /// Leaders here that rest without the replica of their group there, which was silent.
    without: BTreeSet<ReplicaKey>,
}

/// One thing to do.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ClaimsOutput {
    /// Send, in order, by a stream.
    Send {
        /// To which node.
        to: u64,
        /// What.
        news: News,
    },
    /// Give the claim to the replica `to` here ([`Group::take_claim`](crate::Group::take_claim)), then call [`Claims::answered`]; also,
    /// with `false`, if there is no such replica.
    Ask(Asked),
    /// Tell the leader here that `by` holds its claim ([`Group::claim_taken`](crate::Group::claim_taken)).
    Taken {
        /// The claim.
        claim: Claim,
        /// Who holds it.
        by: ReplicaId,
    },
    /// Wake this replica here ([`Group::rouse`](crate::Group::rouse)).
    Rouse(ReplicaKey),
    /// Tell this replica here that its leader is silent ([`Group::peer_silent`](crate::Group::peer_silent)).
    Silent {
        /// The replica.
        here: ReplicaKey,
        /// Its leader.
        leader: ReplicaId,
    },
}

/// A question to a replica.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Asked {
    /// The claim.
    pub claim: Claim,
    /// The replica.
    pub to: ReplicaId,
    /// The node whose claim it is.
    from: u64,
    since: u64,
}

impl Asked {
    /// Who is asked.
    pub fn replica(&self) -> ReplicaKey {
        ReplicaKey {
            group: self.claim.group,
            replica: self.to,
        }
    }
}

impl Claims {
    /// Those of a node in its `life`-th start, counted from 1.
    pub fn new(options: ClaimsOptions, life: u64) -> Self {
        Self {
            options,
            life,
            pairs: BTreeMap::new(),
            judged_at: None,
            outputs: VecDeque::new(),
        }
    }

    /// The next thing to do; `None`: nothing until the next input.
    pub fn poll_output(&mut self) -> Option<ClaimsOutput> {
        self.outputs.pop_front()
    }

    /// Nodes to which beats must go, besides those that share a group.
    pub fn partners(&self) -> impl Iterator<Item = u64> {
        let bound = |pair: &Pair| {
            !(pair.issued.is_empty() && pair.taken.is_empty() && pair.without.is_empty())
        };
        let bound = self.pairs.iter().filter(move |(_, pair)| bound(pair));
        bound.map(|(node, _)| *node)
    }

    /// Claims that this node has on others, and replicas that rest here under claims of others.
    pub fn counts(&self) -> (usize, usize) {
        let issued = self.pairs.values().map(|pair| pair.issued.len()).sum();
        let resting = self.pairs.values().map(|pair| pair.taken.resting()).sum();
        (issued, resting)
    }

    /// A leader here claims these replicas, each on its node ([`Output::Claim`](crate::Output::Claim)).
    pub fn claim(&mut self, claim: Claim, holders: &[(u64, ReplicaId)]) {
        for (node, pair) in &mut self.pairs {
            if !holders.iter().any(|(holder, _)| holder == node) {
                pair.issued.remove(claim.leads(), false);
            }
        }
        for (node, to) in holders {
            let pair = self.pairs.entry(*node).or_default();
            pair.issued.add(claim, *to);
        }
    }

    /// A leader here rests; its replicas on these nodes were silent ([`Output::Rests`](crate::Output::Rests)).
    pub fn rests(&mut self, leader: ReplicaKey, without: &[u64]) {
        for node in without {
            let forgets = self.is_sabotaged(ClaimsSabotage::AbsentForgotten);
            let pair = self.pairs.entry(*node).or_default();
            if pair.life > 0 && !pair.silent {
                // Its node lives, so the replica may speak at any moment: until it does, its leader beats for it.
                self.outputs.push_back(ClaimsOutput::Rouse(leader));
            } else if !forgets {
                pair.without.insert(leader);
            }
        }
    }

    /// A replica here has something to do ([`Output::Unclaimed`](crate::Output::Unclaimed)).
    pub fn unclaimed(&mut self, replica: ReplicaKey) {
        self.release(replica, false);
    }

    /// A replica here is no more, or its thread does not run: whoever rests under its claims needs another leader.
    pub fn gone(&mut self, replica: ReplicaKey) {
        if !self.is_sabotaged(ClaimsSabotage::DeadClaim) {
            self.release(replica, true);
        }
    }

    fn is_sabotaged(&self, bug: ClaimsSabotage) -> bool {
        self.options.sabotage == Some(bug)
    }

    fn release(&mut self, replica: ReplicaKey, lost: bool) {
        for pair in self.pairs.values_mut() {
            pair.issued.remove(replica, lost);
            pair.taken.woke(replica);
            pair.without.remove(&replica);
        }
    }

    /// A replica here was asked, and rests now, or not.
    pub fn answered(&mut self, asked: Asked, rests: bool) {
        let Asked {
            claim, from, since, ..
        } = asked;
        let pair = self.pairs.entry(from).or_default();
        let stands = pair.taken.answered(&claim, since, rests);
        if rests && !stands {
            // The claim was withdrawn while the replica was asked.
            self.outputs.push_back(ClaimsOutput::Rouse(asked.replica()));
        }
    }

    /// It is time for a beat to `node`: returns it, and puts out what has to go by stream. Never call it less often than
    /// [`ClaimsOptions::interval`] says.
    pub fn beat(&mut self, node: u64) -> Beat {
        let pair = self.pairs.entry(node).or_default();
        let (life, your_life) = (self.life, pair.life);
        pair.sent += 1;
        if your_life > 0 && !pair.silent {
            let outputs = &mut self.outputs;
            let mut send = |body| {
                let news = News {
                    life,
                    your_life,
                    body,
                };
                outputs.push_back(ClaimsOutput::Send { to: node, news });
            };
            pair.issued.flush(&self.options, &mut send);
            while let Some(answers) = pair.taken.take_answers(&self.options) {
                send(NewsBody::Answers(answers));
            }
        }
        Beat {
            life,
            serial: pair.sent,
            issued: pair.issued.version(),
            of: pair.life,
            held: pair.taken.version(),
            digest: pair.taken.digest(),
        }
    }

    /// A beat of `node` arrived.
    pub fn heard(&mut self, now: Duration, node: u64, beat: &Beat) {
        let pair = self.pairs.entry(node).or_default();
        if (beat.life, beat.serial) <= (pair.life, pair.heard) {
            return;
        }
        pair.heard = beat.serial;
        pair.heard_at = pair.heard_at.max(now);
        let confused = self.options.sabotage == Some(ClaimsSabotage::LivesConfused);
        let is_first = pair.life == 0;
        let is_another = beat.life > pair.life && !is_first && !confused;
        pair.life = beat.life;
        if core::mem::take(&mut pair.silent) || is_first || is_another {
            // Its replicas know nothing of what was decided without them.
            let leaders = core::mem::take(&mut pair.without).into_iter();
            self.outputs.extend(leaders.map(ClaimsOutput::Rouse));
        }
        if is_another {
            let claims = pair.issued.void();
            self.outputs
                .extend(claims.map(|claim| ClaimsOutput::Rouse(claim.leads())));
            let orders = pair.taken.void(true);
            carry_out(node, orders, &mut self.outputs);
            return;
        }
        if self.options.sabotage == Some(ClaimsSabotage::ListsTrusted) {
            return;
        }
        if pair.taken.compare(beat, &self.options) {
            let orders = pair.taken.void(false);
            carry_out(node, orders, &mut self.outputs);
        }
        let held = if beat.of == self.life { beat.held } else { 0 };
        let (life, your_life) = (self.life, pair.life);
        let outputs = &mut self.outputs;
        pair.issued
            .compare(held, beat.digest, &self.options, |body| {
                let news = News {
                    life,
                    your_life,
                    body,
                };
                outputs.push_back(ClaimsOutput::Send { to: node, news });
            });
    }

    /// News of `node` arrived.
    pub fn receive(&mut self, node: u64, news: News) {
        let pair = self.pairs.entry(node).or_default();
        if news.your_life != self.life || news.life != pair.life {
            return;
        }
        let deaf = self.options.sabotage == Some(ClaimsSabotage::RefusalsUnheard);
        let outputs = &mut self.outputs;
        match news.body {
            NewsBody::Delta {
                from,
                upto,
                whole,
                more,
                add,
                remove,
            } => {
                let mut orders = Vec::new();
                pair.taken
                    .delta(from, upto, whole, more, add, remove, |order| {
                        orders.push(order)
                    });
                carry_out(node, orders.into_iter(), outputs);
            }
            NewsBody::Answers(answers) => {
                for answer in answers.iter().filter(|answer| answer.rests || !deaf) {
                    match pair.issued.answer(answer) {
                        Some(Ok((claim, by))) => {
                            outputs.push_back(ClaimsOutput::Taken { claim, by });
                        }
                        Some(Err(claim)) => outputs.push_back(ClaimsOutput::Rouse(claim.leads())),
                        None => {}
                    }
                }
            }
        }
    }

    /// Looks who is silent; call it once in an interval. `heard` says when anything of a node was last heard, beside its beats.
    pub fn judge(&mut self, now: Duration, heard: impl Fn(u64) -> Option<Duration>) {
        let before = self.judged_at.replace(now);
        let since = before.map_or(Duration::ZERO, |before| now.saturating_sub(before));
        // Who was late itself has not read yet what may be waiting (E22).
        if since > self.options.interval * 2 && !self.is_sabotaged(ClaimsSabotage::LateJudges) {
            return;
        }
        for (node, pair) in &mut self.pairs {
            let last = heard(*node).map_or(pair.heard_at, |at| at.max(pair.heard_at));
            if pair.life == 0 {
                continue;
            }
            if now.saturating_sub(last) < self.options.silent_after {
                // It is heard, but it says nothing of what it claims.
                if now.saturating_sub(pair.heard_at) >= self.options.interval * BEATLESS {
                    let orders = pair.taken.void(false);
                    carry_out(*node, orders, &mut self.outputs);
                }
                continue;
            }
            if !core::mem::replace(&mut pair.silent, true) {
                // Leaders here find out who is there, and rest without it.
                let claims = pair.issued.held();
                self.outputs
                    .extend(claims.map(|claim| ClaimsOutput::Rouse(claim.leads())));
            }
            let orders = pair.taken.void(true);
            carry_out(*node, orders, &mut self.outputs);
        }
    }
}

fn carry_out(from: u64, orders: impl Iterator<Item = Order>, outputs: &mut VecDeque<ClaimsOutput>) {
    outputs.extend(orders.map(|order| match order {
        Order::Ask { claim, to, since } => ClaimsOutput::Ask(Asked {
            claim,
            to,
            from,
            since,
        }),
        Order::Rouse { claim, to, lost } => {
            let (group, leader) = (claim.group, claim.leader);
            let here = ReplicaKey { group, replica: to };
            match lost {
                true => ClaimsOutput::Silent { here, leader },
                false => ClaimsOutput::Rouse(here),
            }
        }
    }));
}
