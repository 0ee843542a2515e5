//! Our machine beside raft-rs 0.7, driven by the same scripts: elections, replication, changes of configuration, transfers.
//!
//! A script is drawn from a seed ([`script`]): replicas campaign, leaders propose, links are cut and healed, replicas crash and come
//! back, learners are added, promoted, demoted and removed, leadership is handed over. After every step all messages are delivered,
//! in order, until none is left, and every leader shows itself twice. Then both worlds ([`ours`], [`theirs`]) must agree, for every
//! live replica: its term; whether it leads; the commands that it applied, in order; the members of its last committed configuration.
//!
//! Time decides nothing here: nobody campaigns but by the script, and "a timeout passes" is a step. Pre-vote and check-quorum are on
//! in both.
//!
//! Where the two differ on purpose, and what the scripts make of it:
//!
//! - **A configuration is effective** from its append on in ours (Raft paper 6), from its application on in raft-rs. The two can be
//!   told apart only while one is appended and not committed, so a change is begun only where majorities of the old and of the new
//!   half can hear the leader.
//! - **A learner that lags is not promoted** by ours (`ChangeError::LearnerBehind`), and nobody becomes a voter without having been a
//!   learner; raft-rs takes any change. What ours refuses is not asked of raft-rs.
//! - **A leader that removes or demotes itself** gives way at once in ours, with a word to its best follower; raft-rs leaves that for
//!   later (a `TODO` in its `post_conf_change`) and goes on leading. No script does it.
//! - **A removed replica** is told of its removal in ours (it is fed for a while longer); raft-rs forgets it at once. It is switched off.
//! - **Removing a learner** is one entry in both; raft-rs would also do it jointly if told to.
//! - **A second transfer** while one is under way is refused by ours; raft-rs drops the first one. A transfer whose word was lost is
//!   repeated by ours with each heartbeat, in raft-rs it waits for its timeout. Scripts transfer only to a replica that hears the
//!   leader and is heard by it.
//! - **A follower that the leader reaches but does not hear** is told by ours only of commits that it is known to hold; in raft-rs the
//!   append says it. Until it is heard again it may be behind.
//! - **A pre-vote for the term that the asked one is in already** is refused by ours, and the asker learns that term; raft-rs grants it
//!   if the vote is still free. No replica campaigns that reaches one exactly one term ahead of it.
//! - **A leader that came back from a restart** may ask for the votes of those who still stand by it in ours (H12); in raft-rs they
//!   wait for a timeout. It is not told to campaign before.
//! - **Votes carry the commit index** in raft-rs, because there a configuration must be applied before its voters can elect anybody
//!   (etcd#12359). Ours needs that not, so a replica without a leader may be behind after a campaign.
//! - **A learner that is told to campaign** does nothing in ours (H16); in raft-rs it does, and may be elected (only its own timer asks
//!   whether it is a voter). Only voters are told to.
//! - **Leases** (and with them votes withheld after a restart) are off in ours: raft-rs has none that survives a restart (H57).
//! - **Proposals at a follower** are refused by ours and forwarded by raft-rs: scripts propose only at leaders.
//! - **A newcomer** starts from nothing in ours, from the founding configuration in raft-rs (or from a snapshot, which no script needs).
//!
//! `SIM_SEEDS=n` runs n scripts, `SIM_SEED=s` one.

mod ours;
mod script;
mod theirs;
mod world;

use synod_consensus::Sabotage;

/// Scripts in an ordinary run.
const SEEDS: u64 = 300;

#[expect(
    clippy::disallowed_methods,
    reason = "a test may be told how many seeds to run; the crate itself reads no environment"
)]
fn seeds() -> core::ops::Range<u64> {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse().ok())
    };
    match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(SEEDS),
    }
}

#[test]
fn the_same_script_leads_both_machines_to_the_same_state() {
    // Issue "The Raft group", how it is proven: a differential run against raft-rs.
    let seeds = seeds();
    let many = seeds.end - seeds.start >= SEEDS;
    let mut total = script::Coverage::default();
    for seed in seeds {
        match script::run(seed, None) {
            Ok(coverage) => total.add(&coverage),
            Err(difference) => panic!(
                "{difference}\nreplay: SIM_SEED={seed} cargo test -p synod-consensus --test differential the_same_script"
            ),
        }
    }
    println!("{total:?}");
    if many {
        total.assert_all_happened();
    }
}

#[test]
fn the_same_seed_gives_the_same_script() {
    for seed in 0..5 {
        assert_eq!(script::trace(seed), script::trace(seed));
    }
}

#[test]
fn bugs_put_back_make_the_machines_differ() {
    // The comparison can fail. (Bugs that need overtaking messages, writes that are lost or two candidates at once cannot show here,
    // where messages arrive in order and disks do not forget; the simulator of groups sees those.)
    for bug in [
        Sabotage::AnyLogWins,
        Sabotage::MajorityOfOne,
        Sabotage::AcknowledgedUnchecked,
        Sabotage::JointForEver,
    ] {
        let caught = (0..SEEDS).find(|seed| script::differs(*seed, bug));
        assert!(caught.is_some(), "{bug:?} was not seen in {SEEDS} scripts");
    }
}
