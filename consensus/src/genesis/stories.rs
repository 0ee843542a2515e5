//! Stories of foundings: who starts when with which list, whose disk is lost, and what is founded.
//!
//! Here: [`Town`], a network and disks that do exactly what a script says, the stories, and the bounds of what is decoded. Each names
//! the hazard it answers. Faults by chance are the simulator's business (crate `tests`).

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::*;

fn name(letter: char) -> SeedName {
    SeedName::new(letter).unwrap()
}

fn list(letters: &str) -> SeedList {
    SeedList::new(letters.chars().map(name)).unwrap()
}

fn card(letter: char) -> Card {
    Card::new(Bytes::from(format!("card of {letter}"))).unwrap()
}

fn kind(body: &Body) -> &'static str {
    match body {
        Body::Statement {
            electorate: Some(_),
            ..
        } => "word",
        body => body.name(),
    }
}

/// One machine with a disk, which outlives its process.
#[derive(Default)]
struct Seed {
    genesis: Option<Genesis>,
    disk: Option<Durable>,
    holds: Option<ClusterId>,
    chosen: Option<ClusterId>,
    joins: Option<ClusterId>,
}

/// Seeds, wires between them and a clock.
#[derive(Default)]
struct Town {
    now: Duration,
    starts: u64,
    seeds: BTreeMap<char, Seed>,
    wire: VecDeque<(char, Message)>,
    /// Kinds of messages that do not get from one to the other. A statement with a word in it is a "word".
    lost: BTreeSet<(&'static str, char, char)>,
    /// Seeds whose certificate was renewed, with another key.
    renewed: BTreeSet<char>,
    /// Every message that was ever sent.
    sent: Vec<(char, Message)>,
}

impl Town {
    fn of(letters: &str) -> Self {
        let mut town = Self::default();
        for letter in letters.chars() {
            town.start(letter, letters);
        }
        town
    }

    fn start(&mut self, letter: char, letters: &str) {
        self.starts += 1;
        let (now, starts) = (self.now, self.starts);
        let seed = self.seeds.entry(letter).or_default();
        let options = GenesisOptions::default();
        let genesis = match seed.holds {
            Some(cluster) => {
                Genesis::holding(options, name(letter), cluster, seed.disk.clone(), now)
            }
            None => {
                let seat = Seat {
                    me: name(letter),
                    list: list(letters),
                    card: match self.renewed.contains(&letter) {
                        true => Card::new(Bytes::from_static(b"renewed")).unwrap(),
                        false => card(letter),
                    },
                    candidate: Record::new(ClusterId(u128::from(starts)), Bytes::new()).unwrap(),
                    restored: seed.disk.clone(),
                };
                Genesis::seeking(options, seat, starts, now).unwrap()
            }
        };
        seed.genesis = Some(genesis);
        self.settle();
    }

    fn stop(&mut self, letter: char) {
        self.seeds.entry(letter).or_default().genesis = None;
    }

    fn wipe(&mut self, letter: char) {
        self.seeds.insert(letter, Seed::default());
    }

    fn restart(&mut self, letter: char, letters: &str) {
        self.stop(letter);
        self.start(letter, letters);
    }

    /// Until nobody has anything to do at this time.
    fn settle(&mut self) {
        loop {
            for (letter, seed) in &mut self.seeds {
                let Some(genesis) = &mut seed.genesis else {
                    continue;
                };
                while genesis.wake_at().is_some_and(|at| at <= self.now) {
                    genesis.tick(self.now);
                }
                while let Some(output) = genesis.poll_output() {
                    match output {
                        Output::Persist(token, durable) => {
                            seed.disk = Some(durable);
                            genesis.persisted(self.now, token);
                        }
                        Output::Send(to, message) => {
                            let to = to.as_str().chars().next().unwrap();
                            self.sent.push((to, message.clone()));
                            if !self.lost.contains(&(kind(&message.body), *letter, to)) {
                                self.wire.push_back((to, message));
                            }
                        }
                        Output::Chosen(_, record) => seed.chosen = Some(record.cluster()),
                        Output::Join { cluster, .. } => seed.joins = Some(cluster),
                        Output::Obstructed(_) => {}
                    }
                }
            }
            let Some((to, message)) = self.wire.pop_front() else {
                return;
            };
            self.hand_over(to, message);
        }
    }

