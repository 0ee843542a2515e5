//! The table of hazards: bugs that other systems shipped, and what answers each of them here.
//!
//! Here: every H line of the project's list of hazards, each with the tests that name it or one sentence why this design cannot have it,
//! and the test that holds all tables against the sources; in `liveness` the lines E16 to E29, in `actors` the S lines. The tests live
//! with their subjects: the machine's stories here, the store's in `tests/tests/storage`, those about nodes and placement in `runtime`.

mod actors;
mod liveness;

use super::answers::{Answer, check};

use Answer::{CannotBe, Tests};

/// Line, what went wrong elsewhere, answer.
type Row = (&'static str, &'static str, Answer);

const HAZARDS: &[Row] = &[
    (
        "H1",
        "a vote is forgotten within its term",
        Tests(&[
            "stepping_down_within_a_term_keeps_the_vote",
            "a_candidate_gives_way_to_a_leader_of_its_term_and_to_none_before",
        ]),
    ),
    (
        "H2",
        "a vote is told before it is durable",
        Tests(&[
            "a_vote_is_told_only_when_it_is_durable",
            "a_candidate_asks_only_when_its_own_vote_is_durable",
            "a_vote_is_promised_only_when_its_own_write_is_durable",
        ]),
    ),
    (
        "H3",
        "a vote seen in an answer replaces one's own",
        Tests(&["a_refused_candidate_keeps_its_durable_vote"]),
    ),
    (
        "H4",
        "a learner refuses a vote that the candidate is entitled to",
        Tests(&[
            "a_replica_that_knows_no_configuration_answers_a_vote",
            "a_voter_that_still_thinks_it_is_a_learner_gives_the_deciding_vote",
        ]),
    ),
    (
        "H5",
        "logs are compared by length before term",
        Tests(&[
            "later_term_beats_longer_log",
            "a_later_last_term_beats_a_longer_log",
        ]),
    ),
    (
        "H6",
        "answers to a pre-vote carry an earlier term and are dropped",
        Tests(&["terms_apart_are_no_reason_to_stay_without_a_leader"]),
    ),
    (
        "H7",
        "a cluster half with, half without pre-vote",
        CannotBe(
            "every version of this protocol asks before it campaigns; there is no option and no older version without it.",
        ),
    ),
    (
        "H8",
        "pre-votes never carry a later term to those who need it",
        Tests(&[
            "terms_apart_are_no_reason_to_stay_without_a_leader",
            "two_camps_that_cannot_lead_alone_find_one_leader",
        ]),
    ),
    (
        "H9",
        "votes of an earlier round are counted",
        Tests(&[
            "answers_of_another_round_count_nothing",
            "a_split_vote_elects_nobody_and_the_next_round_somebody",
            "pre_votes_are_refused_while_the_leader_is_heard_and_granted_once_it_is_not",
        ]),
    ),
    (
        "H10",
        "a pre-vote round that ends late deposes its own winner",
        Tests(&[
            "answers_of_another_round_count_nothing",
            "a_pre_vote_round_ends_when_the_term_moves",
        ]),
    ),
    (
        "H11",
        "granting a pre-vote has side effects",
        Tests(&[
            "granting_a_pre_vote_changes_nothing_at_all",
            "an_isolated_follower_disturbs_nobody_when_it_returns",
        ]),
    ),
    (
        "H12",
        "the leader's own pre-vote is refused for its sake",
        Tests(&["a_leader_that_starts_again_is_not_refused_for_its_own_sake"]),
    ),
    (
        "H13",
        "the term moves during a pre-vote and the campaign begins all the same",
        Tests(&[
            "answers_of_another_round_count_nothing",
            "a_pre_vote_round_ends_when_the_term_moves",
        ]),
    ),
    (
        "H14",
        "check-quorum counts the wrong ones",
        Tests(&[
            "learners_do_not_keep_a_leader_in_office",
            "a_newcomer_that_has_said_nothing_yet_is_no_reason_to_step_down",
            "a_silent_learner_is_not_made_a_voter",
            "a_leader_that_no_majority_hears_steps_down",
        ]),
    ),
    (
        "H15",
        "a candidate of a high term is never freed",
        Tests(&["a_stuck_candidate_of_a_high_term_is_freed_by_the_leader"]),
    ),
    (
        "H16",
        "a removed replica is told to campaign",
        Tests(&[
            "a_removed_target_does_not_campaign",
            "a_late_word_to_a_removed_target_elects_nobody_who_lacks_the_removal",
        ]),
    ),
    (
        "H17",
        "the target of a transfer campaigns before it has everything",
        Tests(&[
            "the_target_catches_up_before_it_campaigns_and_proposals_wait",
            "a_joint_configuration_waits_for_the_end_of_a_transfer_and_no_longer",
        ]),
    ),
    (
        "H18",
        "a transfer is stopped by pre-vote or stickiness",
        Tests(&["leadership_moves_at_once_although_everybody_hears_the_leader"]),
    ),
    (
        "H19",
        "after an aborted transfer nothing is taken any more",
        Tests(&[
            "a_transfer_that_does_not_happen_ends_and_proposals_go_on",
            "a_target_that_dies_with_the_word_costs_one_deadline",
        ]),
    ),
    (
        "H20",
        "some links work, others do not",
        Tests(&[
            "two_half_connected_of_five_depose_nobody",
            "a_link_that_comes_and_goes_deposes_nobody",
            "the_hub_of_a_star_takes_over",
            "a_chain_of_three_keeps_its_leader",
            "a_chain_whose_middle_dies_has_no_leader_and_gets_one_with_either_link",
            "known_limit_a_hub_with_an_older_log_leaves_five_without_a_leader",
        ]),
    ),
    (
        "H21",
        "a leader's disk hangs and its heartbeats flow",
        Tests(&["a_leader_whose_disk_hangs_gives_way"]),
    ),
    (
        "H22",
        "majorities of even sizes are off by one",
        Tests(&[
            "majorities_of_one_to_seven",
            "what_a_quorum_reached_is_what_the_naive_formula_says",
            "groups_lose_acknowledged_commands_without_fsync_or_majorities",
        ]),
    ),
    (
        "H23",
        "an older term's entry is committed by counting",
        Tests(&["an_entry_of_an_older_term_is_not_committed_by_counting"]),
    ),
    (
        "H24",
        "a follower commits beyond what it checked",
        Tests(&["a_follower_commits_only_what_it_checked"]),
    ),
    (
        "H25",
        "an acknowledgement claims the whole log",
        Tests(&["an_acknowledgement_claims_only_what_was_checked"]),
    ),
    (
        "H26",
        "an append cuts the log without a conflict",
        Tests(&["a_late_short_append_cuts_nothing"]),
    ),
    (
        "H27",
        "a completion from before a truncation counts after it",
        Tests(&[
            "a_completion_from_before_a_truncation_claims_nothing_after_it",
            "a_completion_of_a_write_that_was_replaced_twice_vouches_for_nothing",
            "an_acknowledgement_from_before_a_truncation_is_worth_nothing_after_it",
        ]),
    ),
    (
        "H28",
        "completions come out of order",
        Tests(&[
            "completions_count_in_the_order_of_the_writes",
            "completions_out_of_order_do_not_vouch_for_each_other",
        ]),
    ),
    (
        "H29",
        "late answers move a follower's pointers back",
        Tests(&[
            "next_stays_above_matched",
            "late_answers_move_neither_matched_nor_next_back",
        ]),
    ),
    (
        "H30",
        "a quorum is scanned in an unsorted list",
        Tests(&["what_a_quorum_reached_is_what_the_naive_formula_says"]),
    ),
    (
        "H31",
        "a proposer is told of somebody else's entry",
        Tests(&["an_overwritten_proposal_is_seen_by_its_term"]),
    ),
    (
        "H32",
        "an append has a hole",
        Tests(&[
            "a_slice_is_contiguous_and_bounded",
            "entries_with_a_hole_are_not_taken",
        ]),
    ),
    (
        "H33",
        "a window is overrun, or its counter never returns",
        Tests(&[
            "a_full_window_waits",
            "the_window_counts_appends_and_bytes_and_empties",
        ]),
    ),
    (
        "H34",
        "the log is compacted under a paused follower",
        Tests(&["a_follower_with_a_full_window_falls_behind_the_log_and_gets_a_snapshot"]),
    ),
    (
        "H35",
        "the count of uncommitted bytes leaks",
        Tests(&[
            "the_budget_is_whole_again_whatever_becomes_of_the_entries",
            "a_budget_that_is_full_refuses_and_takes_again_after_the_commit",
            "uncommitted_bytes_are_bounded_and_return_to_zero",
        ]),
    ),
    (
        "H36",
        "pages of committed entries overlap or leave gaps",
        Tests(&["pages_of_applied_entries_follow_each_other_also_after_a_restart"]),
    ),
    (
        "H37",
        "a sole voter applies what it has not written",
        Tests(&["a_sole_voter_applies_nothing_that_is_not_durable"]),
    ),
    (
        "H38",
        "the state runs ahead of the log on disk",
        Tests(&["a_follower_applies_nothing_that_is_not_durable_here"]),
    ),
    (
        "H39",
        "a cache keeps a truncated suffix",
        Tests(&[
            "a_conflicting_suffix_goes_and_its_bytes_with_it",
            "truncation_drops_the_suffix_and_its_configurations",
            "truncated_suffix_is_never_seen_again",
        ]),
    ),
    (
        "H40",
        "recovery is declared done by an older leader's commit",
        Tests(&["evaluation_waits_for_the_leaders_own_term"]),
    ),
    (
        "H41",
        "single-server changes of two leaders",
        Tests(&[
            "the_three_counter_examples_to_single_server_changes_lead_nowhere",
            "a_new_leader_changes_nothing_before_its_own_term_opened",
        ]),
    ),
    (
        "H42",
        "a configuration counts only once applied",
        Tests(&[
            "a_configuration_counts_from_its_append_on",
            "a_wish_is_judged_by_the_log_and_not_by_what_is_applied",
        ]),
    ),
    (
        "H43",
        "nobody is electable because nobody knows the joint configuration is committed",
        Tests(&["survivors_finish_a_joint_configuration_whose_commit_only_the_dead_leader_knew"]),
    ),
    (
        "H44",
        "the log is scanned without bound for configurations",
        CannotBe(
            "no scan: the log keeps its configurations in a list beside it, and only the uncommitted ones at its end are looked at.",
        ),
    ),
    (
        "H45",
        "a joint configuration is left twice, or never",
        Tests(&[
            "two_come_and_two_go_each_in_one_change",
            "the_newcomer_takes_over_in_the_middle_of_the_change_and_finishes_it",
            "a_joint_configuration_waits_for_the_end_of_a_transfer_and_no_longer",
        ]),
    ),
    (
        "H46",
        "a restored joint configuration has only one half",
        Tests(&[
            "both_halves_of_a_joint_configuration_come_back_from_a_snapshot",
            "an_appended_configuration_survives_a_restart",
        ]),
    ),
    (
        "H47",
        "a restart or a truncation takes the wrong configuration",
        Tests(&[
            "an_appended_configuration_survives_a_restart",
            "a_truncated_configuration_gives_way_to_the_one_before",
        ]),
    ),
    (
        "H48",
        "a leader that leaves counts itself, or leaves too early",
        Tests(&[
            "a_leader_that_leaves_does_not_count_itself",
            "a_removed_leader_steps_down_after_the_commit_and_somebody_follows",
            "a_leader_is_removed_between_two_commands_and_both_survive",
        ]),
    ),
    (
        "H49",
        "configurations that decide nothing",
        Tests(&[
            "wishes_that_make_no_sense_are_refused",
            "a_group_that_knows_no_voters_elects_nobody",
        ]),
    ),
    (
        "H50",
        "a leader sleeps, a follower does not",
        Tests(&[
            "trace_5_a_restart_remembers_no_claim",
            "groups_rest_and_wake_in_every_storm",
        ]),
    ),
    (
        "H51",
        "a group sleeps with work left",
        Tests(&[
            "a_leader_with_work_left_lets_nobody_rest",
            "a_leader_that_owes_an_answer_to_a_read_does_not_rest",
            "a_leader_with_a_snapshot_on_its_way_does_not_rest",
            "a_leader_that_hands_over_does_not_rest",
            "a_leader_of_a_joint_configuration_does_not_rest",
            "a_learner_that_was_away_hears_what_was_decided_without_it",
        ]),
    ),
    (
        "H52",
        "a sleeping group has lost its leader",
        Tests(&[
            "trace_1_the_leaders_replica_dies_while_its_node_beats_on",
            "trace_2_the_leaders_thread_stands_still_while_its_node_beats_on",
            "trace_8_a_read_at_one_that_rests_asks_the_leader",
        ]),
    ),
    (
        "H53",
        "a wake-up is lost",
        Tests(&[
            "trace_3_the_news_that_a_claim_does_not_stand_is_lost",
            "one_that_woke_is_heard_although_the_news_of_it_is_lost",
            "a_disk_that_hangs_keeps_no_group_without_a_leader",
            "a_claim_withdrawn_while_its_follower_is_asked_leaves_nobody_asleep",
            "trace_8_a_read_at_one_that_rests_asks_the_leader",
        ]),
    ),
    (
        "H54",
        "a follower stays searched for while its leader sleeps",
        Tests(&["a_learner_that_is_made_long_after_its_leader_would_rest_is_not_forgotten"]),
    ),
    (
        "H55",
        "one dead node keeps everybody awake",
        Tests(&[
            "trace_6_a_node_that_slept_through_everything_hears_of_it",
            "of_a_thousand_groups_only_those_of_the_node_wake",
        ]),
    ),
    (
        "H56",
        "late messages of the dead put elections off",
        Tests(&["a_late_heartbeat_of_a_dead_leader_puts_the_election_off_by_one_timeout_at_most"]),
    ),
    (
        "H57",
        "two leaders have a lease after a restart",
        Tests(&[
            "a_replica_that_restarts_keeps_what_it_may_have_promised",
            "nobody_else_leads_while_the_lease_lasts",
        ]),
    ),
    (
        "H58",
        "a lease by the wrong clock, from the wrong moment",
        Tests(&[
            "a_leader_reads_alone_for_as_long_as_its_lease_lasts",
            "a_late_answer_lengthens_no_lease",
            "a_lease_ends_before_the_promises_even_if_the_clocks_drift",
        ]),
    ),
    (
        "H59",
        "a lease outlives a transfer",
        Tests(&["whoever_told_another_to_campaign_reads_by_no_lease_any_more"]),
    ),
    (
        "H60",
        "a read before the leader's own term has committed anything",
        Tests(&["a_new_leader_reads_only_after_its_own_term_opened"]),
    ),
    (
        "H61",
        "an answer to an earlier round confirms a later read",
        Tests(&[
            "answers_to_an_earlier_round_confirm_no_later_read",
            "answers_to_a_former_life_count_nothing",
        ]),
    ),
    (
        "H62",
        "a deposed leader answers a read",
        Tests(&[
            "an_old_leader_answers_no_read",
            "a_leader_of_the_past_confirms_no_followers_read",
        ]),
    ),
    (
        "H63",
        "reads wait for those who are gone",
        Tests(&["waiting_reads_are_counted_again_when_the_group_shrinks"]),
    ),
    (
        "H64",
        "a read is confirmed without looking at the answers, or before the leader's own state",
        Tests(&[
            "answers_that_answer_nothing_confirm_no_read",
            "a_read_waits_for_the_leaders_own_disk_and_state",
        ]),
    ),
    (
        "H65",
        "an installed snapshot leaves the old configuration in force",
        Tests(&["an_installed_configuration_replaces_what_the_old_log_said"]),
    ),
    (
        "H66",
        "an older snapshot undoes a newer one",
        Tests(&[
            "an_older_snapshot_changes_nothing",
            "a_late_confirmation_of_an_install_changes_nothing",
        ]),
    ),
    (
        "H67",
        "a snapshot contradicts what is committed",
        Tests(&[
            "an_older_snapshot_changes_nothing",
            "a_snapshot_that_the_log_holds_is_not_installed",
        ]),
    ),
    (
        "H68",
        "a candidate cannot take a snapshot",
        Tests(&["a_candidate_takes_a_snapshot_from_the_leader"]),
    ),
    (
        "H69",
        "a snapshot passes over what somebody waits for",
        Tests(&["a_deposed_leader_that_gets_a_snapshot_owes_no_answer_and_applies_on"]),
    ),
    (
        "H70",
        "a snapshot that was interrupted never arrives",
        Tests(&[
            "a_lost_chunk_is_sent_again_from_where_the_follower_is",
            "a_follower_that_restarts_half_way_goes_on_where_it_was",
            "a_follower_that_lost_what_it_held_begins_anew",
        ]),
    ),
    (
        "H71",
        "a follower stays in the snapshot state",
        Tests(&[
            "an_acknowledgement_of_the_log_ends_the_snapshot",
            "an_older_snapshot_than_the_one_under_way_is_good_enough",
            "a_snapshot_that_the_log_left_behind_is_followed_by_another",
        ]),
    ),
    (
        "H72",
        "a failed sync is followed by one that says all is well",
        Tests(&[
            "first_sync_error_is_sticky_and_never_retried",
            "failure_reaches_every_sink_and_ends_the_log",
            "sync_after_a_failed_one_says_ok_and_is_worth_nothing",
        ]),
    ),
    (
        "H73",
        "an acknowledgement before the disk, a replica that forgot one",
        Tests(&[
            "nothing_is_acknowledged_before_it_is_durable",
            "a_heartbeat_that_names_more_than_the_log_marks_the_replica_as_broken",
            "nothing_is_completed_before_its_sync_and_what_waits_goes_together",
            "what_stopped_for_good_stays_so_although_its_files_look_whole_again",
        ]),
    ),
    (
        "H74",
        "hard state and log are written apart, or the commit index goes back",
        Tests(&[
            "the_durable_commit_index_never_decreases",
            "birth_is_atomic_at_every_moment_of_a_power_loss",
        ]),
    ),
    (
        "H75",
        "a read error is taken for an empty log",
        Tests(&[
            "nothing_is_appended_past_compacted_entries_as_if_they_were_not_there",
            "what_was_restored_is_checked",
        ]),
    ),
    (
        "H76",
        "a torn tail is refused, damage in the middle is not",
        Tests(&[
            "torn_tail_is_recovered_at_every_byte",
            "damage_in_the_middle_is_refused_at_every_byte",
            "flipped_bit_in_any_file_is_refused",
        ]),
    ),
    (
        "H77",
        "a new incarnation reads the old one's log",
        Tests(&[
            "new_incarnation_never_reads_the_old_log",
            "a_retired_replica_id_is_never_allotted_again",
            "a_message_for_a_former_incarnation_is_not_answered_and_changes_nothing",
        ]),
    ),
    (
        "H78",
        "a late message brings a replica back that is gone",
        Tests(&[
            "a_message_for_a_former_incarnation_is_not_answered_and_changes_nothing",
            "a_replica_from_the_future_is_not_retired",
        ]),
    ),
    (
        "H79",
        "somebody answers for a replica that is gone",
        Tests(&[
            "a_leader_whose_followers_were_replaced_by_others_notices",
            "a_message_for_a_former_incarnation_is_not_answered_and_changes_nothing",
        ]),
    ),
    (
        "H80",
        "a gap reaches the disk",
        Tests(&[
            "gap_is_refused_without_touching_the_disk",
            "every_moment_of_reclamation_replays_to_the_same_state",
        ]),
    ),
];

#[test]
fn every_hazard_has_its_answer() {
    let lines = (1..=80)
        .map(|line| format!("H{line}"))
        .chain((16..=29).map(|line| format!("E{line}")))
        .chain((1..=24).map(|line| format!("S{line}")));
    let table = || {
        [HAZARDS, liveness::HAZARDS, actors::HAZARDS]
            .into_iter()
            .flatten()
    };
    assert!(
        lines.eq(table().map(|(line, ..)| (*line).to_owned())),
        "each line once, in order"
    );
    check(
        "",
        table().map(|(line, what, answer)| (*line, *what, answer)),
    );
}
