//! Scripts drawn from a seed, and the comparison after each step.

use core::panic::AssertUnwindSafe;
use std::collections::BTreeSet;
use std::panic::catch_unwind;

use synod_consensus::Sabotage;

use crate::ours::Ours;
use crate::theirs::Theirs;
use crate::world::{Change, Members, World};

const STEPS: usize = 60;
/// Replicas that a configuration may name at most, and that a script may ever start.
const MEMBERS_MAX: usize = 6;
const REPLICAS_MAX: u64 = 12;

/// How often something happened, so that a script that does nothing is noticed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage {
    elections: u64,
    campaigns_in_vain: u64,
    depositions: u64,
    two_leaders: u64,
    commands: u64,
    commands_lost: u64,
    learners_added: u64,
    joint_changes: u64,
    changes_refused: u64,
    transfers: u64,
    restarts: u64,
    one_way_cuts: u64,
}

impl Coverage {
    fn counters(&mut self) -> [(&'static str, &mut u64); 12] {
        [
            ("elections", &mut self.elections),
            ("campaigns in vain", &mut self.campaigns_in_vain),
            ("depositions", &mut self.depositions),
            ("two leaders at once", &mut self.two_leaders),
            ("commands", &mut self.commands),
            ("commands lost", &mut self.commands_lost),
            ("learners added", &mut self.learners_added),
            ("joint changes", &mut self.joint_changes),
            ("changes refused", &mut self.changes_refused),
            ("transfers", &mut self.transfers),
            ("restarts", &mut self.restarts),
            ("one-way cuts", &mut self.one_way_cuts),
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let mut other = other.clone();
        for ((_, mine), (_, more)) in self.counters().into_iter().zip(other.counters()) {
            *mine += *more;
        }
    }

    pub(crate) fn assert_all_happened(&mut self) {
        for (what, count) in self.counters() {
            assert!(*count > 0, "no script had any {what}");
        }
    }
}

/// Runs one script; the error says after which steps the worlds differ.
pub(crate) fn run(seed: u64, sabotage: Option<Sabotage>) -> Result<Coverage, String> {
    let mut run = Run::new(seed, sabotage);
    run.play()
        .map_err(|difference| format!("{}\n{difference}", run.trace.join("\n")))?;
    Ok(run.coverage)
}

/// The steps of a script.
pub(crate) fn trace(seed: u64) -> Vec<String> {
    let mut run = Run::new(seed, None);
    let _ = run.play(); // whether the worlds agree is another test's question
    run.trace
}

/// Whether the comparison notices `bug` in this script. That an assertion of ours notices it first does not count.
pub(crate) fn differs(seed: u64, bug: Sabotage) -> bool {
    catch_unwind(AssertUnwindSafe(|| run(seed, Some(bug)).is_err())).unwrap_or(false)
}

struct Run {
    draw: Draw,
    ours: Ours,
    theirs: Theirs,
    live: BTreeSet<u64>,
    down: BTreeSet<u64>,
    links: BTreeSet<(u64, u64)>,
    /// The last committed configuration.
    members: Members,
    next_replica: u64,
    next_command: u64,
    leaders: BTreeSet<u64>,
    /// Replicas that led since a timeout passed, and lead no more: others may still stand by them.
    led_lately: BTreeSet<u64>,
    /// Replicas that could not be heard when something was committed.
    behind: BTreeSet<u64>,
    trace: Vec<String>,
    coverage: Coverage,
}

impl Run {
    fn new(seed: u64, sabotage: Option<Sabotage>) -> Self {
        let mut draw = Draw(seed);
        let voters = 1 + draw.below(5);
        Self {
            draw,
            ours: Ours::new(voters, sabotage),
            theirs: Theirs::new(voters),
            live: (1..=voters).collect(),
            down: BTreeSet::new(),
            links: BTreeSet::new(),
            members: Members::of_voters(1..=voters),
            next_replica: voters + 1,
            next_command: 1,
            leaders: BTreeSet::new(),
            led_lately: BTreeSet::new(),
            behind: BTreeSet::new(),
            trace: vec![format!("seed {seed}: {voters} voters")],
            coverage: Coverage::default(),
        }
    }

    fn play(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            self.step();
            self.finish()?;
        }
        self.heal()
    }

    fn both(&mut self, act: impl Fn(&mut dyn World)) {
        act(&mut self.ours);
        act(&mut self.theirs);
    }

    fn note(&mut self, step: String) {
        self.trace.push(step);
    }

    fn step(&mut self) {
        match self.draw.below(100) {
            0..35 => self.propose(),
            35..57 => self.campaign(),
            57..66 => self.pass(),
            66..74 => self.cut(),
            74..81 => self.mend(),
            81..85 => self.crash(),
            85..89 => self.restart(),
            89..96 => self.change(),
            _ => self.transfer(),
        }
    }

    fn propose(&mut self) {
        let count = 1 + self.draw.below(3);
        for leader in self.leaders.clone() {
            for _ in 0..count {
                let command = self.next_command;
                self.next_command += 1;
                let taken = [
                    self.ours.propose(leader, command),
                    self.theirs.propose(leader, command),
                ];
                self.note(format!("propose {command} at {leader}: taken {taken:?}"));
            }
        }
    }

    fn campaign(&mut self) {
        if let Some(replica) = self.draw.one_of(&self.live)
            && self.may_be_told_to_campaign(replica)
        {
            self.note(format!("campaign {replica}"));
            self.both(|world| world.campaign(replica));
        }
    }

    /// Whether the machines agree on what becomes of its campaign.
    fn may_be_told_to_campaign(&self, replica: u64) -> bool {
        self.is_voter(replica)
            && !self.reaches_next_term(replica)
            && !self.led_lately.contains(&replica)
    }

    /// Whether it is a voter as far as it knows.
    fn is_voter(&self, replica: u64) -> bool {
        let members = self.ours.look(replica).members;
        members.voters.contains(&replica) || members.outgoing.contains(&replica)
    }

    /// Whether it reaches a replica that is exactly one term ahead of it.
    fn reaches_next_term(&self, replica: u64) -> bool {
        let term = self.ours.look(replica).term;
        let ahead = |other: &u64| {
            !self.links.contains(&(replica, *other)) && self.ours.look(*other).term == term + 1
        };
        self.live.iter().any(ahead)
    }

    fn pass(&mut self) {
        self.note("pass".into());
        self.both(|world| world.pass());
        self.led_lately.clear();
    }

    fn cut(&mut self) {
        let (Some(a), Some(b)) = (self.draw.one_of(&self.live), self.draw.one_of(&self.live))
        else {
            return;
        };
        let others: Vec<_> = (1..self.next_replica).filter(|other| *other != a).collect();
        match self.draw.below(4) {
            0 if a != b => {
                self.links.insert((a, b));
                self.coverage.one_way_cuts += 1;
                self.note(format!("cut {a} -> {b}"));
            }
            0 | 1 if a != b => {
                self.links.extend([(a, b), (b, a)]);
                self.note(format!("cut {a} - {b}"));
            }
            _ => {
                for other in others {
                    self.links.extend([(a, other), (other, a)]);
                }
                self.note(format!("isolate {a}"));
            }
        }
        self.tell_links();
    }

    fn mend(&mut self) {
        self.note("mend all links".into());
        self.links.clear();
        self.tell_links();
    }

    fn tell_links(&mut self) {
        let links = self.links.clone();
        self.both(|world| world.cut(&links));
    }

    fn crash(&mut self) {
        if self.live.len() > 1
            && let Some(replica) = self.draw.one_of(&self.live)
        {
            self.note(format!("crash {replica}"));
            self.both(|world| world.crash(replica));
            self.live.remove(&replica);
            self.down.insert(replica);
        }
    }

    fn restart(&mut self) {
        let replica = match self.draw.one_of(&self.down) {
            Some(replica) => replica,
            None => {
                // A short absence, during which nobody says anything.
                let Some(replica) = self.draw.one_of(&self.live) else {
                    return;
                };
                self.both(|world| world.crash(replica));
                replica
            }
        };
        self.note(format!("restart {replica}"));
        self.both(|world| world.restart(replica));
        self.down.remove(&replica);
        self.live.insert(replica);
        self.coverage.restarts += 1;
    }

    /// Whether both are up and hear each other.
    fn in_touch(&self, a: u64, b: u64) -> bool {
        let up = self.live.contains(&a) && self.live.contains(&b);
        up && !self.links.contains(&(a, b)) && !self.links.contains(&(b, a))
    }

    fn has_majority(&self, leader: u64, voters: &BTreeSet<u64>) -> bool {
        let heard = |voter: &&u64| self.in_touch(leader, **voter);
        2 * voters.iter().filter(heard).count() > voters.len()
    }

    fn change(&mut self) {
        let (Some(leader), 1) = (self.draw.one_of(&self.leaders), self.leaders.len()) else {
            return;
        };
        let from = self.ours.look(leader).members;
        let (mut voters, mut learners) = (from.voters.clone(), from.learners.clone());
        let mut others = from.voters.clone();
        others.remove(&leader);
        let (voter, learner) = (self.draw.one_of(&others), self.draw.one_of(&learners));
        let kind = self.draw.below(8);
        match (kind, voter, learner) {
            (0..3, ..) => {
                let room = voters.len() + learners.len() < MEMBERS_MAX;
                if !room || self.next_replica > REPLICAS_MAX {
                    return;
                }
                learners.insert(self.next_replica);
            }
            (3..5, _, Some(learner)) => {
                learners.remove(&learner);
                voters.insert(learner);
            }
            (5, Some(voter), _) => {
                voters.remove(&voter);
            }
            (6, Some(voter), _) => {
                voters.remove(&voter);
                learners.insert(voter);
            }
            (7, Some(voter), Some(learner)) => {
                voters.remove(&voter);
                learners.remove(&learner);
                voters.insert(learner);
            }
            (7, None, Some(learner)) => {
                learners.remove(&learner);
            }
            _ => return,
        }
        if !self.has_majority(leader, &from.voters) || !self.has_majority(leader, &voters) {
            return;
        }
        let change = Change {
            from,
            voters,
            learners,
        };
        if change.learners.contains(&self.next_replica) {
            let newcomer = self.next_replica;
            self.next_replica += 1;
            self.both(|world| world.add(newcomer));
            self.live.insert(newcomer);
        }
        let taken = self.ours.change(leader, &change);
        self.note(format!("{change:?} at {leader}: taken {taken}"));
        if !taken {
            self.coverage.changes_refused += 1;
            return;
        }
        if change.voters == change.from.voters {
            self.coverage.learners_added += 1;
        } else {
            self.coverage.joint_changes += 1;
        }
        let taken = self.theirs.change(leader, &change);
        self.note(format!("raft-rs: taken {taken}"));
    }

    fn transfer(&mut self) {
        let (Some(leader), Some(to)) = (
            self.draw.one_of(&self.leaders),
            self.draw.one_of(&self.live),
        ) else {
            return;
        };
        if !self.in_touch(leader, to) {
            return;
        }
        let taken = self.ours.transfer(leader, to);
        self.note(format!("transfer {leader} to {to}: taken {taken}"));
        if taken {
            self.theirs.transfer(leader, to);
            self.coverage.transfers += 1;
        }
    }

    /// Lets the step have its consequences, then compares.
    fn finish(&mut self) -> Result<(), String> {
        for _ in 0..2 {
            self.both(|world| world.settle());
            self.both(|world| world.beat());
        }
        self.both(|world| world.settle());
        self.retire_removed();
        self.compare()
    }

    /// Replicas that the newest committed configuration does not name are switched off: only ours tells them.
    fn retire_removed(&mut self) {
        let newest = self
            .live
            .iter()
            .map(|replica| self.ours.look(*replica))
            .max_by_key(|look| (look.leads, look.commands.len()));
        let Some(newest) = newest.filter(|look| look.leads) else {
            return;
        };
        self.members = newest.members;
        let members = self.members.clone();
        let gone = |replica: &u64| !members.contains(*replica);
        for replica in self.live.iter().copied().filter(gone).collect::<Vec<_>>() {
            self.note(format!("{replica} is removed"));
            self.both(|world| world.crash(replica));
        }
        self.live.retain(|replica| !gone(replica));
        self.behind.retain(|replica| !gone(replica));
        self.down.retain(|replica| !gone(replica));
    }

    fn compare(&mut self) -> Result<(), String> {
        let mut leaders = BTreeSet::new();
        for replica in &self.live.clone() {
            let (ours, theirs) = (self.ours.look(*replica), self.theirs.look(*replica));
            if ours == theirs {
                self.behind.remove(replica);
            } else if self.may_be_behind(*replica) || self.behind.contains(replica) {
                if (ours.term, ours.leads) != (theirs.term, theirs.leads)
                    || !theirs.commands.starts_with(&ours.commands)
                {
                    return Err(format!(
                        "replica {replica}, which may be behind, differs:\n  ours   {ours:?}\n  theirs {theirs:?}"
                    ));
                }
                self.behind.insert(*replica);
            } else {
                return Err(format!(
                    "replica {replica} differs:\n  ours   {ours:?}\n  theirs {theirs:?}"
                ));
            }
            if ours.leads {
                leaders.insert(*replica);
            }
        }
        self.led_lately.extend(self.leaders.difference(&leaders));
        self.cover(&leaders);
        self.leaders = leaders;
        Ok(())
    }

    /// Whether a leader reaches it and does not hear it, or a campaign told it of a commit.
    fn may_be_behind(&self, replica: u64) -> bool {
        let unheard = self.leaders.iter().any(|leader| {
            self.links.contains(&(replica, *leader)) && !self.links.contains(&(*leader, replica))
        });
        let led = |leader: &u64| *leader == replica || self.in_touch(replica, *leader);
        unheard || self.campaigned() && !self.leaders.iter().any(led)
    }

    fn campaigned(&self) -> bool {
        self.trace
            .last()
            .is_some_and(|step| step.starts_with("campaign"))
    }

    fn cover(&mut self, leaders: &BTreeSet<u64>) {
        let campaigned = self.campaigned();
        let coverage = &mut self.coverage;
        let fresh = leaders.difference(&self.leaders).count() as u64;
        coverage.elections += fresh;
        coverage.depositions += self.leaders.difference(leaders).count() as u64;
        coverage.two_leaders += u64::from(leaders.len() > 1);
        coverage.campaigns_in_vain += u64::from(campaigned && fresh == 0);
    }

    /// Everything is mended: somebody must be elected in both worlds, and everybody must end with the same commands.
    fn heal(&mut self) -> Result<(), String> {
        self.mend();
        for replica in core::mem::take(&mut self.down) {
            self.note(format!("restart {replica}"));
            self.both(|world| world.restart(replica));
            self.live.insert(replica);
        }
        self.finish()?;
        self.pass();
        self.finish()?;
        for replica in self.live.clone() {
            if !self.leaders.is_empty() {
                break;
            }
            if !self.may_be_told_to_campaign(replica) {
                continue;
            }
            self.note(format!("campaign {replica}"));
            self.both(|world| world.campaign(replica));
            self.finish()?;
        }
        if self.leaders.len() != 1 {
            return Err(format!(
                "all is mended, and {:?} lead in both worlds",
                self.leaders
            ));
        }
        self.propose();
        self.finish()?;
        let looks: Vec<_> = self
            .live
            .iter()
            .map(|replica| self.ours.look(*replica))
            .collect();
        if !self.behind.is_empty() {
            return Err(format!("all is mended, and {:?} are behind", self.behind));
        }
        if looks.iter().any(|look| look.commands != looks[0].commands) {
            return Err(format!(
                "all is mended, and the replicas differ in both worlds: {looks:?}"
            ));
        }
        let applied = looks[0].commands.len() as u64;
        self.coverage.commands += applied;
        self.coverage.commands_lost += self.next_command - 1 - applied;
        Ok(())
    }
}

/// Chance from a seed (SplitMix64).
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    fn one_of(&mut self, of: &BTreeSet<u64>) -> Option<u64> {
        if of.is_empty() {
            return None;
        }
        let nth = usize::try_from(self.below(of.len() as u64)).expect("small");
        of.iter().nth(nth).copied()
    }
}