    fn hand_over(&mut self, to: char, message: Message) {
        if let Some(genesis) = self
            .seeds
            .get_mut(&to)
            .and_then(|seed| seed.genesis.as_mut())
        {
            genesis.receive(self.now, message);
        }
    }

    fn run_ms(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds / 10 {
            self.now += Duration::from_millis(10);
            self.settle();
        }
    }

    fn chosen(&self, letter: char) -> Option<ClusterId> {
        self.seeds[&letter].chosen
    }

    fn joins(&self, letter: char) -> Option<ClusterId> {
        self.seeds[&letter].joins
    }

    fn obstacle(&self, letter: char) -> Option<&Obstacle> {
        self.seeds[&letter].genesis.as_ref()?.obstacle()
    }

    fn disk(&self, letter: char) -> &Durable {
        self.seeds[&letter].disk.as_ref().unwrap()
    }

    /// What the runtime does with the cluster that a seed is in: from now on its store has data of it.
    fn admit(&mut self, letter: char) {
        let now = self.now;
        let seed = self.seeds.get_mut(&letter).unwrap();
        seed.holds = seed.chosen.or(seed.joins);
        if let (Some(genesis), Some(cluster)) = (&mut seed.genesis, seed.holds) {
            genesis.held(now, cluster);
        }
    }

    /// Loses messages of that kind that `from` sends to the others.
    fn lose(&mut self, what: &'static str, from: char, others: &str) {
        self.lost
            .extend(others.chars().map(|other| (what, from, other)));
    }

