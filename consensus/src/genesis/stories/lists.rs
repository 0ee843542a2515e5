//! Who starts when with which list, and what is founded.

use super::town::*;
use crate::genesis::*;

#[test]
fn seeds_with_one_list_found_one_cluster_whoever_starts_first() {
    // DESIGN section 8, Genesis; the order in which a list is written makes no difference.
    let mut town = Town::default();
    town.start('c', "cab");
    town.run_ms(3_000);
    town.start('b', "bca");
    town.run_ms(3_000);
    assert_eq!(town.chosen('b'), None, "a has not stated");
    assert_eq!(
        town.seeds[&'b'].genesis.as_ref().unwrap().unheard(),
        [name('a')]
    );
    town.start('a', "abc");
    town.run_ms(1_000);
    assert!(town.chosen('a').is_some());
    assert_eq!(town.chosen('a'), town.chosen('b'));
    assert_eq!(town.chosen('a'), town.chosen('c'));
}

#[test]
fn a_seed_alone_in_its_list_founds_alone_and_the_others_join() {
    // E25, first trace: a has the list [a], b and c have [a, b, c].
    let mut town = Town::default();
    town.start('b', "abc");
    town.start('c', "abc");
    town.run_ms(1_000);
    town.start('a', "a");
    town.run_ms(2_000);
    let cluster = town.chosen('a');
    assert!(cluster.is_some());
    assert_eq!((town.joins('b'), town.joins('c')), (cluster, cluster));
}

#[test]
fn seeds_with_different_lists_found_nothing_and_say_who_has_which() {
    // E25: nobody founds while lists differ; a start with another list heals it.
    let mut town = Town::default();
    town.start('a', "abc");
    town.start('b', "ab");
    town.run_ms(1_000);
    assert_eq!(town.obstacle('a'), None, "c has not answered yet");
    town.start('c', "abc");
    town.run_ms(3_000);
    let others = vec![(name('b'), list("ab"))];
    let mine = list("abc");
    assert_eq!(
        town.obstacle('c'),
        Some(&Obstacle::Differs { mine, others })
    );
    assert!("abc".chars().all(|seed| town.chosen(seed).is_none()));
    let before = town.disk('b').incarnation;
    town.restart('b', "abc");
    town.run_ms(3_000);
    assert_eq!(town.disk('b').incarnation, before, "the same disk");
    assert!("abc".chars().all(|seed| town.chosen(seed).is_some()));
    assert_eq!(town.obstacle('c'), None);
}

#[test]
fn an_old_statement_binds_nobody() {
    // E25: b stated [a, b] and starts again with [b, c]; a counts the old statement and founds nothing with it.
    let mut town = Town::default();
    town.lose("word", 'a', "b");
    town.start('b', "ab");
    town.start('a', "ab");
    assert!(town.disk('a').electorate.is_some());
    town.lost.clear();
    town.restart('b', "bc");
    town.start('c', "bc");
    town.run_ms(3_000);
    assert_eq!(town.chosen('a'), None);
    assert!(town.chosen('b').is_some());
    assert_eq!(town.chosen('b'), town.chosen('c'));
    assert_eq!(town.joins('a'), town.chosen('b'));
}

#[test]
fn a_word_outlives_another_list() {
    // E25: a gave its word with [a, b]; another list at its next start neither frees it nor founds with others.
    let mut town = Town::default();
    town.lose("word", 'a', "b");
    town.start('b', "ab");
    town.start('a', "ab");
    let begun = list("ab");
    assert!(town.disk('a').electorate.is_some());
    town.restart('a', "ac");
    town.start('c', "ac");
    town.run_ms(3_000);
    let given = list("ac");
    assert_eq!(town.obstacle('a'), Some(&Obstacle::Bound { begun, given }));
    assert_eq!((town.chosen('a'), town.chosen('c')), (None, None));
    town.lost.clear();
    town.run_ms(3_000);
    assert!(town.chosen('a').is_some(), "b still wants what a began");
    assert_eq!(town.joins('c'), town.chosen('a'));
}

#[test]
fn a_seed_that_joined_another_cluster_votes_in_no_founding_any_more() {
    // E25: a and b gave their word, c founded alone, b joined it, c's disk was lost: b has data, and must not help a to found.
    let mut town = Town::default();
    town.lose("word", 'a', "c");
    for seed in "cba".chars() {
        town.start(seed, "abc");
    }
    assert!(town.disk('b').electorate.is_some());
    assert_eq!(town.disk('c').electorate, None);
    town.lose("holds", 'c', "a");
    town.restart('c', "c");
    town.run_ms(1_000);
    let cluster = town.chosen('c');
    assert_eq!(town.joins('b'), cluster);
    town.admit('b');
    town.wipe('c');
    town.lost.clear();
    town.lose("holds", 'b', "c"); // c witnesses before it hears of b's data
    town.start('c', "abc");
    town.run_ms(5_000);
    assert!(
        town.disk('a').complete,
        "words of all, one from a disk with data since"
    );
    assert_eq!(town.chosen('a'), None);
    assert_eq!(town.joins('a'), cluster);
}
