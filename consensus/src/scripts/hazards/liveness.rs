//! What can go wrong between nodes whose groups rest, lease, begin and compact: lines E16 to E29 of the list.

use super::{Answer::Tests, Row};

pub(super) const HAZARDS: &[Row] = &[
    (
        "E16",
        "the leader's replica stops while its node beats on",
        Tests(&["trace_1_the_leaders_replica_dies_while_its_node_beats_on"]),
    ),
    (
        "E17",
        "the word that a claim ended is lost, and followers refuse who would lead",
        Tests(&[
            "trace_3_the_news_that_a_claim_does_not_stand_is_lost",
            "a_leader_that_starts_again_is_not_refused_for_its_own_sake",
        ]),
    ),
    (
        "E18",
        "the thread of a group stands still while its node beats on",
        Tests(&["trace_2_the_leaders_thread_stands_still_while_its_node_beats_on"]),
    ),
    (
        "E19",
        "one-way links keep a leader that nobody hears",
        Tests(&[
            "trace_4_one_way_links_and_reads_at_a_leader_that_is_none",
            "hearing_others_extends_no_lease",
        ]),
    ),
    (
        "E20",
        "a restart forgets a promise, or waits for one that nobody holds",
        Tests(&[
            "a_replica_that_restarts_keeps_what_it_may_have_promised",
            "a_sole_voter_waits_for_no_promise",
            "a_sole_voter_leads_at_once_only_when_nobody_else_can_read",
        ]),
    ),
    (
        "E21",
        "what was made or restarted while others slept is not noticed",
        Tests(&[
            "trace_5_a_restart_remembers_no_claim",
            "trace_6_a_node_that_slept_through_everything_hears_of_it",
            "of_a_thousand_groups_only_those_of_the_node_wake",
            "a_learner_that_is_made_long_after_its_leader_would_rest_is_not_forgotten",
        ]),
    ),
    (
        "E22",
        "after a pause timers are judged before what waits is read",
        Tests(&[
            "trace_7_pause_and_resume",
            "one_that_was_late_itself_judges_nobody",
            "one_packet_in_a_hundred_lost_wakes_nobody",
        ]),
    ),
    (
        "E23",
        "a sleeper claims to be fresh",
        // Stale reads are answered by leaders alone, so that nobody claims anything; the test is of reads that must not be stale.
        Tests(&["trace_8_a_read_at_one_that_rests_asks_the_leader"]),
    ),
    (
        "E24",
        "two voters are worse than one",
        Tests(&[
            "one_voter_becomes_three_in_one_joint_change",
            "one_voter_and_one_learner_survive_the_learners_death_and_wait_for_the_voter",
            "two_stores_have_one_voter",
        ]),
    ),
    (
        "E25",
        "two clusters are founded",
        Tests(&[
            "seeds_found_at_most_one_cluster_and_one_when_they_agree",
            "a_seed_alone_in_its_list_founds_alone_and_the_others_join",
            "two_wiped_seeds_join_what_the_third_still_has",
            "a_store_with_data_never_founds_again",
        ]),
    ),
    (
        "E26",
        "a wiped disk votes in the place of its former self",
        Tests(&[
            "a_wiped_store_cannot_vote_in_the_place_of_its_former_self",
            "nobody_votes_before_it_has_the_log",
            "a_wiped_store_cannot_pass_for_its_former_self",
        ]),
    ),
    (
        "E27",
        "all addresses change at once",
        Tests(&["every_node_restarted_at_new_addresses_finds_the_others"]),
    ),
    (
        "E28",
        "the log is compacted before what replaces it is durable",
        Tests(&[
            "a_compaction_keeps_a_tail_and_waits_for_a_snapshot_on_its_way",
            "checkpoint_and_log_leave_no_hole_at_any_moment",
            "put_survives_the_power_loss_right_after_it",
        ]),
    ),
    (
        "E29",
        "snapshots stall what shows that a node lives",
        Tests(&["bulk_has_a_connection_of_its_own"]),
    ),
];
