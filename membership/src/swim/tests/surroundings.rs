//! What the machine leaves to its caller (disks, names, connections, readiness), and must not be fooled by.

use std::path::Path;

use super::*;

/// Every file of the crate that is no test, with the part of its text before its tests.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "tests" {
                found.extend(sources(&path));
            }
        } else if !["tests.rs", "hazards.rs"].contains(&name.as_str()) {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            found.push((name, code.to_owned()));
        }
    }
    found
}

/// The first word in `code` that leads out of the machine.
fn way_out(code: &str) -> Option<&'static str> {
    const WAYS_OUT: [&str; 13] = [
        "std::fs",
        "std::io",
        "std::thread",
        "std::process",
        "std::env",
        "std::sync::mpsc",
        "Instant",
        "SystemTime",
        "TcpStream",
        "UdpSocket",
        "ToSocketAddrs",
        "async ",
        "unsafe",
    ];
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let code: Vec<&str> = code.lines().filter(is_code).collect();
    WAYS_OUT
        .into_iter()
        .find(|way| code.iter().any(|line| line.contains(way)))
}

#[test]
fn no_step_of_the_machine_reaches_a_disk_a_socket_or_a_clock() {
    // M30: serf#524, the snapshot of the members was compacted in the message path, which stalled above 2,000 nodes. Nor may it
    // resolve a name (M39): that blocks as long.
    assert_eq!(way_out("let now = Instant::now();"), Some("Instant"));
    assert_eq!(way_out("// std::fs is for others"), None);
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(sources.len() > 20, "{}", sources.len());
    for (name, code) in sources {
        assert_eq!(way_out(&code), None, "{name}");
    }
    // What a step asks for is sent or told; there is nothing that would have to be written before the next.
    let mut bench = Bench::of(4);
    bench.hear(2, vec![accused(3, 1, 0, Verdict::Suspect, 2)]);
    bench.swim.tick(ms(100));
    while let Some(output) = bench.swim.poll_output() {
        match output {
            SwimOutput::Datagram { .. } | SwimOutput::Stream { .. } | SwimOutput::Event(_) => {}
        }
    }
}

#[test]
fn whoever_moved_is_found_where_its_newest_record_says() {
    // M39: consul#22753, an address that was looked up once was used for ever. Here it is asked of the record at every sending.
    let mut bench = Bench::of(4);
    let at = |bench: &Bench| {
        let held = bench.swim.member(id(3)).unwrap();
        held.record().addresses.clone()
    };
    let first = at(&bench);
    bench.hear(2, vec![accused(3, 1, 0, Verdict::Dead, 2)]);
    bench.pass_with(ms(5_000), |bench, (to, packet)| {
        if to != id(3) {
            all_answer(bench, (to, packet));
        }
    });
    assert_eq!(bench.state(3), Some(MemberState::Dead));
    // Back at another address: the calls to the dead go there from now on.
    bench.clear();
    bench.hear(2, vec![alive(3, 2, 0)]);
    assert_eq!(bench.state(3), Some(MemberState::Alive));
    assert_ne!(at(&bench), first);
    assert_eq!(at(&bench), record(3, 2, 0).addresses);
    // An older record, however it comes, leads nobody back.
    bench.hear(4, vec![alive(3, 1, 7)]);
    bench.swim.learn(bench.now, [signed(record(3, 1, 9))]);
    assert_eq!(at(&bench), record(3, 2, 0).addresses);
}

