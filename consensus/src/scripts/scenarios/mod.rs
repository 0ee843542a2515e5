//! What etcd-io/raft's interaction scenarios are about, told of this group, in its own words.
//!
//! Here: the table of all scenario files there have been, and the stories that no other room tells. Source: the files' names and
//! subjects in github.com/etcd-io/raft, folder `testdata` (32 over its history, 29 at any one time).

mod configurations;
mod elections;
mod flow;
mod snapshots;
mod storage;

use super::answers::{Answer, check};
use super::*;

use Answer::{CannotBe, Tests};

/// File, what it is about, answer.
const SCENARIOS: &[(&str, &str, Answer)] = &[
    (
        "async_storage_writes",
        "appends and applies lag behind the group's decisions",
        Tests(&["disks_and_state_machines_lag_and_nothing_is_promised_for_them"]),
    ),
    (
        "async_storage_writes_append_aba_race",
        "a write completes whose entry was replaced twice meanwhile",
        Tests(&[
            "a_completion_of_a_write_that_was_replaced_twice_vouches_for_nothing",
            "a_completion_from_before_a_truncation_claims_nothing_after_it",
        ]),
    ),
    (
        "async_storage_writes_apply_nonlocally_committed",
        "a leader commits what its own disk does not hold yet; here it commits, but applies later",
        Tests(&["a_leader_commits_by_its_followers_while_its_own_disk_is_slow"]),
    ),
    (
        "campaign",
        "one campaign, one leader, one opening entry everywhere",
        Tests(&["three_voters_elect_one_leader_that_opens_its_term"]),
    ),
    (
        "campaign_learner_must_vote",
        "a voter that does not know yet that it is one is asked for the deciding vote",
        Tests(&["a_voter_that_still_thinks_it_is_a_learner_gives_the_deciding_vote"]),
    ),
    (
        "campaign_now_lease",
        "a campaign by order, past everybody's promises, and lease reads",
        Tests(&["a_campaign_by_order_deposes_nobody_who_is_heard"]),
    ),
    (
        "checkquorum",
        "votes are refused while a leader is heard; a leader that hears nobody gives up",
        Tests(&["a_leader_is_safe_while_it_is_heard_and_gives_up_when_it_hears_nobody"]),
    ),
    (
        "commit_index_regression",
        "a follower lost entries that it had acknowledged",
        Tests(&["a_heartbeat_that_names_more_than_the_log_marks_the_replica_as_broken"]),
    ),
    (
        "confchange_disable_validation",
        "a second change is proposed before the first one is applied",
        Tests(&["a_wish_is_judged_by_the_log_and_not_by_what_is_applied"]),
    ),
    (
        "confchange_v1_add_single",
        "one voter becomes two",
        Tests(&["a_single_newcomer_becomes_a_voter_through_a_joint_configuration"]),
    ),
    (
        "confchange_v1_remove_leader",
        "the leader is removed with commands before and behind the change",
        Tests(&["a_leader_is_removed_between_two_commands_and_both_survive"]),
    ),
    (
        "confchange_v1_remove_leader_stepdown",
        "the removed leader steps down at the commit and never campaigns again",
        Tests(&[
            "a_removed_leader_steps_down_after_the_commit_and_somebody_follows",
            "a_removed_server_that_was_not_told_deposes_nobody",
        ]),
    ),
    (
        "confchange_v2_add_double_auto",
        "two are added, then both removed again, each in one change",
        Tests(&["two_come_and_two_go_each_in_one_change"]),
    ),
    (
        "confchange_v2_add_double_implicit",
        "the joint configuration is left without being asked for, also for one newcomer",
        Tests(&["two_come_and_two_go_each_in_one_change"]),
    ),
    (
        "confchange_v2_add_single_auto",
        "a simple change of one; here it goes through a joint configuration like every other",
        Tests(&["a_single_newcomer_becomes_a_voter_through_a_joint_configuration"]),
    ),
    (
        "confchange_v2_add_single_explicit",
        "a joint configuration stays until somebody asks to leave it",
        CannotBe(
            "nobody can ask for it: the leader leaves a committed joint configuration by itself, and a new leader goes on with it (H45).",
        ),
    ),
    (
        "confchange_v2_replace_leader",
        "leadership goes to the newcomer in the middle of the change that removes the leader",
        Tests(&["the_newcomer_takes_over_in_the_middle_of_the_change_and_finishes_it"]),
    ),
    (
        "confchange_v2_replace_leader_stepdown",
        "the leader is replaced by a newcomer and steps down at the end",
        Tests(&["a_leader_replaces_itself_and_never_campaigns_again"]),
    ),
    (
        "forget_leader",
        "a follower stops standing by its leader without leaving it",
        Tests(&["a_follower_that_suspects_its_leader_still_obeys_it"]),
    ),
    (
        "forget_leader_prevote_checkquorum",
        "one that stopped standing by the leader grants a pre-vote, but not to a shorter log",
        Tests(&["a_follower_that_suspects_its_leader_helps_whoever_has_the_log"]),
    ),
    (
        "forget_leader_read_only_lease_based",
        "forgetting the leader must not shorten its lease",
        Tests(&["a_campaign_by_order_deposes_nobody_who_is_heard"]),
    ),
    (
        "heartbeat_resp_recovers_from_probing",
        "an idle follower that is probed comes back by a heartbeat's answer",
        Tests(&["a_heartbeats_answer_ends_the_search"]),
    ),
    (
        "lagging_commit",
        "a follower has the entries and missed the news that they are committed",
        Tests(&["a_follower_that_missed_the_commit_learns_of_it_soon"]),
    ),
    (
        "prevote",
        "a candidate that cannot win asks and changes nothing",
        Tests(&["a_replica_that_is_behind_asks_in_vain_and_changes_no_term"]),
    ),
    (
        "prevote_checkquorum",
        "nobody helps to replace a leader that it hears, everybody does once it is silent",
        Tests(&["pre_votes_are_refused_while_the_leader_is_heard_and_granted_once_it_is_not"]),
    ),
    (
        "probe_and_replicate",
        "figure 7 of the Raft paper",
        Tests(&["every_follower_of_figure_7_ends_with_the_leaders_log"]),
    ),
    (
        "replicate_pause",
        "a follower with a full window gets no more, and all of it later",
        Tests(&["a_full_window_waits"]),
    ),
    (
        "single_node",
        "a group of one",
        Tests(&["a_sole_voter_leads_at_once"]),
    ),
    (
        "slow_follower_after_compaction",
        "a follower with a full window falls behind the beginning of the log",
        Tests(&["a_follower_with_a_full_window_falls_behind_the_log_and_gets_a_snapshot"]),
    ),
    (
        "snapshot_succeed_via_app_resp",
        "an acknowledgement of the log ends a snapshot whose own confirmation was lost",
        Tests(&["an_acknowledgement_of_the_log_ends_the_snapshot"]),
    ),
    (
        "snapshot_succeed_via_app_resp_behind",
        "the snapshot that arrived is older than the one that was meant",
        Tests(&["an_older_snapshot_than_the_one_under_way_is_good_enough"]),
    ),
    (
        "vote",
        "a replica with a shorter log loses, however often it asks",
        Tests(&["a_shorter_log_loses_again_and_again"]),
    ),
];

#[test]
fn every_scenario_has_its_story() {
    assert_eq!(SCENARIOS.len(), 32);
    assert!(SCENARIOS.is_sorted_by(|(a, ..), (b, ..)| a < b));
    check(
        "etcd-io/raft",
        SCENARIOS
            .iter()
            .map(|(file, what, answer)| (*file, *what, answer)),
    );
}
