//! What went wrong with sharded actors elsewhere: the S lines of the list.

use super::{
    Answer::{CannotBe, Tests},
    Row,
};

pub(super) const HAZARDS: &[Row] = &[
    (
        "S1",
        "a leader that was paused writes beside its successor",
        Tests(&[
            "a_node_that_stands_still_for_long_is_held_dead_and_comes_back",
            "trace_7_pause_and_resume",
        ]),
    ),
    (
        "S2",
        "who places shards is lost in the middle of a move",
        Tests(&[
            "a_node_that_joins_gets_few_copies_at_a_time",
            "small_clusters_come_to_rest_after_every_storm",
        ]),
    ),
    (
        "S3",
        "messages are lost while a shard changes hands",
        Tests(&[
            "a_cluster_grows_under_load_and_the_new_node_leads",
            "a_drained_node_is_removed_under_load_and_nobody_notices",
        ]),
    ),
    (
        "S4",
        "a message waits for the next tick",
        Tests(&[
            "a_store_that_comes_back_is_asked_the_moment_it_is_connected",
            "a_table_that_moves_the_shard_wakes_its_calls",
        ]),
    ),
    (
        "S5",
        "all entities of a shard stop at once in a rolling update",
        Tests(&[
            "a_stopped_node_hands_over_and_nobody_notices",
            "a_drained_node_is_removed_under_load_and_nobody_notices",
        ]),
    ),
    (
        "S6",
        "two drains at once never end",
        Tests(&[
            "two_drains_at_once_end",
            "a_drained_node_gives_everything_up_unless_nobody_else_can_take_it",
        ]),
    ),
    (
        "S7",
        "everything is made anew at once after a restart",
        // Of copies. A node reads its own log once for all groups, and entities are made when somebody asks for them.
        Tests(&["many_nodes_that_join_at_once_get_no_more_than_the_cluster_can_send"]),
    ),
    (
        "S8",
        "another hash or number of shards puts one key into two",
        Tests(&[
            "the_hash_of_a_key_never_changes",
            "a_request_for_another_shard_or_with_an_endless_key_is_turned_away",
        ]),
    ),
    (
        "S9",
        "one actor routes for a whole kind",
        CannotBe(
            "a call is routed on its caller's thread; no actor stands between it and its shard.",
        ),
    ),
    (
        "S10",
        "a lost notification leaves shards on nodes that are gone",
        Tests(&[
            "a_table_that_moves_the_shard_wakes_its_calls",
            "small_clusters_come_to_rest_after_every_storm",
        ]),
    ),
    (
        "S11",
        "pings are answered while the program's threads are blocked",
        Tests(&["an_arbiter_is_stuck_after_its_bound_and_well_again_after_as_long"]),
    ),
    (
        "S12",
        "a restart is blocked by its own ghost",
        Tests(&[
            "an_older_start_of_a_store_is_refused",
            "restarted_node_learns_at_its_first_packet_that_it_is_accused",
        ]),
    ),
    (
        "S13",
        "a new node stays cold",
        Tests(&["a_cluster_grows_under_load_and_the_new_node_leads"]),
    ),
    (
        "S14",
        "a reminder skips a missed tick",
        CannotBe("there are no reminders yet; the line is due with them."),
    ),
    (
        "S15",
        "entries of a registry die when a split heals",
        CannotBe(
            "where shards are is said by the system group's log and by nothing that gossips: a split heals without merging any of it.",
        ),
    ),
    (
        "S16",
        "a group has no leader after a node was away",
        Tests(&["every_node_is_cut_off_in_turn_and_joined_again_and_every_group_is_led_each_time"]),
    ),
    (
        "S17",
        "one restart among thousands of groups is a storm of elections",
        Tests(&[
            "groups_rest_and_wake_in_every_storm",
            "of_a_thousand_groups_only_those_of_the_node_wake",
        ]),
    ),
    (
        "S18",
        "a node that stops hands over at the end and not at the beginning",
        Tests(&["a_stopped_node_hands_over_and_nobody_notices"]),
    ),
    (
        "S19",
        "an actor is spawned twice, or before it can be found",
        CannotBe(
            "entities are not spawned: each is there by its key, in one shard of a number that never changes.",
        ),
    ),
    (
        "S20",
        "clients do not come back after a node's restart",
        Tests(&[
            "a_client_that_is_no_member_asks_and_survives_the_restart_of_every_node",
            "a_client_gets_its_replies_and_is_told_when_the_node_goes_and_comes_back",
        ]),
    ),
    (
        "S21",
        "a node or a client finds nobody and does not say so",
        Tests(&[
            "an_unreachable_member_is_mentioned_once_and_tried_until_told_to_give_up",
            "nobody_at_the_address_is_said_in_time",
        ]),
    ),
    (
        "S22",
        "a panic ends an actor with its mailbox",
        Tests(&["a_panic_fails_its_command_and_nothing_else"]),
    ),
    (
        "S23",
        "compact arrays swap fields in silence",
        Tests(&["what_two_versions_share_carries_field_names"]),
    ),
    (
        "S24",
        "keys of an endpoint die with its process; datagrams above the path's size",
        Tests(&[
            "endpoint_keys_outlive_the_process",
            "a_killed_and_restarted_node_is_reached_again_at_once",
            "datagrams_arrive_and_one_above_the_path_is_refused",
        ]),
    ),
];
