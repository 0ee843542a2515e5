//! Messages that are not for whoever gets them.

use super::*;
use crate::message::Body;
use crate::{GroupId, Message, ReplicaId, Role};

#[test]
fn a_message_for_a_former_incarnation_is_not_answered_and_changes_nothing() {
    // H77, H78, H79: heartbeats, appends, snapshots and requests for votes to a replica that is no more arrive where its successor
    // lives now, or a replica of another group. An answer would make the leader believe that the former one is alive.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    let mut everything = Vec::new();
    net.propose(1, "x");
    net.pass_ms(450);
    everything.extend(net.wire.drain(..).filter(|message| message.to == id(3)));
    let last = at(9, 9);
    let transfer = true;
    everything.push(say(2, 3, 9, Body::Vote { last, transfer }));
    everything.push(say(1, 3, 1, Body::CampaignNow));
    assert!(everything.len() >= 4);
    let before = net.status(3);
    for message in everything {
        let elsewhere = [
            Message {
                to: ReplicaId::new(33),
                ..message.clone()
            },
            Message {
                group: GroupId::new(7),
                ..message.clone()
            },
        ];
        for stray in elsewhere {
            let now = net.now;
            net.group(3).receive(now, stray);
            net.drain(3);
        }
    }
    assert_eq!(net.status(3), before);
    assert!(net.wire.is_empty());
}

#[test]
fn a_leader_whose_followers_were_replaced_by_others_notices() {
    // H79: 2 and 3 are gone; other replicas, 22 and 33, live in their places and get their messages. Nobody answers for the dead, so
    // the leader counts them as silent and steps down.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.nodes.remove(&2);
    net.nodes.remove(&3);
    net.add_newcomer(22);
    net.add_newcomer(33);
    let end = net.now + core::time::Duration::from_secs(3);
    while net.now < end {
        for message in core::mem::take(&mut net.wire) {
            let now = net.now;
            match message.to.get() {
                1 => net.deliver(message),
                old => {
                    net.group(old * 11).receive(now, message);
                    net.drain(old * 11);
                }
            }
        }
        net.pass_ms(50);
    }
    assert_eq!(net.status(1).role, Role::Follower);
    assert_eq!(
        (net.status(22).term, net.status(22).leader),
        (crate::Term::ZERO, None)
    );
}
