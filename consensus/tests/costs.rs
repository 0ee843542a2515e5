//! What a group may take from the allocator, so that it cannot creep up: per message, per commit, and at rest.
//!
//! The benchmark `memory` prints the same figures.

#[path = "../benches/costs/mod.rs"]
mod costs;

use costs::Meter;
use synod_consensus::Output;

#[test]
fn a_message_allocates_only_what_leaves_the_group() {
    // Issue "The Raft group", how fast: per-message work allocates nothing that a reused buffer could hold.
    let most = Meter::new().per_message();
    let bounds = [
        // Two appends, and one write: its list and its entries.
        ("proposal", 4),
        // One write: its list and its entries. And entries to apply, of which the append told that they are committed.
        ("append", 3),
        // Entries to apply.
        ("appended", 1),
        ("committed", 1),
        ("beat", 0),
        ("heartbeat", 0),
        ("heartbeat_reply", 0),
    ];
    for (name, bound) in bounds {
        let took = most[name];
        assert!(
            took <= bound,
            "{name} allocated {took} blocks, above {bound}"
        );
    }
    assert_eq!(
        most.len(),
        bounds.len(),
        "every kind has its bound: {most:?}"
    );
}

#[test]
fn a_batch_allocates_no_more_than_a_command() {
    let (leader, follower) = Meter::per_commit(64, 64);
    assert!(
        leader * 64.0 < 6.0,
        "{leader} blocks per commit at the leader"
    );
    assert!(
        follower * 64.0 < 4.0,
        "{follower} blocks per commit at a follower"
    );
}

#[test]
fn outputs_are_small_enough_to_be_moved_in_registers() {
    // Each commit moves a dozen of them; above 128 bytes every move is a call of memcpy, together a fifth of the time of a commit.
    assert!(size_of::<Output>() <= 128, "{}", size_of::<Output>());
}

#[test]
fn an_idle_group_occupies_at_most_a_kilobyte() {
    // Issue "The Raft group", how fast. A leader also holds what it knows of its followers.
    let [leader, first, second] = Meter::at_rest().footprints();
    for follower in [first, second] {
        assert!(follower.bytes <= 1_024, "{follower}");
    }
    assert!(leader.bytes <= 1_024, "{leader}");
}

#[test]
fn an_idle_group_does_nothing_before_it_asked_to_be_woken() {
    // Issue "The Raft group", how fast: no CPU between wake-ups. A tick that comes too early changes nothing and costs nothing.
    for (allocations, outputs, stays) in Meter::at_rest().rest() {
        assert_eq!((allocations, outputs, stays), (0, 0, true));
    }
}
