//! Whatever members send, well-formed or not, the machine keeps its promises. Long runs: `PROPTEST_CASES=100000 cargo test -p
//! synod-membership fuzz`.

use proptest::prelude::*;

use super::*;
use crate::packet::tests::any_packet;

/// Stores, generations and incarnations that mean something here.
fn near(number: u64) -> u64 {
    number % 7
}

/// The same packet about members that there are.
fn about_members(mut packet: Packet) -> Packet {
    let small = |store: StoreId| id(near(store.get()) + 1);
    packet.generation = near(packet.generation);
    packet.incarnation = near(packet.incarnation);
    for rumour in &mut packet.rumours {
        match rumour {
            Rumour::Record(held) => {
                let mut record = held.record().clone();
                record.store = small(record.store);
                record.generation = near(record.generation);
                if !record.generation.is_multiple_of(3) {
                    record.incarnation = near(record.incarnation);
                }
                *held = signed(record);
            }
            Rumour::Accusation(accusation) => {
                accusation.subject = small(accusation.subject);
                accusation.accuser = small(accusation.accuser);
                accusation.generation = near(accusation.generation);
                accusation.incarnation = near(accusation.incarnation);
            }
        }
    }
    match &mut packet.body {
        Body::Ping { sequence, .. } => *sequence = near(*sequence),
        Body::PingRequest { sequence, target }
        | Body::Ack { sequence, target }
        | Body::Nack { sequence, target } => {
            (*sequence, *target) = (near(*sequence), small(*target));
        }
        _ => {}
    }
    packet
}

proptest! {
    #[test]
    fn a_machine_survives_every_packet_that_decodes(
        packets in prop::collection::vec((any_packet(), 1u64..9, any::<bool>(), 0u64..3_000, any::<(usize, u8)>()), 1..30),
    ) {
        // M44: other memberships panicked on short arrays, or took what a peer sent for bounded.
        let mut bench = Bench::of(6);
        let mut before: std::collections::BTreeMap<_, _> = bench.swim.members().map(|member| (member.store(), (member.position(), member.state()))).collect();
        for (packet, from, sensible, pause, (at, bit)) in packets {
            let packet = if sensible { about_members(packet) } else { packet };
            let mut bytes = packet.encode();
            if bit < 64 {
                let at = at % bytes.len();
                bytes[at] ^= 1 << (bit % 8);
            }
            bench.now += ms(pause);
            bench.swim.tick(bench.now);
            bench.drain();
            if let Ok(mut packet) = Packet::decode(&bytes) {
                bench.swim.screen(&mut packet, &Keys);
                bench.hear_packet(from, packet);
            }
            for (queue, held, most) in bench.swim.queues() {
                prop_assert!(held <= most, "{held} {queue}");
            }
            for member in bench.swim.members() {
                let now = (member.position(), member.state());
                prop_assert!(member.store().get() <= 6, "M41: {} was not admitted", member.store());
                prop_assert!(before.get(&member.store()).is_none_or(|before| *before <= now), "older than before: {now:?}");
                before.insert(member.store(), now);
            }
            prop_assert!(matches!(bench.state(1), Some(MemberState::Alive)), "nobody accepts its own death");
            prop_assert!(bench.sent.len() + bench.streamed.len() < 60, "effects of a few steps");
            bench.clear();
        }
    }
}
