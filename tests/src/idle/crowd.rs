//! What the fate of one node costs many groups: as much as each of those that it has a replica of must say to find out who leads, and
//! the others nothing.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;

use synod_consensus::{GroupId, Term};

use super::calm::{RESTS_WITHIN, SUCCEEDED_WITHIN};
use super::node::replica_of;
use super::world::{Report, World};
use crate::violation::{Violation, broken};

/// What befalls the node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Dies,
    ComesBack,
    /// It is another process before anybody missed a beat.
    RestartsUnseen,
    Stops,
    GoesOn,
}

/// The most that is said in one group until it rests again.
#[derive(Clone, Copy, Debug)]
struct Bound {
    pre_votes: u64,
    messages: u64,
}

impl Fate {
    /// In a group that another node leads: its leader finds out who is there, then rests.
    fn of_a_follower(self) -> Bound {
        Bound {
            pre_votes: 0,
            messages: 40,
        }
    }

    /// In a group that it led: an election, in which two may ask once in vain.
    fn of_a_leader(self) -> Bound {
        match self {
            Self::ComesBack | Self::GoesOn => self.of_a_follower(),
            Self::Dies | Self::Stops | Self::RestartsUnseen => Bound {
                pre_votes: 8,
                messages: 70,
            },
        }
    }
}

impl World {
    /// One node dies, comes back, is replaced unseen, is stopped for ten seconds and goes on, while all groups rest.
    pub fn wakes_no_more_than_it_must(mut self) -> Result<Report, Violation> {
        self.settle("at first")?;
        let mut leaders = self.terms();
        for fate in [
            Fate::Dies,
            Fate::ComesBack,
            Fate::RestartsUnseen,
            Fate::Stops,
            Fate::GoesOn,
        ] {
            leaders = self.befall(fate, &leaders)?;
        }
        Ok(self.watch.report)
    }

    fn befall(
        &mut self,
        fate: Fate,
        before: &BTreeMap<GroupId, Option<(u64, Term)>>,
    ) -> Result<BTreeMap<GroupId, Option<(u64, Term)>>, Violation> {
        const NODE: u64 = 1;
        self.run_until(self.now + Duration::from_secs(1))?;
        self.watch.said.clear();
        let missed = self.watch.report.coverage.get("silences");
        match fate {
            Fate::Dies => self.crash(NODE),
            Fate::ComesBack => self.start(NODE),
            Fate::RestartsUnseen => self.restart_unseen(NODE),
            Fate::Stops => {
                let node = self.nodes.get_mut(&NODE).expect("it exists");
                node.paused = Some(VecDeque::new());
            }
            Fate::GoesOn => self.resume(NODE),
        }
        // Its silence must be noticed, or it must say that it is another one.
        self.run_until(self.now + Duration::from_millis(500))?;
        let led = self.within(
            SUCCEEDED_WITHIN,
            "Succeeded",
            "is not led",
            |world, group| world.led_by(group).is_some(),
        )?;
        self.watch.report.took("led again", led);
        let rests = self.within(RESTS_WITHIN, "Rests", "does not rest", |world, group| {
            world.rests(group)
        })?;
        self.watch.report.took("at rest again", rests);
        self.run_until(self.now + Duration::from_secs(5))?;
        let missed = self.watch.report.coverage.get("silences") - missed;
        if missed > 0 && matches!(fate, Fate::ComesBack | Fate::GoesOn) {
            let detail = format!("{fate:?}: {missed} replicas miss their leader");
            return broken("No Storm", detail);
        }
        let after = self.terms();
        for (group, leader) in before {
            let said = self.watch.said.get(group).copied().unwrap_or_default();
            let concerned = self.groups[group].contains(replica_of(NODE, *group));
            let led = leader.is_some_and(|(node, _)| node == NODE);
            let bound = match (concerned, led) {
                (false, _) => Bound {
                    pre_votes: 0,
                    messages: 0,
                },
                (true, false) => fate.of_a_follower(),
                (true, true) => fate.of_a_leader(),
            };
            if said.pre_votes > bound.pre_votes || said.messages > bound.messages {
                let detail = format!(
                    "{fate:?}: group {group}, led by {leader:?}, says {said:?}, more than {bound:?}"
                );
                return broken("No Storm", detail);
            }
            if !led && after[group] != *leader {
                let detail = format!(
                    "{fate:?}: group {group}, led by {leader:?}, then by {:?}",
                    after[group]
                );
                return broken("Leaders Stay", detail);
            }
            let coverage = &mut self.watch.report.coverage;
            match (concerned, led) {
                (false, _) => coverage.count("groups not concerned"),
                (true, false) => {
                    coverage.count("groups that others led");
                    coverage.most("most said under another leader", said.messages);
                    coverage.most("most pre-votes under another leader", said.pre_votes);
                }
                (true, true) => {
                    coverage.count("groups that it led");
                    coverage.most("most said in a group that it led", said.messages);
                    coverage.most("most pre-votes in a group that it led", said.pre_votes);
                }
            }
        }
        Ok(after)
    }
}
