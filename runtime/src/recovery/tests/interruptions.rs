//! Recoveries that end midway, are taken back, or are given again.

use super::*;

#[test]
fn a_crash_anywhere_leaves_what_the_same_command_finishes() {
    let mut most = 0;
    for limit in 0.. {
        let folder = stores(&[1]);
        let mut plan = draw_up(folder.path()).unwrap();
        let done = plan.carry_out_until(Some(limit)).unwrap();
        drop(plan);
        // No store that was changed and is not finished starts a node, and none starts while another waits to be changed.
        let changed: Vec<bool> = paths(folder.path(), &[1, 2])
            .iter()
            .map(|path| {
                let disk = RealDisk::new(path.join("log")).unwrap();
                let log = SegmentedLog::open(Box::new(disk), options()).unwrap();
                let new = |key: &ReplicaKey| key.replica.get() & 0xffff_ffff > 1 << 16;
                log.replicas().iter().any(new)
            })
            .collect();
        for path in paths(folder.path(), &[1, 2]) {
            let root = RealDisk::new(&path).unwrap();
            let blocked = matches!(
                before_start_of_a_copy(&root),
                Err(JournalError::Unfinished { .. })
            );
            let all_changed = changed.iter().all(|changed| *changed);
            assert!(
                blocked || all_changed || !changed.contains(&true),
                "after {done} steps"
            );
        }
        match draw_up(folder.path()) {
            Ok(plan) => confirm(plan, true).unwrap(),
            // It came to its end: the lost are no members any more.
            Err(RecoveryError::NoMember { .. }) => {}
            Err(error) => panic!("after {done} steps: {error}"),
        }
        check_recovered(folder.path());
        if done < limit {
            most = done;
            break;
        }
    }
    assert!(most > 8, "{most} steps");
}

/// Asks what a start would be told, without taking a prepared recovery back.
fn before_start_of_a_copy(disk: &RealDisk) -> Result<(), JournalError> {
    let copy = tempfile::tempdir().unwrap();
    let disk_of_copy = RealDisk::new(copy.path()).unwrap();
    for name in disk.list().unwrap() {
        std::fs::copy(disk.path().join(&name), copy.path().join(&name)).unwrap();
    }
    before_start(&disk_of_copy)
}

#[test]
fn a_node_that_starts_takes_a_prepared_recovery_back_and_no_begun_one() {
    let folder = stores(&[]);
    let store = RealDisk::new(folder.path().join("n1")).unwrap();
    let mut plan = draw_up(folder.path()).unwrap();
    assert_eq!(plan.carry_out_until(Some(2)).unwrap(), 2);
    drop(plan);
    before_start(&store).unwrap();
    // Planned anew, for nothing was changed.
    let mut plan = draw_up(folder.path()).unwrap();
    assert!(!plan.resumed);
    assert_eq!(plan.carry_out_until(Some(3)).unwrap(), 3);
    drop(plan);
    assert!(matches!(
        before_start(&store),
        Err(JournalError::Unfinished { .. })
    ));
    // The other, still prepared, takes its mark away by starting: nothing had changed, so the plan is made anew.
    let other = RealDisk::new(folder.path().join("n2")).unwrap();
    before_start(&other).unwrap();
    for limit in 0..3 {
        let mut plan = draw_up(folder.path()).unwrap();
        assert!(!plan.resumed);
        plan.carry_out_until(Some(limit)).unwrap();
    }
    confirm(draw_up(folder.path()).unwrap(), true).unwrap();
    check_recovered(folder.path());
}

#[test]
fn a_store_put_back_from_a_copy_does_not_undo_a_recovery_that_has_changed_another() {
    let folder = stores(&[]);
    let mut plan = draw_up(folder.path()).unwrap();
    // Two marks prepared, two begun, and n1 has begun to change.
    assert_eq!(plan.carry_out_until(Some(5)).unwrap(), 5);
    drop(plan);
    std::fs::remove_file(folder.path().join("n2/recovery")).unwrap();
    let refused = draw_up(folder.path()).unwrap_err();
    assert!(
        matches!(refused, RecoveryError::Foreign { .. }),
        "{refused}"
    );
}

#[test]
fn a_recovery_that_was_begun_is_finished_only_by_its_own_words() {
    let folder = stores(&[]);
    let mut plan = draw_up(folder.path()).unwrap();
    let confirmation = plan.confirmation();
    // Two marks prepared, two begun.
    assert_eq!(plan.carry_out_until(Some(4)).unwrap(), 4);
    drop(plan);
    let refused = Plan::draw_up(&paths(folder.path(), &[1]), &names(&[3, 4, 5])).unwrap_err();
    assert!(
        refused.to_string().contains("needs the stores of n2 too"),
        "{refused}"
    );
    let refused = Plan::draw_up(&paths(folder.path(), &[1, 2]), &names(&[3, 4])).unwrap_err();
    assert!(
        refused.to_string().contains("(--lost n3,n4,n5)"),
        "{refused}"
    );
    let mut plan = draw_up(folder.path()).unwrap();
    assert!(plan.resumed);
    assert_eq!(plan.confirmation(), confirmation, "the plan is the same");
    let refused = plan.carry_out(&confirmation, false).unwrap_err();
    assert!(matches!(refused, RecoveryError::EmptyUnconfirmed { .. }));
    plan.carry_out(&confirmation, true).unwrap();
    drop(plan);
    check_recovered(folder.path());
}

#[test]
fn a_store_that_has_changed_needs_no_other_to_finish() {
    // The other survivor is lost too, or its node runs again: what all have begun each can end.
    let folder = stores(&[]);
    let mut plan = draw_up(folder.path()).unwrap();
    let confirmation = plan.confirmation();
    assert_eq!(plan.carry_out_until(Some(5)).unwrap(), 5);
    drop(plan);
    let mut alone = Plan::draw_up(&paths(folder.path(), &[1]), &names(&[3, 4, 5])).unwrap();
    assert!(alone.resumed);
    assert_eq!(alone.confirmation(), confirmation);
    alone.carry_out(&confirmation, true).unwrap();
    drop(alone);
    before_start(&RealDisk::new(folder.path().join("n1")).unwrap()).unwrap();
    // n2 has not changed anything: it must not be taken for one that was never part of it, and goes on with n1.
    let n2 = RealDisk::new(folder.path().join("n2")).unwrap();
    assert!(matches!(
        before_start(&n2),
        Err(JournalError::Unfinished { .. })
    ));
    let refused = Plan::draw_up(&paths(folder.path(), &[2]), &names(&[3, 4, 5])).unwrap_err();
    assert!(
        refused.to_string().contains("needs the stores of n1 too"),
        "{refused}"
    );
    confirm(draw_up(folder.path()).unwrap(), true).unwrap();
    check_recovered(folder.path());
}

#[test]
fn ids_of_a_recovery_that_was_taken_back_are_not_given_again() {
    let folder = stores(&[]);
    let mut plan = draw_up(folder.path()).unwrap();
    assert_eq!(plan.carry_out_until(Some(2)).unwrap(), 2);
    let (store, serial) = (plan.head.next_store, plan.head.next_serial);
    drop(plan);
    before_start(&RealDisk::new(folder.path().join("n1")).unwrap()).unwrap();
    let plan = draw_up(folder.path()).unwrap();
    assert!(plan.head.next_store >= store && plan.head.next_serial >= serial);
    assert!(plan.head.next_serial > serial, "its ids are new ones");
}
