//! Machines that come back without their disk, or never, while a cluster is founded.

use super::town::*;
use crate::genesis::*;

/// Three seeds of which a drew up the electorate and counted b in, whose word is missing; and b's disk of that time.
fn counted_in_without_a_word() -> (Town, Electorate, Incarnation) {
    let mut town = Town::default();
    town.lose("word", 'a', "b");
    for seed in "cba".chars() {
        town.start(seed, "abc");
    }
    let former = town.disk('b').incarnation;
    let electorate = town.disk('a').electorate.clone().unwrap();
    (town, electorate, former)
}

#[test]
fn two_wiped_seeds_join_what_the_third_still_has() {
    // E25, second trace: two of three seeds are wiped, also while the third is down.
    let mut town = Town::of("abc");
    town.run_ms(1_000);
    let cluster = town.chosen('c');
    town.admit('c');
    town.stop('c');
    town.wipe('a');
    town.wipe('b');
    town.start('a', "abc");
    town.start('b', "abc");
    town.run_ms(10_000);
    assert_eq!((town.chosen('a'), town.chosen('b')), (None, None));
    town.start('c', "abc");
    town.run_ms(1_000);
    assert_eq!((town.joins('a'), town.joins('b')), (cluster, cluster));
}

#[test]
fn a_wiped_seed_does_not_vote_in_the_place_of_its_former_self() {
    // E25, E32: a and b choose, nobody learns it, b's disk is lost; b and c must not choose again.
    let mut town = Town::default();
    for seed in "abc".chars() {
        town.lose("accepted", seed, "abc"); // what is accepted stays unknown to the others
        town.lose("chosen", seed, "abc");
    }
    town.lose("accept", 'a', "c");
    for seed in "abc".chars() {
        town.start(seed, "abc");
    }
    let accepted = |town: &Town, seed| town.disk(seed).acceptor.accepted.clone();
    let (_, record) = accepted(&town, 'a').unwrap();
    assert_eq!(accepted(&town, 'b').unwrap().1, record, "chosen by a and b");
    assert_eq!(accepted(&town, 'c'), None);
    town.lost.clear();
    town.stop('a');
    town.wipe('b');
    town.start('b', "abc");
    town.run_ms(10_000);
    assert_eq!((town.chosen('b'), town.chosen('c')), (None, None));
    town.start('a', "abc");
    town.run_ms(5_000);
    assert!(town.disk('b').complete, "b witnesses");
    let cluster = Some(record.cluster());
    assert_eq!((town.chosen('a'), town.chosen('c')), (cluster, cluster));
    assert_eq!(
        town.joins('b'),
        cluster,
        "b's new disk is none of the first voters"
    );
}

#[test]
fn no_choice_begins_before_every_seed_gave_its_word() {
    // E25: a and b would choose while c gave no word; then b is wiped, and c would found with it on a's old statement.
    let mut town = Town::default();
    town.lose("word", 'a', "c");
    for seed in "cba".chars() {
        town.start(seed, "abc");
    }
    town.run_ms(5_000);
    assert!(town.disk('b').electorate.is_some());
    assert_eq!(town.disk('c').electorate, None);
    assert!(!town.disk('a').complete && !town.disk('b').complete);
    assert_eq!((town.chosen('a'), town.chosen('b')), (None, None));
    town.lost.clear();
    town.run_ms(1_000);
    assert!(town.chosen('c').is_some());
}

#[test]
fn a_seed_wiped_before_it_gave_its_word_witnesses_on_its_new_disk() {
    // E25: words from the electorate's disks alone would leave a and c stuck for ever.
    let (mut town, electorate, former) = counted_in_without_a_word();
    assert_eq!(electorate.incarnation(&name('b')), Some(former));
    town.wipe('b');
    town.lost.clear();
    town.start('b', "abc");
    town.run_ms(3_000);
    assert_ne!(town.disk('b').incarnation, former);
    assert!(town.chosen('a').is_some());
    assert_eq!(town.chosen('a'), town.chosen('c'));
    assert_eq!(town.joins('b'), town.chosen('a'));
}