    /// The last message of the kind that `from` sent to `to`.
    fn copy_of(&self, what: &str, from: char, to: char) -> Message {
        let mut sent = self.sent.iter().rev();
        let found = sent.find(|(receiver, message)| {
            *receiver == to && message.from == name(from) && kind(&message.body) == what
        });
        found.unwrap().1.clone()
    }
}

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
    let mut town = Town::default();
    town.lose("word", 'a', "b");
    for seed in "cba".chars() {
        town.start(seed, "abc");
    }
    let former = town.disk('b').incarnation;
    let electorate = town.disk('a').electorate.clone().unwrap();
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
    let mut town = Town::default();
    town.lose("word", 'a', "b");
    for seed in "cba".chars() {
        town.start(seed, "abc");
    }
    let former = town.disk('b').incarnation;
    let electorate = town.disk('a').electorate.clone().unwrap();
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

#[test]
fn an_electorate_carries_every_seeds_card() {
    // DESIGN section 8: all first voters are born with each other's keys, although they may never have met before.
    let mut town = Town::default();
    for (one, other) in [('b', "c"), ('c', "b")] {
        for kind in ["statement", "word"] {
            town.lose(kind, one, other);
        }
    }
    for seed in "abc".chars() {
        town.start(seed, "abc");
    }
    town.run_ms(3_000);
    for seed in "abc".chars() {
        assert!(town.disk(seed).chosen.is_some(), "{seed}");
        let electorate = town.disk(seed).electorate.clone().unwrap();
        for other in "abc".chars() {
            assert_eq!(electorate.card(&name(other)), Some(&card(other)));
        }
    }
}

#[test]
fn who_has_data_only_answers() {
    // The file of a founding that is over is never written again, whatever comes late.
    let mut town = Town::of("abc");
    town.run_ms(1_000);
    let cluster = town.chosen('b').unwrap();
    let kinds = ["statement", "word", "prepare", "accept", "chosen"];
    let late = kinds.map(|kind| town.copy_of(kind, 'a', 'b'));
    let voter = town.disk('b').clone();
    let witness = Durable {
        complete: false,
        chosen: None,
        incarnation: town.disk('c').incarnation,
        ..voter.clone()
    };
    for durable in [voter, witness] {
        let options = GenesisOptions::default();
        let now = town.now;
        let mut b = Genesis::holding(options, name('b'), cluster, Some(durable), now);
        for message in &late {
            b.receive(now, message.clone());
            while let Some(output) = b.poll_output() {
                assert!(matches!(output, Output::Send(..)), "{output:?}");
            }
        }
        assert_eq!(b.wake_at(), None);
    }
}

#[test]
fn nothing_is_said_before_it_is_on_disk() {
    // H2, for foundings; "Paxos Made Simple" 2.5.
    let seat = Seat {
        me: name('a'),
        list: list("ab"),
        card: Card::default(),
        candidate: Record::new(ClusterId(1), Bytes::new()).unwrap(),
        restored: None,
    };
    let options = GenesisOptions::default();
    let mut genesis = Genesis::seeking(options, seat, 7, Duration::ZERO).unwrap();
    genesis.tick(Duration::ZERO);
    let Some(Output::Persist(token, durable)) = genesis.poll_output() else {
        panic!("the statement is written first");
    };
    assert_eq!(durable.list, list("ab"));
    assert_eq!(genesis.poll_output(), None);
    genesis.persisted(Duration::ZERO, token);
    assert!(matches!(genesis.poll_output(), Some(Output::Send(to, _)) if to == name('b')));
}

#[test]
fn a_seed_that_its_own_list_does_not_name_is_refused() {
    // DESIGN section 8: `--seeds LIST` contains the node itself.
    let seat = Seat {
        me: name('c'),
        list: list("ab"),
        card: Card::default(),
        candidate: Record::new(ClusterId(1), Bytes::new()).unwrap(),
        restored: None,
    };
    let refused = Genesis::seeking(GenesisOptions::default(), seat, 7, Duration::ZERO);
    assert!(matches!(refused, Err(SeedsError::NotListed { .. })));
}

#[test]
fn what_is_too_long_or_does_not_fit_together_does_not_decode() {
    // M11: everything that a peer sends is bounded before it is kept.
    let encode = |names: &[String]| rmp_serde::to_vec_named(names).unwrap();
    let names = |count: usize| (0..count).map(|n| format!("n{n}")).collect::<Vec<_>>();
    let decode = |bytes: &[u8]| rmp_serde::from_slice::<SeedList>(bytes).is_ok();
    assert!(decode(&encode(&names(SEEDS_MAX))));
    assert!(!decode(&encode(&names(SEEDS_MAX + 1))));
    assert!(!decode(&encode(&[])));
    assert!(!decode(&encode(&["a".into(), "a".into()])));
    assert!(decode(&encode(&["a".repeat(NAME_BYTES_MAX)])));
    assert!(!decode(&encode(&["a".repeat(NAME_BYTES_MAX + 1)])));
    let record = |bytes: usize| {
        #[derive(serde::Serialize)]
        struct Raw {
            cluster: ClusterId,
            payload: Bytes,
        }
        let (cluster, payload) = (ClusterId(1), Bytes::from(vec![0; bytes]));
        let raw = rmp_serde::to_vec_named(&Raw { cluster, payload }).unwrap();
        rmp_serde::from_slice::<Record>(&raw).is_ok()
    };
    assert!(record(RECORD_BYTES_MAX));
    assert!(!record(RECORD_BYTES_MAX + 1));
    #[derive(serde::Serialize)]
    struct Drawn {
        list: SeedList,
        incarnations: Vec<u64>,
        cards: Vec<Bytes>,
    }
    let electorate = |incarnations: usize, cards: usize, card_bytes: usize| {
        let drawn = Drawn {
            list: list("ab"),
            incarnations: vec![1; incarnations],
            cards: vec![Bytes::from(vec![0; card_bytes]); cards],
        };
        let drawn = rmp_serde::to_vec_named(&drawn).unwrap();
        rmp_serde::from_slice::<Electorate>(&drawn).is_ok()
    };
    assert!(electorate(2, 2, CARD_BYTES_MAX));
    assert!(!electorate(2, 2, CARD_BYTES_MAX + 1));
    assert!(!electorate(1, 2, 0) && !electorate(3, 2, 0));
    assert!(!electorate(2, 1, 0) && !electorate(2, 3, 0));
}
