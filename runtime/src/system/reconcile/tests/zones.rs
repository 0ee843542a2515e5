//! Which members of which zones vote in the system group.

use super::*;

/// Members by zone who vote in the system group.
fn votes(world: &World) -> BTreeMap<Option<String>, usize> {
    let mut votes = BTreeMap::new();
    for id in &world.groups[&GroupId::ZERO].configuration.voters {
        let member = &world.state.members[&ReplicaAddress::of(*id).store];
        *votes.entry(member.zone.clone()).or_default() += 1;
    }
    votes
}

fn describe(world: &mut World, store: u64, zone: &str) {
    world.commit(SystemCommand::Describe {
        store,
        generation: 2,
        zone: Some(zone.to_owned()),
        capacity: 1,
    });
}

#[test]
fn the_loss_of_one_zone_leaves_the_system_group_its_majority() {
    // The first four of eight, of which three and then five vote, are in one zone.
    let mut world = World::grown(8, &["a", "bb", "ccc", "dddd", "eeeee", "ffffff", "ggggggg"]);
    for store in 1..=8 {
        describe(
            &mut world,
            store,
            ["east", "west", "south"][(store as usize / 4).min(2)],
        );
    }
    world.settle();
    let spread = votes(&world);
    assert_eq!(spread.values().sum::<usize>(), 5);
    assert!(spread.values().all(|votes| *votes <= 2), "{spread:?}");
    let voters = world.groups[&GroupId::ZERO].configuration.clone();
    world.settle();
    assert_eq!(
        world.groups[&GroupId::ZERO].configuration,
        voters,
        "it stays"
    );
}

#[test]
fn nobody_waits_for_a_vote_from_a_zone_whose_only_node_is_away() {
    let mut world = World::grown(8, &["a", "bb", "ccc", "dddd"]);
    for store in 1..=5 {
        describe(&mut world, store, if store == 5 { "west" } else { "east" });
    }
    world.away.insert(5);
    world.commit(SystemCommand::Drain { store: 1, on: true });
    world.settle();
    let voters = &world.groups[&GroupId::ZERO].configuration.voters;
    let stores: Vec<u64> = voters
        .iter()
        .map(|id| ReplicaAddress::of(*id).store)
        .collect();
    assert!(!stores.contains(&1), "{stores:?}");
}
