//! Two nodes and their claims, told step by step. Whole groups under storms are in the crate `tests` (`idle`).

use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};

use super::{Asked, Beat, Claims, ClaimsOptions, ClaimsOutput, News};
use crate::{Claim, GroupId, LogIndex, ReplicaId, ReplicaKey, Term};

/// Node 1 leads, node 2 follows.
const LEADER: u64 = 1;
const FOLLOWER: u64 = 2;

fn claim(group: u64) -> Claim {
    Claim {
        group: GroupId::new(group),
        term: Term::new(3),
        leader: ReplicaId::new(100 + group),
        last: LogIndex::new(9),
    }
}

fn holder(group: u64) -> ReplicaId {
    ReplicaId::new(200 + group)
}

fn follows(group: u64) -> ReplicaKey {
    ReplicaKey {
        group: GroupId::new(group),
        replica: holder(group),
    }
}

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

struct Two {
    leader: Claims,
    follower: Claims,
    now: Duration,
    /// Groups whose follower takes no claim.
    unwilling: BTreeSet<u64>,
    /// Pieces that arrive before the stream breaks; then nothing does.
    pieces: usize,
    /// What the leaders were told.
    taken: Vec<u64>,
    /// Who was woken, and at whose end.
    roused: Vec<(u64, u64)>,
    silent: Vec<u64>,
}

impl Two {
    fn new() -> Self {
        let options = ClaimsOptions {
            page: 4,
            ..ClaimsOptions::default()
        };
        let mut two = Self {
            leader: Claims::new(options, 1),
            follower: Claims::new(options, 1),
            now: Duration::ZERO,
            unwilling: BTreeSet::new(),
            pieces: usize::MAX,
            taken: Vec::new(),
            roused: Vec::new(),
            silent: Vec::new(),
        };
        two.beats(2);
        two
    }

    fn claims(&mut self, groups: impl IntoIterator<Item = u64>) {
        for group in groups {
            self.leader
                .claim(claim(group), &[(FOLLOWER, holder(group))]);
        }
    }

    fn at(&mut self, node: u64) -> &mut Claims {
        match node {
            LEADER => &mut self.leader,
            _ => &mut self.follower,
        }
    }

    fn deliver(&mut self) {
        let mut wire: VecDeque<(u64, News)> = VecDeque::new();
        loop {
            for node in [LEADER, FOLLOWER] {
                while let Some(output) = self.at(node).poll_output() {
                    match output {
                        ClaimsOutput::Send { to, news } => {
                            let bytes = rmp_serde::to_vec_named(&news).unwrap();
                            wire.push_back((to, rmp_serde::from_slice(&bytes).unwrap()));
                        }
                        ClaimsOutput::Ask(asked) => self.ask(node, asked),
                        ClaimsOutput::Taken { claim, .. } => self.taken.push(claim.group.get()),
                        ClaimsOutput::Rouse(at) => self.roused.push((node, at.group.get())),
                        ClaimsOutput::Silent { here, .. } => self.silent.push(here.group.get()),
                    }
                }
            }
            let Some((to, news)) = wire.pop_front() else {
                return;
            };
            if self.pieces > 0 {
                self.pieces -= 1;
                let from = LEADER + FOLLOWER - to;
                self.at(to).receive(from, news);
            }
        }
    }

    fn ask(&mut self, node: u64, asked: Asked) {
        let rests = !self.unwilling.contains(&asked.claim.group.get());
        self.at(node).answered(asked, rests);
    }

    /// Both nodes beat so often, and everything arrives.
    fn beats(&mut self, count: u32) {
        for _ in 0..count {
            self.now += at(100);
            let now = self.now;
            let beat = self.leader.beat(FOLLOWER);
            self.deliver();
            self.follower.heard(now, LEADER, &beat);
            let beat = self.follower.beat(LEADER);
            self.deliver();
            self.leader.heard(now, FOLLOWER, &beat);
            self.deliver();
        }
    }
}

#[test]
fn claims_go_in_pages_and_every_one_is_answered() {
    let mut two = Two::new();
    two.claims(1..=10);
    two.unwilling.insert(7);
    two.beats(1);
    assert_eq!(two.leader.counts(), (9, 0));
    assert_eq!(two.follower.counts(), (0, 9));
    assert_eq!(two.taken, [1, 2, 3, 4, 5, 6, 8, 9, 10]);
    assert_eq!(
        two.roused,
        [(LEADER, 7)],
        "its leader goes on beating for it"
    );
    two.beats(20);
    assert_eq!(two.taken.len(), 9, "and nothing more is said");
}

#[test]
fn a_claim_that_is_withdrawn_wakes_its_follower() {
    let mut two = Two::new();
    two.claims(1..=3);
    two.beats(2);
    two.leader.unclaimed(claim(2).leads());
    two.leader.gone(claim(3).leads());
    two.beats(1);
    assert_eq!((two.roused, two.silent), (vec![(FOLLOWER, 2)], vec![3]));
    assert_eq!(two.follower.counts(), (0, 1));
}

