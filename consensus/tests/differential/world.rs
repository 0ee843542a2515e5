//! What a script can do to a world of replicas, and what it can see of it.

use std::collections::{BTreeSet, VecDeque};

/// Replicas of one group under one machine.
pub(crate) trait World {
    /// Replica `replica` asks to be elected.
    fn campaign(&mut self, replica: u64);
    /// Proposes a command at a leader; returns whether it was taken.
    fn propose(&mut self, replica: u64, command: u64) -> bool;
    /// Begins a change at a leader; returns whether it was taken.
    fn change(&mut self, replica: u64, change: &Change) -> bool;
    /// Asks a leader to hand over; returns whether it will try.
    fn transfer(&mut self, replica: u64, to: u64) -> bool;
    /// Starts a replica that holds nothing yet.
    fn add(&mut self, replica: u64);
    /// Takes a replica away, with all but what is on its disk.
    fn crash(&mut self, replica: u64);
    /// Brings it back.
    fn restart(&mut self, replica: u64);
    /// Which links lose everything, by sender and receiver.
    fn cut(&mut self, links: &BTreeSet<(u64, u64)>);
    /// Delivers until nothing is left.
    fn settle(&mut self);
    /// Every leader sends one heartbeat.
    fn beat(&mut self);
    /// An election timeout passes: leaders go on beating, and judge whether a quorum answers.
    fn pass(&mut self);
    /// What a live replica shows.
    fn look(&self, replica: u64) -> Look;
}

/// What must be the same in both worlds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Look {
    pub(crate) term: u64,
    pub(crate) leads: bool,
    pub(crate) commands: Vec<u64>,
    pub(crate) members: Members,
}

/// A configuration, in words that both machines know.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Members {
    pub(crate) voters: BTreeSet<u64>,
    pub(crate) outgoing: BTreeSet<u64>,
    pub(crate) learners: BTreeSet<u64>,
    pub(crate) learners_next: BTreeSet<u64>,
}

impl Members {
    pub(crate) fn of_voters(voters: impl IntoIterator<Item = u64>) -> Self {
        Self {
            voters: voters.into_iter().collect(),
            ..Self::default()
        }
    }

    pub(crate) fn contains(&self, replica: u64) -> bool {
        [
            &self.voters,
            &self.outgoing,
            &self.learners,
            &self.learners_next,
        ]
        .iter()
        .any(|half| half.contains(&replica))
    }
}

/// From these members to those.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) from: Members,
    pub(crate) voters: BTreeSet<u64>,
    pub(crate) learners: BTreeSet<u64>,
}

/// Messages on their way, in order.
#[derive(Debug)]
pub(crate) struct Wire<M> {
    queue: VecDeque<(u64, M)>,
    cut: BTreeSet<(u64, u64)>,
}

impl<M> Wire<M> {
    pub(crate) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            cut: BTreeSet::new(),
        }
    }

    pub(crate) fn cut(&mut self, links: &BTreeSet<(u64, u64)>) {
        self.cut.clone_from(links);
    }

    pub(crate) fn send(&mut self, from: u64, to: u64, message: M) {
        if !self.cut.contains(&(from, to)) {
            self.queue.push_back((to, message));
        }
    }

    pub(crate) fn next(&mut self) -> Option<(u64, M)> {
        self.queue.pop_front()
    }
}
