//! What is refused, and what is never said: seeds without a place, data, bytes that are too many.

use core::time::Duration;

use bytes::Bytes;

use super::town::*;
use crate::genesis::*;

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