#[test]
fn a_node_that_finds_nobody_is_alone_and_nothing_more() {
    // M40: mimir#1511, an empty answer of the name service made a node "ready" on its own. The log says who is a member; that
    // nobody else is heard is no news about it, and no reason to hold anybody for dead.
    let mut bench = Bench::alone(5);
    bench.pass(Duration::from_secs(3_600));
    assert_eq!(
        bench.events,
        vec![],
        "nothing that could pass for a cluster"
    );
    assert!(bench.sent.is_empty() && bench.streamed.is_empty());
    assert_eq!(
        (
            bench.swim.members().count(),
            bench.swim.timing().confirmations
        ),
        (1, 0)
    );
    assert_eq!(
        (bench.swim.queued(), bench.swim.counters().suspicions),
        (0, 0)
    );
    // It is as ready as ever for the first one that comes.
    bench.swim.introduce(bench.now, signed(record(2, 1, 0)));
    bench.drain();
    assert_eq!(bench.events, vec![MemberEvent::Joined { store: id(2) }]);
}

#[test]
fn an_entry_of_zeros_is_superseded_and_removed_like_any_other() {
    // M40: mimir#13810, an entry with a timestamp of zero could not be forgotten.
    let mut bench = Bench::of(3);
    bench.swim.admitted(bench.now, [id(0), id(4)]);
    let zeros = |store| Record {
        name: String::new(),
        addresses: Vec::new(),
        ..record(store, 0, 0)
    };
    bench.hear(
        2,
        vec![
            Rumour::Record(signed(zeros(0))),
            Rumour::Record(signed(zeros(4))),
        ],
    );
    assert_eq!((bench.at(0), bench.at(4)), (Some((0, 0)), Some((0, 0))));
    bench.hear(
        2,
        vec![
            accused(0, 0, 0, Verdict::Dead, 2),
            accused(4, 0, 0, Verdict::Dead, 2),
        ],
    );
    bench.pass_with(ms(5_000), |bench, (to, packet)| {
        if ![id(0), id(4)].contains(&to) {
            all_answer(bench, (to, packet));
        }
    });
    assert_eq!(
        (bench.state(0), bench.state(4)),
        (Some(MemberState::Dead), Some(MemberState::Dead))
    );
    bench.hear(2, vec![alive(4, 0, 1)]);
    assert_eq!(bench.state(4), Some(MemberState::Alive), "it refutes");
    for store in [0, 4] {
        bench.swim.removed(id(store));
        bench.hear(2, vec![alive(store, 0, 2)]);
        bench.swim.learn(bench.now, [signed(record(store, 9, 9))]);
        assert_eq!(bench.state(store), None, "removed for ever");
    }
}

#[test]
fn an_open_connection_is_no_sign_of_life() {
    // M47: erlang_quic#202, after a restart peers keep the connection of the earlier process for the idle timeout. Sends succeed
    // on it, and what the earlier process had sent still arrives.
    let mut bench = Bench::of(6);
    let zombie = |bench: &mut Bench, (to, packet): (StoreId, Packet)| match packet.body {
        Body::Ping { .. } if to == id(3) => bench.hear(3, vec![]),
        Body::PingRequest { sequence, target } => {
            bench.hear_body(to.get(), Body::Nack { sequence, target }, vec![]);
        }
        _ => all_answer(bench, (to, packet)),
    };
    bench.pass_with(ms(20_000), zombie);
    assert_eq!(
        bench.state(3),
        Some(MemberState::Dead),
        "nobody answers there"
    );
    let others = [2, 4, 5, 6].map(|store| bench.state(store));
    assert_eq!(others, [Some(MemberState::Alive); 4]);
    // The next start is known. Answers of the earlier one, right in everything else, do not speak for it.
    bench.hear(2, vec![alive(3, 2, 0)]);
    assert_eq!(bench.state(3), Some(MemberState::Alive));
    bench.pass_with(ms(20_000), |bench, (to, packet)| match packet.body {
        Body::PingRequest { sequence, target } => {
            bench.hear_body(to.get(), Body::Nack { sequence, target }, vec![]);
        }
        _ => all_answer(bench, (to, packet)), // generation 1 for all
    });
    assert_eq!(bench.state(3), Some(MemberState::Dead));
    assert!(bench.swim.counters().refused_old_generation > 0);
}
