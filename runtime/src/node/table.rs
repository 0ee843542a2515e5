//! The routing table as this node can know it: placement from the system log, addresses from gossip, leaders from the
//! replicas hosted here.

use std::collections::BTreeMap;

use synod_membership::MemberState;

use super::sight::Seen;
use crate::group::Registry;
use crate::system::{ReplicaAddress, SystemState};
use crate::wire::{RoutingTable, ShardId, ShardPlace, StoreAddress};

/// Builds the table; `None` before the system state is known here.
pub(crate) fn build(
    state: &SystemState,
    seen: &BTreeMap<u64, Seen>,
    registry: &Registry,
) -> Option<RoutingTable> {
    let founding = state.founding.as_ref()?;
    let alive = |store: &u64| {
        seen.get(store)
            .is_some_and(|member| member.state != MemberState::Dead)
    };
    let stores = state
        .members
        .iter()
        .filter(|(store, _)| alive(store))
        .map(|(store, member)| StoreAddress {
            store: *store,
            name: member.name.clone(),
            addresses: seen[store].addresses.clone(),
        })
        .collect();
    let shards = (0..founding.sharding.shards)
        .map(|number| {
            let group = super::group_of(ShardId::main(number));
            let entry = state.groups.get(&group);
            let replicas: Vec<u64> = entry
                .map(|entry| {
                    entry
                        .replicas
                        .iter()
                        .map(|id| ReplicaAddress::of(*id).store)
                        .collect()
                })
                .unwrap_or_default();
            let known = registry.get(group).and_then(|hosted| hosted.leader_store());
            let preferred = entry
                .and_then(|entry| entry.placement.leader)
                .filter(|store| replicas.contains(store));
            ShardPlace {
                leader: known.or(preferred).filter(alive),
                replicas,
            }
        })
        .collect();
    Some(RoutingTable {
        cluster: founding.cluster,
        epoch: state.epoch,
        sharding: founding.sharding,
        stores,
        shards,
    })
}
