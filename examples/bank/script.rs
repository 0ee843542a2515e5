//! What happens to the cluster, and in which order.
//!
//! Here: [`Script`] (what can be chosen) and the [`Event`]s that each is made of; a phase of the demo begins with one. Not
//! here: how an event is brought about (`play`, `cluster`).

use clap::ValueEnum;

/// A script.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Script {
    /// The node that leads most is killed and restarted, one joins, another is killed.
    #[default]
    Losses,
    /// Three nodes become six, each is stopped and started, one disk is wiped, and three are taken out again.
    Elastic,
    /// Nodes are killed and restarted, `--rounds` times, always the one that leads most.
    Kills,
    /// Nothing happens: nobody may be elected.
    Soak,
}

/// What happens at the beginning of a phase.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Event {
    /// Only load.
    Quiet,
    /// As quiet, and the probers begin before: what comes later is compared with this.
    Probe,
    /// kill -9 of the node that leads most, but not the one that was killed last.
    Kill,
    /// The node that was killed last comes back.
    Restart,
    /// One more node joins.
    Join,
    /// The node of this number (from 0) is asked to stop, and started again.
    Roll(usize),
    /// The node of this number is killed and its disk emptied; it is taken out, and another takes its place.
    Wipe(usize),
    /// The node of this number is drained and taken out.
    Leave(usize),
}

impl Event {
    /// Its name in lines and tables. `node`: the number of the one that it is about.
    pub(crate) fn in_words(self, node: Option<usize>) -> String {
        let verb = match self {
            Self::Quiet => "quiet",
            Self::Probe => "probed",
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Join => "join",
            Self::Roll(_) => "stop, start",
            Self::Wipe(_) => "wipe",
            Self::Leave(_) => "take out",
        };
        match node {
            Some(node) => format!("{verb} n{}", node + 1),
            None => verb.to_owned(),
        }
    }
}

/// Part of the load's time that a phase gets.
pub(crate) type Share = u32;

impl Script {
    /// Events in their order, and each one's share of the time.
    pub(crate) fn events(self, nodes: usize, rounds: u32) -> Vec<(Event, Share)> {
        use Event::{Join, Kill, Leave, Probe, Quiet, Restart, Roll, Wipe};
        let begin = [(Quiet, 2), (Probe, 2)];
        match self {
            Self::Losses => vec![(Quiet, 2), (Kill, 1), (Restart, 1), (Join, 1), (Kill, 1)],
            Self::Elastic => {
                let joins = [(Join, 1); 3];
                let rolls = (0..nodes + 3).map(|node| (Roll(node), 1));
                // Who takes the wiped node's place is the last.
                let leaves = (nodes..nodes + 3).map(|node| (Leave(node), 1));
                let rest = joins.into_iter().chain(rolls).chain([(Wipe(1), 1)]);
                begin.into_iter().chain(rest).chain(leaves).collect()
            }
            Self::Kills => {
                let rounds = (0..rounds).flat_map(|_| [(Kill, 1), (Restart, 1)]);
                begin.into_iter().chain(rounds).collect()
            }
            Self::Soak => vec![(Quiet, 1), (Probe, 9)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_elastic_script_ends_with_as_many_nodes_as_it_began_with() {
        let mut running = vec![true; 3];
        for (event, _) in Script::Elastic.events(3, 0) {
            match event {
                Event::Join => running.push(true),
                Event::Wipe(node) => {
                    assert!(std::mem::take(&mut running[node]));
                    running.push(true);
                }
                Event::Leave(node) => assert!(std::mem::take(&mut running[node])),
                Event::Roll(node) => assert!(running[node]),
                Event::Quiet | Event::Probe | Event::Kill | Event::Restart => {}
            }
        }
        assert_eq!(running.iter().filter(|runs| **runs).count(), 3);
    }
}
