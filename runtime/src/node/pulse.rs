//! Whether the threads on which a node's actors live take their turns: a process answers pings while its actors are blocked (M26).
//!
//! Here: [`Pulse`]: a task on every arbiter, and on the thread that started the node, that only counts, and a judge who looks at the
//! counts. Looked at by `beats`, on a thread that no actor can block. On the thread that started the node live gossip and the steward:
//! a program that blocks it cannot say that it is not well, and the others hold it dead in the end. It gives its leaderships away
//! before, for a system group that is led there gets no further. Not here: what a node does that is not well (`beats` lets its leaders
//! give way, `gossip` says so to others).
//!
//! The judge counts its own looks and no time: one that did not run itself, be it that the process was stopped or starved of its
//! processor, has not looked, and so finds nobody stuck for it (E22).

use core::time::Duration;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use actix_rt::ArbiterHandle;
use synod_consensus::{GroupId, GroupOptions};

use crate::router::RouterOptions;

/// Gap between two counts of an arbiter: a third of what it may miss, for each count wakes a thread that has nothing else to do.
const COUNT_EVERY: Duration = Duration::from_millis(500);

/// What lives on an arbiter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tenants {
    /// Raft. What blocks there is the disk alone: a command for an entity that is not in memory reads its row, and waits for as long as
    /// the disk takes to sync the tree's list of files if it is just doing that.
    Groups,
    /// Evaluators, and with them handlers, which may block although they should not.
    Evaluators,
    /// Gossip and the steward, beside whatever the program does on the thread that started the node.
    Membership,
}

impl Tenants {
    /// An arbiter that did not count for so long is stuck.
    ///
    /// With groups: as long as their followers wait for a leader's beat. From then on its groups are led elsewhere by election, and
    /// what the rest of this node leads is no safer here.
    /// With membership: as long as with groups, which is less than it takes the others to hold a silent member dead.
    /// With evaluators: as long as a caller waits that names no deadline. A handler that blocks for less is late; one that blocks for
    /// longer blocks for nobody. A caller with a longer deadline than that carries its command, and the block, to the next leader,
    /// which keeps what it leads for `KEEPS_LEADING` (`beats`): a handler that ends in that time is answered there.
    fn stuck_after(self) -> Duration {
        match self {
            Self::Groups | Self::Membership => GroupOptions::default().election_timeout,
            Self::Evaluators => RouterOptions::default().deadline,
        }
    }
}

/// One arbiter, as the judge knows it.
#[derive(Debug)]
struct Watched {
    tenants: Tenants,
    /// Looks in which nothing is counted, after which it is stuck, and for which it must do well to be well again.
    bound: u32,
    seen: u64,
    /// Looks since it last counted.
    missed: u32,
    /// Looks in which it must still do well.
    ailing: u32,
}

impl Watched {
    fn new(tenants: Tenants, look_every: Duration) -> Self {
        let bound = tenants.stuck_after().as_millis() / look_every.as_millis().max(1);
        Self {
            tenants,
            bound: u32::try_from(bound).unwrap_or(u32::MAX).max(1),
            seen: 0,
            missed: 0,
            ailing: 0,
        }
    }

    /// Takes one look in. Returns whether it is stuck since this look.
    fn look(&mut self, count: u64) -> bool {
        if count == self.seen {
            self.missed = self.missed.saturating_add(1);
        } else {
            (self.seen, self.missed) = (count, 0);
        }
        if !self.is_stuck() {
            self.ailing = self.ailing.saturating_sub(1);
            return false;
        }
        self.ailing = self.bound;
        self.missed == self.bound
    }

    fn is_stuck(&self) -> bool {
        self.missed >= self.bound
    }

    fn is_well(&self) -> bool {
        !self.is_stuck() && self.ailing == 0
    }
}

/// All arbiters of a node.
#[derive(Debug)]
pub(crate) struct Pulse {
    counts: Vec<Arc<AtomicU64>>,
    watched: Vec<Watched>,
    /// How many of them are the groups'; these come first, in their order.
    groups: usize,
}

