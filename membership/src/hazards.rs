//! The table of hazards: bugs that other membership protocols shipped, and what answers each of them here.
//!
//! Here: every M line of the project's list of hazards, each with the tests that name it, and the test that holds the table
//! against the sources of all crates.

use std::path::{Path, PathBuf};

/// In the order of the list, the first is M1: what goes wrong elsewhere, and the tests that it cannot here; a comment at the head
/// of each test names the line.
const HAZARDS: &[(&str, &[&str])] = &[
    (
        "a third party's alive revives the gone",
        &["somebody_elses_alive_revives_nobody"],
    ),
    (
        "stale claims are dropped in silence",
        &[
            "stale_claims_are_answered_with_the_newer_record",
            "restarted_node_learns_at_its_first_packet_that_it_is_accused",
            "accusation_that_comes_before_its_record_is_kept",
            "a_sender_with_an_unknown_position_is_asked_for_its_record",
        ],
    ),
    (
        "a stale peer re-opens the question of a death",
        &["a_peers_verdict_never_kills_without_time_to_refute"],
    ),
    (
        "a returning node brings removed members back",
        &["removed_stores_never_come_back_by_gossip"],
    ),
    (
        "quarantine of fixed length is no removal",
        &["removed_stores_never_come_back_by_gossip"],
    ),
    (
        "a removed member is merged back from a lagging peer",
        &["removed_stores_never_come_back_by_gossip"],
    ),
    (
        "tombstones grow, or are pruned on one side",
        &[
            "whoever_was_removed_is_remembered_in_little_room",
            "ranges_are_the_set_that_they_stand_for",
            "the_dead_are_kept_until_the_log_removes_them",
        ],
    ),
    (
        "a removal that not all hear in time is undone",
        &["removed_stores_never_come_back_by_gossip"],
    ),
    (
        "the dead are forgotten at different times",
        &["the_dead_are_kept_until_the_log_removes_them"],
    ),
    (
        "an accusation adds a member",
        &["accusation_about_an_unknown_id_never_adds_it"],
    ),
    (
        "the gone are never reaped",
        &["who_left_or_died_is_not_counted_and_not_probed"],
    ),
    (
        "an inflated incarnation poisons a name",
        &[
            "inflated_incarnations_are_refused",
            "accusation_above_the_own_incarnation_moves_nothing",
        ],
    ),
    (
        "one false death forces a new identity",
        &["death_is_refuted_any_number_of_times_without_a_new_identity"],
    ),
    (
        "generations are judged by clocks",
        &["generations_are_compared_and_never_judged"],
    ),
    (
        "generations are clock readings",
        &["generations_are_compared_and_never_judged"],
    ),
    (
        "each restart makes another member",
        &["a_restart_wins_at_once_and_makes_no_second_member"],
    ),
    (
        "two that hold each other for dead tell each other for ever",
        &[
            "two_that_hold_each_other_for_dead_settle",
            "a_peer_that_repeats_stale_claims_is_not_answered_each_time",
        ],
    ),
    (
        "old and new start are both there",
        &["a_restart_wins_at_once_and_makes_no_second_member"],
    ),
    (
        "a restart at a new address is refused",
        &["a_restart_wins_at_once_and_makes_no_second_member"],
    ),
    (
        "a cloned disk joins",
        &[
            "a_copy_of_a_store_is_told_and_the_first_one_stays",
            "a_process_that_meets_a_later_start_of_its_own_store_falls_silent",
            "a_process_that_meets_another_record_of_its_own_position_falls_silent",
        ],
    ),
    (
        "an id is used again",
        &["removed_stores_never_come_back_by_gossip"],
    ),
    (
        "a restarted node stays downed",
        &["a_restart_wins_at_once_and_makes_no_second_member"],
    ),
    (
        "a restart passes for the process before it",
        &["a_restart_wins_at_once_and_makes_no_second_member"],
    ),
    (
        "one sick node accuses hundreds",
        &[
            "suspicion_shortens_with_independent_accusers",
            "a_starved_node_kills_nobody",
        ],
    ),
    (
        "a sick judge votes, or limps along",
        &["a_degraded_node_says_so_and_accuses_nobody_for_a_while"],
    ),
    (
        "pings are answered while the application is blocked",
        &[
            "a_degraded_node_says_so_and_accuses_nobody_for_a_while",
            "who_calls_itself_degraded_is_a_member_not_to_be_relied_on",
        ],
    ),
    (
        "late packets make members flap",
        &["a_refutation_is_never_overtaken_by_its_accusation"],
    ),
    (
        "one class of news fills every packet",
        &[
            "accusations_overtake_a_full_queue_and_leave_room_for_the_rest",
            "records_are_told_until_peers_agree_and_accusations_to_the_end",
        ],
    ),
    (
        "the queue of news is stuck",
        &["one_slot_per_subject_however_much_is_said"],
    ),
    (
        "the disk stalls the message path",
        &["no_step_of_the_machine_reaches_a_disk_a_socket_or_a_clock"],
    ),
    (
        "nodes that hash different things sync for ever",
        &[
            "syncs_that_bear_no_fruit_back_off",
            "equal_views_have_equal_hashes_whatever_the_order",
        ],
    ),
    (
        "a long partition never heals",
        &[
            "the_silent_die_and_are_called_for_ever",
            "halves_find_each_other_again",
        ],
    ),
    (
        "one lane passes and the other is blocked",
        &[
            "silence_asks_helpers_and_the_reliable_lane",
            "a_reliable_ping_is_answered_on_the_reliable_lane",
        ],
    ),
    (
        "an unreachable helper counts against the target",
        &["a_nack_is_evidence", "unreachable_helpers_are_no_evidence"],
    ),
    (
        "both sides of a healed partition hold the other for dead",
        &["a_peers_verdict_never_kills_without_time_to_refute"],
    ),
    (
        "a send error hides an isolation",
        &["send_errors_are_failed_probes_and_lower_own_health"],
    ),
    (
        "more than one removes members",
        &["the_dead_are_kept_until_the_log_removes_them"],
    ),
    (
        "loss that comes and goes makes the membership oscillate",
        &[
            "a_member_that_dies_and_returns_again_and_again_is_held_down",
            "a_hold_down_does_not_end_in_the_middle_of_a_suspicion",
        ],
    ),
    (
        "a seed's name is resolved once",
        &[
            "whoever_moved_is_found_where_its_newest_record_says",
            "a_cluster_that_moved_altogether_finds_itself_by_the_names_of_its_seeds",
        ],
    ),
    (
        "no seed found means ready alone",
        &[
            "a_node_that_finds_nobody_is_alone_and_nothing_more",
            "an_entry_of_zeros_is_superseded_and_removed_like_any_other",
        ],
    ),
    (
        "nodes gossip that the log never admitted",
        &[
            "gossip_about_stores_that_the_log_did_not_admit_waits",
            "what_waits_for_the_log_is_bounded",
        ],
    ),
    (
        "gossip writes the topology",
        &["gossip_about_stores_that_the_log_did_not_admit_waits"],
    ),
    (
        "counts and budgets overflow",
        &[
            "estimate_of_bytes_is_never_too_small",
            "trailing_bytes_are_refused",
            "every_datagram_keeps_within_the_limit_of_its_connection",
        ],
    ),
    (
        "lengths are believed before they are checked",
        &[
            "every_packet_comes_back_as_it_was",
            "arbitrary_bytes_never_panic",
            "damaged_packets_never_panic",
            "announced_lengths_are_refused_before_anything_is_reserved",
            "bounds_of_fields_hold_in_the_decoder",
            "deep_nesting_is_refused",
            "what_is_held_already_is_not_verified_again",
            "records_of_any_bytes_are_refused_or_within_their_bounds",
            "a_machine_survives_every_packet_that_decodes",
        ],
    ),
    (
        "whoever holds the key speaks for everybody",
        &["records_that_others_signed_are_dropped"],
    ),
    (
        "packets of an earlier start are accepted",
        &[
            "packets_of_an_earlier_start_are_not_heard",
            "an_answer_counts_only_from_the_target_or_a_helper_that_was_asked",
        ],
    ),
    (
        "an open connection passes for a living process",
        &["an_open_connection_is_no_sign_of_life"],
    ),
    (
        "packets above the path's maximum",
        &["every_datagram_keeps_within_the_limit_of_its_connection"],
    ),
    (
        "views stay different and nobody notices",
        &["equal_views_have_equal_hashes_whatever_the_order"],
    ),
];

