//! What the answers of several nodes mean together.

use synod::node::PeerLag;

use super::*;

/// Group 1, shard 0, as `store` sees it.
fn replica(role: &str, term: u64, leader: Option<u64>) -> ReplicaStatus {
    ReplicaStatus {
        group: 1,
        role: role.to_owned(),
        term,
        leader,
        serves: role == "leader",
        applied: 40,
        last: 42,
        log_bytes: 100,
        state_bytes: 900,
        voters: vec![1, 2, 3],
        goal: vec![1, 2, 3],
        peers: match role {
            "leader" => vec![peer(2, 0, true), peer(3, 7, true)],
            _ => Vec::new(),
        },
        ..ReplicaStatus::default()
    }
}

fn peer(store: u64, lag: u64, answers: bool) -> PeerLag {
    PeerLag {
        store,
        lag,
        answers,
        fetches: false,
    }
}

fn node(store: u64, replica: Option<ReplicaStatus>) -> HostedShards {
    HostedShards {
        name: format!("n{store}"),
        store,
        replicas: replica.into_iter().collect(),
        ..HostedShards::default()
    }
}

fn shard(hosted: &[HostedShards]) -> Group {
    let names: BTreeMap<u64, String> = (1..=4).map(|of| (of, format!("n{of}"))).collect();
    let holders = [vec![1, 2, 3]];
    let known = Known {
        names: &names,
        holders: &holders,
    };
    let mut view = compose(&known, hosted);
    assert_eq!(view.groups.len(), 2, "the system group and one shard");
    view.groups.pop().expect("two")
}

#[test]
fn a_shard_is_what_its_leader_of_the_highest_term_says() {
    let mut late = replica("leader", 3, Some(2));
    late.applied = 7;
    let group = shard(&[
        node(1, Some(replica("leader", 4, Some(1)))),
        node(2, Some(late)),
        node(3, Some(replica("follower", 4, Some(1)))),
    ]);
    assert_eq!((group.state, &group.why), (State::Serving, &None));
    assert_eq!(group.leader.as_deref(), Some("n1"));
    assert_eq!((group.term, group.applied, group.bytes), (4, 40, 1_000));
    let lags: Vec<Option<u64>> = group.replicas.iter().map(|replica| replica.lag).collect();
    assert_eq!(lags, [Some(0), Some(0), Some(7)]);
}

#[test]
fn a_shard_moves_while_copies_or_its_leadership_are_on_their_way() {
    let moving = |change: &dyn Fn(&mut ReplicaStatus)| {
        let mut leader = replica("leader", 4, Some(1));
        change(&mut leader);
        let group = shard(&[node(1, Some(leader))]);
        (group.state, group.why.unwrap_or_default())
    };
    let (state, why) = moving(&|leader| leader.goal = vec![1, 2, 4]);
    assert_eq!(state, State::Moving);
    assert_eq!(why, "n4 is to get a copy, n3 is to give its copy up");
    let (state, why) = moving(&|leader| {
        leader.goal = vec![1, 2, 4];
        leader.voters = vec![1, 2, 4];
        leader.outgoing = vec![1, 2, 3];
        leader.peers.push(peer(4, 0, true));
    });
    assert_eq!(state, State::Moving);
    assert_eq!(why, "n3 is to give its copy up, its voters change");
    let (state, why) = moving(&|leader| {
        leader.serves = false;
        leader.hands_over_to = Some(2);
    });
    assert_eq!(
        (state, why.as_str()),
        (State::Moving, "leadership goes to n2")
    );
    // One that only does not answer moves nothing.
    let (state, why) = moving(&|leader| leader.peers[1].answers = false);
    assert_eq!(
        (state, why.as_str()),
        (State::Serving, "n3 does not answer")
    );
    let (state, why) = moving(&|leader| leader.serves = false);
    assert_eq!(state, State::Leaderless);
    assert_eq!(why, "n1 was elected and does not serve yet");
}

#[test]
fn a_shard_without_a_leader_says_why() {
    let why = |hosted: &[HostedShards]| {
        let group = shard(hosted);
        assert_eq!((group.state, group.leader), (State::Leaderless, None));
        group.why.expect("a reason")
    };
    let follower = |leader| Some(replica("follower", 4, leader));
    assert_eq!(
        why(&[node(1, follower(None))]),
        "no majority without n2 (does not answer), n3 (does not answer)"
    );
    let mut stopped = node(2, None);
    stopped.stopped = vec![1];
    let mut stuck = node(3, None);
    stuck.stuck = vec![1];
    assert_eq!(
        why(&[node(1, follower(None)), stopped, stuck]),
        "no majority without n2 (its replica stopped for good), n3 (its replica is stuck)"
    );
    assert_eq!(
        why(&[node(1, follower(Some(3))), node(2, follower(None))]),
        "n3 (does not answer) leads it, says n1, but was not heard here"
    );
    // Who is named as the leader and says that it is none.
    let candidate = Some(replica("candidate", 5, None));
    assert_eq!(
        why(&[node(1, candidate), node(2, follower(Some(1)))]),
        "an election is under way in term 5"
    );
    assert_eq!(
        why(&[node(1, follower(None)), node(2, follower(None))]),
        "its replicas wait for a leader"
    );
    assert_eq!(
        why(&[node(4, None)]),
        "nobody answers for it: n1 (does not answer), n2 (does not answer), n3 (does not answer)"
    );
}

#[test]
fn members_that_do_not_answer_are_named_and_moves_come_from_the_system_leader() {
    let names: BTreeMap<u64, String> = (1..=3).map(|of| (of, format!("n{of}"))).collect();
    let known = Known {
        names: &names,
        holders: &[],
    };
    let mut second = node(2, None);
    second.moves = Some(vec![MoveStatus {
        group: 8,
        from: vec![1],
        to: vec![9],
        ..MoveStatus::default()
    }]);
    let view = compose(&known, &[node(1, None), second]);
    assert_eq!(
        (view.nodes, view.silent),
        (vec!["n1".into(), "n2".into()], vec!["n3".to_owned()])
    );
    let moves = view.moves.expect("n2 leads the system group");
    assert_eq!(moves[0].shard, Some(7));
    assert_eq!(
        (&moves[0].from, &moves[0].to),
        (&vec!["n1".to_owned()], &vec!["store 9".to_owned()])
    );
}