impl Pulse {
    /// Begins to count on every arbiter and on the calling thread. The tasks end with their arbiters.
    pub(crate) fn start(
        consensus: &[ArbiterHandle],
        entity: &[ArbiterHandle],
        look_every: Duration,
    ) -> Self {
        let all = consensus.iter().chain(entity);
        let counts = all.map(|arbiter| {
            let count = Arc::<AtomicU64>::default();
            // Refused by an arbiter that has ended already: it counts as stuck, and it is.
            arbiter.spawn(count_on(Arc::downgrade(&count)));
            count
        });
        let mut counts: Vec<_> = counts.collect();
        let here = Arc::<AtomicU64>::default();
        actix_rt::spawn(count_on(Arc::downgrade(&here)));
        counts.push(here);
        let tenants = consensus.iter().map(|_| Tenants::Groups);
        let tenants = tenants.chain(entity.iter().map(|_| Tenants::Evaluators));
        let tenants = tenants.chain([Tenants::Membership]);
        Self {
            counts,
            watched: tenants
                .map(|tenants| Watched::new(tenants, look_every))
                .collect(),
            groups: consensus.len(),
        }
    }

    /// One look at all of them, each time it is due. Returns how many are stuck since this look.
    pub(crate) fn look(&mut self) -> usize {
        let mut newly = 0;
        for (number, (count, watched)) in self.counts.iter().zip(&mut self.watched).enumerate() {
            if watched.look(count.load(Ordering::Relaxed)) {
                newly += 1;
                tracing::error!(
                    arbiter = number,
                    tenants = ?watched.tenants,
                    "an arbiter is stuck: this node calls itself degraded, and leads no group that another can lead"
                );
            }
        }
        newly
    }

    /// Whether no arbiter is stuck, or was a moment ago.
    pub(crate) fn is_well(&self) -> bool {
        self.watched.iter().all(Watched::is_well)
    }

    /// Whether nobody is stuck, or was a moment ago, but handlers.
    pub(crate) fn only_handlers_ail(&self) -> bool {
        let mut ailing = self.watched.iter().filter(|watched| !watched.is_well());
        ailing.all(|watched| watched.tenants == Tenants::Evaluators)
    }

    /// Whether this group's actor would hear something now.
    pub(crate) fn hears(&self, group: GroupId) -> bool {
        let place = group.get() as usize % self.groups.max(1);
        self.watched
            .get(place)
            .is_some_and(|watched| !watched.is_stuck())
    }
}

/// Counts for as long as somebody looks.
async fn count_on(count: Weak<AtomicU64>) {
    while let Some(count) = count.upgrade() {
        count.fetch_add(1, Ordering::Relaxed);
        drop(count);
        actix_rt::time::sleep(COUNT_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_millis(100);

    #[test]
    fn an_arbiter_is_stuck_after_its_bound_and_well_again_after_as_long() {
        // S11.
        let mut watched = Watched::new(Tenants::Groups, LOOK);
        assert_eq!(watched.bound, 15);
        assert!(!watched.look(1));
        for _ in 0..14 {
            assert!(!watched.look(1));
        }
        assert!(watched.is_well(), "one look before its bound");
        assert!(watched.look(1), "it is said once");
        assert!(!watched.look(1));
        assert!(watched.is_stuck() && !watched.is_well());
        for count in 2..=15 {
            watched.look(count);
            assert!(!watched.is_stuck() && !watched.is_well());
        }
        watched.look(16);
        assert!(watched.is_well());
    }

    #[test]
    fn an_arbiter_that_counts_now_and_then_is_not_stuck() {
        let mut watched = Watched::new(Tenants::Groups, LOOK);
        for look in 0..200 {
            assert!(!watched.look(look / 14));
        }
        assert!(watched.is_well());
    }

    #[test]
    fn handlers_have_as_long_as_a_caller_waits() {
        let mut watched = Watched::new(Tenants::Evaluators, LOOK);
        let deadline = RouterOptions::default().deadline;
        let stuck = (1..).find(|_| watched.look(0)).expect("some day");
        assert_eq!(LOOK * stuck, deadline);
    }

    #[test]
    fn a_program_that_blocks_the_thread_that_started_the_node_is_not_well() {
        // Issue 4: it loses its leaderships before the others hold it dead. They look through these handles; nobody else blocks.
        actix_rt::System::new().block_on(async {
            let mut pulse = Pulse::start(&[], &[], LOOK);
            for _ in 0..14 {
                assert_eq!(pulse.look(), 0);
            }
            assert!(
                pulse.is_well(),
                "no task had its turn yet, but not for long"
            );
            assert_eq!((pulse.look(), pulse.is_well()), (1, false));
            assert!(!pulse.only_handlers_ail());
            let mut looks = 0;
            while !pulse.is_well() {
                actix_rt::time::sleep(COUNT_EVERY).await; // its turn; nothing rests on the length
                pulse.look();
                looks += 1;
                assert!(looks < 1_000, "it has its turns again");
            }
            assert!(looks >= 15, "well again after as long");
        });
    }
}