/// Every Rust file of the crates that may hold a test.
fn sources() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut folders: Vec<PathBuf> = ["membership", "tests", "runtime"]
        .map(|room| root.join(room))
        .into();
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                texts.push(std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    texts
}

/// Whether `text` has a test `name` that names `line` in the comment its body begins with.
fn tells(text: &str, name: &str, line: &str) -> bool {
    let opening = format!("fn {name}(");
    let Some(start) = text.find(&opening) else {
        return false;
    };
    let is_test = text[..start]
        .lines()
        .rev()
        .take(4)
        .any(|above| above.trim() == "#[test]");
    // A signature may take several lines.
    let lines = text[start..].lines().map(str::trim);
    let body = lines.skip_while(|line| !line.ends_with('{')).skip(1);
    let comment: String = body.take_while(|body| body.starts_with("//")).collect();
    let words = comment.split(|c: char| !c.is_alphanumeric());
    is_test && words.into_iter().any(|word| word == line)
}

#[test]
fn every_hazard_has_a_test_that_names_it() {
    // The list has 49 M lines; a test that is renamed or loses its line is missed here.
    assert_eq!(HAZARDS.len(), 49);
    let sources = sources();
    let mut wrong = Vec::new();
    for (number, (what, tests)) in (1..).zip(HAZARDS) {
        let line = format!("M{number}");
        if tests.is_empty() {
            wrong.push(format!("{line} ({what}): no test is named"));
        }
        let missing = tests
            .iter()
            .filter(|test| !sources.iter().any(|text| tells(text, test, &line)));
        wrong.extend(missing.map(|test| format!("{line} ({what}): no test {test} names it")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_test_counts_for_a_line_only_if_it_names_it() {
    let text = "#[test]\nfn one() {\n    // M7: a story,\n    // and M9.\n    let M8 = 1;\n}\nfn two() {\n    // M7\n}\n";
    assert!(tells(text, "one", "M7") && tells(text, "one", "M9"));
    assert!(!tells(text, "one", "M8") && !tells(text, "one", "M") && !tells(text, "two", "M7"));
}
