//! Sins of number and size, and children meant to outlive the stage.

use imagefactory_model::stage::FailureCode::{
    PluginCrash, PluginError, PluginOom, PluginProtocol, PluginTimeout,
};

use super::door::Wanted::{Failure, Success};
use super::door::{EVERYWHERE, check_attempt, check_endless_sin, check_sin};

#[test]
fn children_in_sessions_of_their_own_end_with_a_stage_that_succeeds() {
    check_attempt("leave_children_and_succeed", &EVERYWHERE, Success);
}

#[test]
fn children_in_sessions_of_their_own_end_with_a_stage_that_crashes() {
    check_attempt("leave_children_and_crash", &EVERYWHERE, Failure(&[PluginCrash], &["SIGSEGV"]));
}

#[test]
fn children_in_sessions_of_their_own_end_with_a_stage_that_hangs() {
    check_endless_sin("leave_children_and_hang", &EVERYWHERE, Failure(&[PluginTimeout], &[]));
}

#[test]
fn a_program_that_was_started_and_left_ends_with_its_stage() {
    check_attempt("leave_a_program", &EVERYWHERE, Success);
}

#[test]
fn a_child_that_keeps_the_socket_open_does_not_keep_the_stage_open() {
    check_attempt("child_holds_the_socket", &EVERYWHERE, Failure(&[PluginProtocol], &["0"]));
}

#[test]
fn a_fork_bomb_meets_its_limit_and_leaves_nothing() {
    check_endless_sin("fork_bomb", &EVERYWHERE, Failure(&[PluginTimeout], &[]));
}

#[test]
fn a_thread_bomb_meets_its_limit() {
    check_attempt("thread_bomb", &EVERYWHERE, Failure(&[PluginError], &[]));
}

#[test]
fn a_memory_hog_meets_its_limit() {
    check_attempt("memory_hog", &EVERYWHERE, Failure(&[PluginOom, PluginError], &[]));
}

#[test]
fn a_family_of_memory_hogs_meets_the_limit_of_the_whole_stage() {
    // Without a cgroup each process has the limit for itself; their number is bounded, and the
    // deadline ends them all.
    let codes = [PluginOom, PluginTimeout];
    check_endless_sin("memory_hog_family", &EVERYWHERE, Failure(&codes, &[]));
}

#[test]
fn a_flood_of_descriptors_meets_its_limit() {
    check_attempt("fd_flood", &EVERYWHERE, Failure(&[PluginError], &[]));
}

#[test]
fn a_file_of_4_tib_meets_its_limit() {
    check_attempt("file_beyond_limit", &EVERYWHERE, Failure(&[PluginError], &[]));
}

#[test]
fn a_tree_that_its_maker_cannot_remove_is_removed_by_the_host() {
    check_attempt("file_flood", &EVERYWHERE, Success);
}

#[test]
fn shared_memory_does_not_outlive_the_stage() {
    check_sin("leave_shared_memory", &EVERYWHERE, Success);
}
