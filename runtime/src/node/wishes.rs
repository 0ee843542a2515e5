//! Operators' wishes, carried to the leader of the system group and written into its log.
//!
//! Here: who may be meant by a name, and what becomes of a wish when the placement changes meanwhile. Not here: whether a move is one
//! that lasts (`system::move_replica`), the steps that carry it out (`system::reconcile`).

use synod_consensus::GroupId;
use synod_membership::MemberState;

use super::calls::{Desk, not_now, refused};
use super::protocol::{Answer, Call, PlannedMove, Wish};
use crate::group::{Hosted, lock};
use crate::system::{Goals, PlacementChange, SystemCommand, SystemState, move_replica, rebalance};
use crate::transport::Peer;
use crate::wire::ShardId;

/// A placement is wished for anew so often while others change it, before the operator is told to try again.
const PLACEMENTS_TRIED: usize = 16;

impl Desk {
    pub(super) async fn operate(&self, from: &Peer, wish: Wish, hops: u8) -> Answer {
        if hops > 0 && from.store.is_none() {
            return refused("only members relay a wish");
        }
        let Some(system) = self.shared.registry.get(GroupId::ZERO) else {
            return not_now("this node has no replica of the system group yet");
        };
        if !system.leads() {
            let hops = hops.saturating_add(1);
            let call = Call::Operate { wish, hops };
            return self.relay(system.leader_store(), call, hops).await;
        }
        match wish {
            Wish::Drain { node, on } => {
                let command = |store| SystemCommand::Drain { store, on };
                self.about_member(&system, &node, command).await
            }
            Wish::Remove { node } => {
                let command = |store| SystemCommand::Remove { store };
                self.about_member(&system, &node, command).await
            }
            Wish::Move { shard, from, to } => {
                let group = super::group_of(ShardId::main(shard));
                let goals = |state: &SystemState| {
                    let store = |name: &str| {
                        let known = state.store_named(name);
                        known.ok_or_else(|| format!("no member is named `{name}`"))
                    };
                    let (from, to) = (store(&from)?, store(&to)?);
                    let goals = move_replica(state, group, from, to)?;
                    // A hint that saves a wait; the move itself begins only when the target answers.
                    let seen = self.sight.all().get(&to).map(|seen| seen.state);
                    let there = matches!(seen, Some(MemberState::Alive | MemberState::Suspect));
                    if !there && !goals.goals.is_empty() {
                        let name = state.name_of(to);
                        return Err(format!("`{name}` does not answer: start it first"));
                    }
                    Ok(goals)
                };
                self.place(&system, goals, false).await
            }
            Wish::Rebalance { afresh, dry_run } => {
                let goals = |state: &SystemState| rebalance(state, afresh);
                self.place(&system, goals, dry_run).await
            }
        }
    }

    async fn about_member(
        &self,
        system: &Hosted,
        node: &str,
        command: impl FnOnce(u64) -> SystemCommand,
    ) -> Answer {
        let (found, drains) = {
            let state = lock(&self.shared.system);
            let removed = state.removed.iter().find(|(_, name)| *name == node);
            let known = state.store_named(node).or(removed.map(|(store, _)| *store));
            (
                known,
                known.is_some_and(|store| state.draining.contains(&store)),
            )
        };
        let Some(store) = found else {
            return refused(&format!("no member is named `{node}`"));
        };
        let command = command(store);
        if matches!(command, SystemCommand::Drain { on: false, .. }) {
            let announced = self.sight.announced(system.voters());
            let state = lock(&self.shared.system);
            if let Err(reason) = state.must_stay_drained(store, &announced) {
                return refused(&reason);
            }
        }
        if drains
            && matches!(command, SystemCommand::Remove { .. })
            && system.voters().contains(&store)
        {
            // Its process ends with the removal: the others must have their majority without it before.
            return not_now(
                "it still votes in the system group, which it leaves as the last thing of its drain",
            );
        }
        match self.decide(system, command).await {
            Ok(_) => Answer::Done,
            Err(answer) => answer,
        }
    }

    /// Writes goals into the log that were made from the very state that they are applied to.
    async fn place(
        &self,
        system: &Hosted,
        goals: impl Fn(&SystemState) -> Result<Goals, String>,
        dry_run: bool,
    ) -> Answer {
        for _ in 0..PLACEMENTS_TRIED {
            // Planning takes a while in a large cluster: not under the lock.
            let state = lock(&self.shared.system).clone();
            let Goals { goals, changes } = match goals(&state) {
                Ok(goals) => goals,
                Err(reason) => return refused(&reason),
            };
            let moves = changes.iter().map(|change| in_words(&state, change));
            let moves: Vec<PlannedMove> = moves.collect();
            if dry_run || goals.is_empty() {
                return Answer::Placed { moves };
            }
            let epoch = state.epoch;
            match self
                .decide(system, SystemCommand::Place { epoch, goals })
                .await
            {
                Ok(_) => return Answer::Placed { moves },
                Err(Answer::Refused { .. }) => {} // the placement changed meanwhile
                Err(answer) => return answer,
            }
        }
        not_now("the placement keeps changing")
    }
}

fn in_words(state: &SystemState, change: &PlacementChange) -> PlannedMove {
    let name = |store: u64| state.name_of(store);
    let number = |group| super::shard_of(group).map_or(0, |shard| shard.number);
    match *change {
        PlacementChange::Replica { group, from, to } => PlannedMove {
            shard: number(group),
            from: from.map(name),
            to: to.map(name),
            leadership: false,
        },
        PlacementChange::Leader { group, to } => PlannedMove {
            shard: number(group),
            from: None,
            to: Some(name(to)),
            leadership: true,
        },
    }
}
