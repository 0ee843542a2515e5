//! The Raft paper's rules, section by section, each as a story: who is cut off, who times out, what each log holds.
//!
//! Here: the table of rules and the stories that no other room tells. Source: Ongaro and Ousterhout, "In Search of an
//! Understandable Consensus Algorithm (Extended Version)", 2014.

mod clients;
mod compaction;
mod elections;
mod membership;
mod replication;
mod safety;

use super::answers::{Answer, check};
use super::*;

use Answer::{CannotBe, Tests};

/// Section, rule, answer.
const RULES: &[(&str, &str, Answer)] = &[
    (
        "5.1",
        "whoever sees a later term moves to it, leaders and candidates too",
        Tests(&["whoever_sees_a_later_term_follows"]),
    ),
    (
        "5.1",
        "messages of an earlier term are refused",
        Tests(&["messages_of_an_earlier_term_change_nothing"]),
    ),
    (
        "5.2",
        "everybody begins as a follower; silence makes a candidate; a majority makes a leader",
        Tests(&[
            "everybody_begins_as_a_follower_and_waits",
            "three_voters_elect_one_leader_that_opens_its_term",
        ]),
    ),
    (
        "5.2",
        "one vote per term, for whoever asks first",
        Tests(&["one_vote_per_term_for_whoever_asks_first"]),
    ),
    (
        "5.2",
        "a candidate gives way to a leader of its term, not to one of an earlier term",
        Tests(&["a_candidate_gives_way_to_a_leader_of_its_term_and_to_none_before"]),
    ),
    (
        "5.2",
        "split votes end because timeouts are drawn",
        Tests(&["a_split_vote_elects_nobody_and_the_next_round_somebody"]),
    ),
    (
        "5.2",
        "heartbeats keep followers from campaigning",
        Tests(&["heartbeats_keep_everybody_from_campaigning"]),
    ),
    (
        "5.3",
        "the leader orders, replicates, commits with a majority and applies in order",
        Tests(&[
            "proposals_reach_every_replica_in_order",
            "an_entry_is_committed_when_a_majority_holds_it",
        ]),
    ),
    (
        "5.3",
        "an append is taken only behind the entry that precedes it at the leader",
        Tests(&["an_append_needs_the_entry_before_it"]),
    ),
    (
        "5.3",
        "figure 7: every kind of divergent follower ends with the leader's log",
        Tests(&["every_follower_of_figure_7_ends_with_the_leaders_log"]),
    ),
    (
        "5.3",
        "followers are searched term by term, not entry by entry",
        Tests(&[
            "divergent_logs_meet_in_one_round_trip_per_term",
            "back_off_skips_a_whole_term_at_once",
        ]),
    ),
    (
        "5.3",
        "a leader never changes what its log holds",
        Tests(&["a_leader_only_appends"]),
    ),
    (
        "5.4.1",
        "a vote goes only to a log that is at least as up to date",
        Tests(&[
            "a_later_last_term_beats_a_longer_log",
            "a_candidate_without_a_committed_entry_is_not_elected",
        ]),
    ),
    (
        "5.4.2",
        "figure 8: an entry of an earlier term is committed only with one of the leader's own",
        Tests(&[
            "figure_8_without_an_entry_of_its_own_term_a_leader_may_be_overwritten",
            "figure_8_with_an_entry_of_its_own_term_a_leader_is_safe",
        ]),
    ),
    (
        "5.4.3",
        "a leader holds every committed entry",
        Tests(&["whoever_is_elected_holds_what_was_committed"]),
    ),
    (
        "5.5",
        "a crashed follower is asked again until it answers; asking twice does no harm",
        Tests(&[
            "a_crashed_follower_is_fed_until_it_answers",
            "a_request_answered_before_the_crash_may_come_again",
        ]),
    ),
    (
        "6",
        "a joint configuration needs both majorities",
        Tests(&[
            "a_joint_configuration_commits_with_both_majorities_only",
            "a_configuration_counts_from_its_append_on",
        ]),
    ),
    (
        "6",
        "figure 11: whenever the leader crashes, one configuration wins",
        Tests(&["figure_11_the_leader_may_crash_at_every_point_of_a_change"]),
    ),
    (
        "6",
        "figure 10: no moment has two majorities that do not know of each other",
        Tests(&["figure_10_old_and_new_majority_never_elect_two_leaders_of_a_term"]),
    ),
    (
        "6",
        "newcomers catch up before they decide",
        Tests(&["nobody_votes_before_it_has_the_log"]),
    ),
    (
        "6",
        "a leader that is not in the new configuration manages it without counting itself",
        Tests(&[
            "a_leader_that_leaves_does_not_count_itself",
            "a_removed_leader_steps_down_after_the_commit_and_somebody_follows",
        ]),
    ),
    (
        "6",
        "removed servers that were not told disturb nobody",
        Tests(&["a_removed_server_that_was_not_told_deposes_nobody"]),
    ),
    (
        "7",
        "every server compacts by itself",
        Tests(&["every_replica_compacts_by_itself"]),
    ),
    (
        "7",
        "a follower behind the leader's log gets the snapshot, then the log",
        Tests(&["a_laggard_gets_a_snapshot_in_chunks_and_then_the_log"]),
    ),
    (
        "7",
        "a snapshot of what the log holds leaves the rest of the log alone",
        Tests(&["a_snapshot_that_the_log_holds_is_not_installed"]),
    ),
    (
        "7",
        "a snapshot beyond the log replaces it, its configuration too",
        Tests(&["an_installed_configuration_replaces_what_the_old_log_said"]),
    ),
    (
        "8",
        "a follower tells a client who leads",
        Tests(&["a_follower_names_the_leader"]),
    ),
    (
        "8",
        "a command that a client sends again is done once",
        CannotBe(
            "not the group's business: it stores bytes, sessions are entries of the state machine (crate `synod`, DESIGN.md section 6).",
        ),
    ),
    (
        "8",
        "a new leader opens its term with an entry before it knows what is committed",
        Tests(&["three_voters_elect_one_leader_that_opens_its_term"]),
    ),
    (
        "8",
        "a read needs a round of heartbeats after the opening entry",
        Tests(&[
            "a_read_is_answered_after_a_round_and_never_by_time",
            "a_new_leader_reads_only_after_its_own_term_opened",
        ]),
    ),
];

#[test]
fn every_rule_of_the_raft_paper_has_its_story() {
    for section in [
        "5.1", "5.2", "5.3", "5.4.1", "5.4.2", "5.4.3", "6", "7", "8",
    ] {
        assert!(RULES.iter().any(|(of, ..)| *of == section), "{section}");
    }
    check(
        "Raft paper",
        RULES
            .iter()
            .map(|(section, rule, answer)| (*section, *rule, answer)),
    );
}