#[test]
fn whoever_withdraws_it_is_the_leader_that_made_it() {
    // Another replica's end says nothing of this one's claims.
    let mut two = Two::new();
    two.claims([1]);
    two.beats(2);
    let other = ReplicaKey {
        group: GroupId::new(1),
        replica: ReplicaId::new(999),
    };
    two.leader.gone(other);
    two.follower.gone(other);
    two.beats(2);
    assert_eq!((two.roused, two.follower.counts()), (vec![], (0, 1)));
}

#[test]
fn a_list_of_which_a_page_was_lost_is_sent_anew() {
    let mut two = Two::new();
    two.claims(1..=6);
    two.beats(2);
    two.leader.unclaimed(claim(5).leads());
    two.claims(7..=12);
    two.pieces = 1; // of two pages
    two.beats(1);
    two.pieces = usize::MAX;
    two.taken.clear();
    two.beats(4);
    assert_eq!(two.follower.counts(), (0, 11));
    assert!(two.taken.ends_with(&[11, 12]), "{:?}", two.taken);
    assert_eq!(two.roused, [(FOLLOWER, 5)]);
}

#[test]
fn a_list_that_cannot_come_anew_is_not_trusted_for_ever() {
    let mut two = Two::new();
    two.claims(1..=3);
    two.beats(2);
    two.pieces = 0;
    two.leader.gone(claim(2).leads());
    two.beats(10);
    assert_eq!(two.roused, []);
    two.beats(2);
    let woken: Vec<_> = two.roused.iter().map(|(_, group)| *group).collect();
    assert_eq!(woken, [1, 2, 3]);
    // When news arrives again, what stands is claimed again.
    two.pieces = usize::MAX;
    two.beats(20);
    assert_eq!(two.follower.counts(), (0, 2));
}

#[test]
fn an_answer_that_was_lost_is_found_missing() {
    // Both hold the same version; the leader does not know that the follower rests, or that it woke.
    let mut two = Two::new();
    two.claims([1, 2]);
    let _beat = two.leader.beat(FOLLOWER);
    two.pieces = 1; // the claims arrive, the answers do not
    two.beats(1);
    assert_eq!(two.taken, []);
    two.pieces = usize::MAX;
    two.beats(4);
    assert_eq!(two.taken, [1, 2]);
    two.pieces = 0;
    two.follower.unclaimed(follows(1));
    two.unwilling.insert(1);
    two.beats(1);
    two.pieces = usize::MAX;
    two.beats(5);
    assert_eq!(two.roused.first(), Some(&(LEADER, 1)));
}

#[test]
fn one_that_was_late_itself_judges_nobody() {
    // E22: what it did not hear may be waiting.
    let mut two = Two::new();
    two.claims([1]);
    two.beats(2);
    let now = two.now;
    let nobody = |_| None;
    two.follower.judge(now, nobody);
    two.follower.judge(now + at(30_000), nobody);
    two.deliver();
    assert_eq!(two.silent, []);
    two.follower.judge(now + at(30_100), nobody);
    two.deliver();
    assert_eq!(two.silent, [1], "now it has read what there was");
}

#[test]
fn anything_heard_counts_as_life() {
    let mut two = Two::new();
    two.claims([1]);
    two.beats(2);
    let begin = two.now;
    for look in 1..=20 {
        let now = begin + at(100 * look);
        two.follower.judge(now, |_| Some(now - at(200)));
    }
    two.deliver();
    assert_eq!(two.silent, []);
}

#[test]
fn another_life_ends_all_claims_on_both_sides() {
    let mut two = Two::new();
    two.claims([1, 2]);
    two.leader.rests(claim(3).leads(), &[FOLLOWER]);
    two.beats(2);
    let reborn = Beat {
        life: 2,
        serial: 1,
        ..Beat::default()
    };
    two.leader.heard(two.now, FOLLOWER, &reborn);
    two.follower.heard(two.now, LEADER, &reborn);
    two.deliver();
    assert_eq!(two.silent, [1, 2], "their leader is of a life that is over");
    let leaders: Vec<_> = two
        .roused
        .iter()
        .filter(|(node, _)| *node == LEADER)
        .collect();
    assert_eq!(leaders, [&(LEADER, 3), &(LEADER, 1), &(LEADER, 2)]);
    assert_eq!(
        (two.leader.counts(), two.follower.counts()),
        ((0, 0), (0, 0))
    );
    // A beat of the former life that comes late changes nothing.
    let late = Beat {
        life: 1,
        serial: 99,
        ..Beat::default()
    };
    two.leader.heard(two.now, FOLLOWER, &late);
    assert_eq!(two.leader.beat(FOLLOWER).of, 2);
}

#[test]
fn a_claim_withdrawn_while_its_follower_is_asked_leaves_nobody_asleep() {
    // H53.
    let mut two = Two::new();
    two.claims([1]);
    let _beat = two.leader.beat(FOLLOWER);
    let Some(ClaimsOutput::Send { news, .. }) = two.leader.poll_output() else {
        panic!("the claim is sent")
    };
    two.follower.receive(LEADER, news);
    let Some(ClaimsOutput::Ask(asked)) = two.follower.poll_output() else {
        panic!("the follower is asked")
    };
    two.leader.unclaimed(claim(1).leads());
    two.beats(1);
    two.roused.clear();
    two.follower.answered(asked, true);
    two.deliver();
    assert_eq!(two.roused, [(FOLLOWER, 1)]);
}
