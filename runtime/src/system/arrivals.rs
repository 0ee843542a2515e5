//! How many new copies may be on their way at a time.
//!
//! Here: `Arrivals`, counted anew from state and reports at each look, so that a new system leader keeps the same bounds. A copy is on
//! its way from when it is allotted until it has caught up or votes. Not here: which copies should be where (`plan`), how many
//! snapshots one node sends at a time (`group::freight`).
//!
//! Source: DESIGN section 11 (bounded per node and cluster).

use std::collections::{BTreeMap, BTreeSet};

use synod_consensus::{GroupId, ReplicaId};

use super::moves::is_home;
use super::reconcile::caught_up;
use super::report::GroupReport;
use super::state::{GroupEntry, ReplicaAddress};

/// Copies on their way to one node: enough that round trips overlap when most copies are small, few enough that it takes commands
/// meanwhile. Eight large ones hold up all that is to come after them: they would share its link and its disk anyway, and groups that lack
/// the most copies set out first.
pub const TO_A_NODE_MAX: usize = 8;
/// Copies on their way in the whole cluster.
pub const IN_CLUSTER_MAX: usize = 64;

/// Copies on their way.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    to: BTreeMap<u64, usize>,
    all: usize,
}

impl Arrivals {
    /// Counts the copies of this group that are on their way to a store that is `alive`. Those to a dead one hold nobody up, nor do
    /// those of groups that nobody reports, and those that are `lost`, stopped and not retired yet: all these may be stuck for long; nor
    /// does a learner that stays one and only lags. The system group is everywhere and small; it does not count. Returns whether there
    /// are any.
    pub(super) fn count(
        &mut self,
        group: GroupId,
        entry: &GroupEntry,
        report: &GroupReport,
        alive: &BTreeSet<u64>,
        lost: &[ReplicaId],
    ) -> bool {
        if group == GroupId::ZERO || is_home(entry, report) {
            return false;
        }
        let before = self.all;
        for replica in &entry.replicas {
            let store = ReplicaAddress::of(*replica).store;
            let arrives = entry.placement.stores.contains(&store)
                && alive.contains(&store)
                && !lost.contains(replica)
                && !report.configuration.voters.contains(replica)
                && !caught_up(*replica, report);
            if arrives {
                self.add(store);
            }
        }
        self.all > before
    }

    /// Whether these copies of one group may set out, one to each of `stores`; if so, they count from now on. All or none: groups that
    /// each hold one place and wait for another would wait for each other for ever. A group of which a copy has set out already, as
    /// when its system leader was lost in between, is let through for the same reason.
    pub(super) fn admit(&mut self, stores: &[u64], begun: bool) -> bool {
        let there = |store: &u64| self.to.get(store).copied().unwrap_or(0);
        let fits = stores.iter().all(|store| there(store) < TO_A_NODE_MAX)
            && self.all + stores.len() <= IN_CLUSTER_MAX;
        if fits || begun {
            stores.iter().for_each(|store| self.add(*store));
        }
        fits || begun
    }

    fn add(&mut self, store: u64) {
        *self.to.entry(store).or_default() += 1;
        self.all += 1;
    }
}