#[test]
fn a_seed_whose_card_changed_before_it_gave_its_word_is_no_founder_under_the_old_one() {
    // a counted b in with its old key. Voting for that, b would found a cluster in which nobody knows it.
    let (mut town, electorate, former) = counted_in_without_a_word();
    assert_eq!(electorate.card(&name('b')), Some(&card('b')));
    town.renewed.insert('b');
    town.lost.clear();
    town.restart('b', "abc");
    town.run_ms(3_000);
    assert_ne!(town.disk('b').incarnation, former);
    assert!(town.chosen('a').is_some());
    assert_eq!(town.chosen('a'), town.chosen('c'));
    assert_eq!(
        (town.chosen('b'), town.joins('b')),
        (None, town.chosen('a'))
    );
    // Once it was not counted in yet, the new card is as good as any.
    let mut town = Town::default();
    town.start('b', "ab");
    town.renewed.insert('b');
    town.restart('b', "ab");
    town.start('a', "ab");
    town.run_ms(3_000);
    assert!(town.chosen('a').is_some());
    assert_eq!(town.chosen('a'), town.chosen('b'));
}

#[test]
fn a_wiped_chair_takes_up_what_its_former_self_began() {
    // E25: the chair gave its word and b followed; on its new disk it must not draw up another electorate.
    let mut town = Town::default();
    town.lose("word", 'a', "c");
    for seed in "cba".chars() {
        town.start(seed, "abc");
    }
    let begun = town.disk('b').electorate.clone();
    assert!(begun.is_some());
    town.wipe('a');
    town.lost.clear();
    town.start('a', "abc");
    town.run_ms(3_000);
    assert_eq!(town.disk('a').electorate, begun);
    assert_eq!(town.disk('c').electorate, begun);
    assert!(town.chosen('b').is_some());
    assert_eq!(town.chosen('b'), town.chosen('c'));
    assert_eq!(town.joins('a'), town.chosen('b'));
}

#[test]
fn a_minority_may_crash_for_good_once_all_gave_their_word() {
    // DESIGN section 8: Paxos tolerates crashes; whoever comes back learns the same record.
    let mut town = Town::default();
    for seed in "abcde".chars() {
        town.lose("prepare", seed, "abcde");
    }
    for seed in "abcde".chars() {
        town.start(seed, "abcde");
    }
    town.run_ms(2_000);
    assert!("abcde".chars().all(|seed| town.disk(seed).complete));
    town.stop('a');
    town.stop('b');
    town.lost.clear();
    for seed in "cde".chars() {
        town.restart(seed, "abcde");
    }
    town.run_ms(5_000);
    let cluster = town.chosen('c');
    assert!(cluster.is_some());
    assert_eq!((town.chosen('d'), town.chosen('e')), (cluster, cluster));
    town.start('a', "abcde");
    town.run_ms(1_000);
    assert_eq!(town.chosen('a'), cluster);
}

#[test]
fn a_founding_that_lost_most_of_its_disks_says_so() {
    // E25: two of two gave their word, one disk is lost: whether it had accepted something nobody can know.
    let mut town = Town::default();
    town.lose("promise", 'b', "a");
    town.lose("promise", 'a', "b");
    town.start('a', "ab");
    town.start('b', "ab");
    town.run_ms(300);
    assert!(town.disk('a').complete);
    town.wipe('b');
    town.lost.clear();
    town.start('b', "ab");
    town.run_ms(3_000);
    let wiped = vec![name('b')];
    assert_eq!(town.obstacle('a'), Some(&Obstacle::Lost { wiped }));
    town.wipe('a');
    town.restart('b', "ab");
    town.start('a', "ab");
    town.run_ms(3_000);
    assert_eq!(
        town.chosen('b'),
        None,
        "b's word still stands for what was begun"
    );
    town.wipe('a');
    town.wipe('b');
    town.start('a', "ab");
    town.start('b', "ab");
    town.run_ms(3_000);
    assert!(town.chosen('a').is_some(), "cleared, all of them");
    assert_eq!(town.chosen('a'), town.chosen('b'));
}

#[test]
fn a_late_statement_of_a_lost_disk_is_not_news() {
    // Simulator, seed 133: the new disk was heard first, the old one's message came late, and the new one was ignored ever after.
    let mut town = Town::default();
    town.start('b', "abc");
    town.start('c', "abc");
    let late = town.copy_of("statement", 'b', 'c');
    town.wipe('b');
    town.start('b', "abc");
    town.run_ms(1_000);
    town.hand_over('c', late.clone());
    town.start('a', "abc");
    town.hand_over('a', late);
    town.run_ms(2_000);
    assert!("abc".chars().all(|seed| town.chosen(seed).is_some()));
}

#[test]
fn a_voter_whose_fellows_lost_their_disks_joins_what_they_joined() {
    // Simulator, seed 10674: c voted and never learned the record; nobody who did has it any more, but the cluster lives.
    let mut town = Town::default();
    for kind in ["accept", "chosen"] {
        town.lose(kind, 'a', "c");
        town.lose(kind, 'b', "c");
    }
    for seed in "abc".chars() {
        town.start(seed, "abc");
    }
    town.run_ms(2_000);
    let cluster = town.chosen('a');
    assert!(cluster.is_some());
    assert_eq!(town.chosen('b'), cluster);
    town.admit('a');
    town.wipe('b');
    town.start('b', "abc");
    town.run_ms(3_000);
    assert_eq!(town.joins('b'), cluster);
    assert_eq!(town.joins('c'), None, "a still has the record");
    town.admit('b');
    town.wipe('a');
    town.start('a', "abc");
    town.run_ms(5_000);
    assert_eq!(town.joins('a'), cluster);
    town.admit('a');
    town.run_ms(3_000);
    assert_eq!((town.chosen('c'), town.joins('c')), (None, cluster));
}

#[test]
fn news_of_a_cluster_that_was_lost_meanwhile_stops_nobody() {
    // M40: c's cluster was c's alone and went with its disk; what c said of it arrives late.
    let mut town = Town::default();
    town.start('c', "c");
    town.run_ms(1_000);
    town.admit('c');
    town.lose("holds", 'c', "b");
    town.start('b', "abc");
    let late = town.copy_of("holds", 'c', 'b');
    town.wipe('c');
    town.lost.clear();
    town.start('c', "abc");
    town.run_ms(2_000);
    town.hand_over('b', late);
    town.start('a', "abc");
    town.run_ms(3_000);
    assert_eq!(town.joins('b'), None);
    assert!("abc".chars().all(|seed| town.chosen(seed).is_some()));
}

#[test]
fn a_seed_that_nobody_lets_in_seeks_again() {
    // M40: b heard of c's cluster in time, but it went with c's disk before b was let in.
    let mut town = Town::default();
    town.start('c', "c");
    town.run_ms(1_000);
    town.admit('c');
    town.start('b', "abc");
    assert!(town.joins('b').is_some());
    town.wipe('c');
    town.start('c', "abc");
    town.start('a', "abc");
    town.run_ms(3_000);
    assert_eq!(town.chosen('a'), None, "b waits to be let in");
    let now = town.now;
    let machine = town.seeds.get_mut(&'b').unwrap().genesis.as_mut().unwrap();
    machine.not_let_in(now);
    town.run_ms(3_000);
    assert!("abc".chars().all(|seed| town.chosen(seed).is_some()));
}

#[test]
fn a_founding_that_is_torn_says_so_until_all_its_disks_are_cleared() {
    // E25: the chair's word is on the wire when its disk is lost; its new disk draws up another electorate, and b follows the
    // old one. No disk may take its word back, so only an operator can.
    let mut town = Town::default();
    town.lose("word", 'a', "bc");
    for seed in "cba".chars() {
        town.start(seed, "abc");
    }
    let late = town.copy_of("word", 'a', 'b');
    town.wipe('a');
    town.lost.remove(&("word", 'a', 'c'));
    town.start('a', "abc");
    town.hand_over('b', late);
    town.settle();
    town.lost.clear();
    town.run_ms(5_000);
    assert!("abc".chars().all(|seed| town.chosen(seed).is_none()));
    let torn = |letters: &str| Obstacle::Torn {
        others: letters.chars().map(name).collect(),
    };
    assert_eq!(town.obstacle('a'), Some(&torn("b")));
    assert_eq!(town.obstacle('b'), Some(&torn("ac")));
    assert_eq!(town.obstacle('c'), Some(&torn("b")));
    for seed in "abc".chars() {
        town.wipe(seed);
    }
    for seed in "abc".chars() {
        town.start(seed, "abc");
    }
    town.run_ms(3_000);
    assert!("abc".chars().all(|seed| town.chosen(seed).is_some()));
}
