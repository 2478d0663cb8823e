//! Sins against time: whoever does not end is ended, deaf or not.

use imagefactory_model::stage::FailureCode::{Cancelled, PluginTimeout};

use super::door::Wanted::{Failure, Success, SuccessOr};
use super::door::{CONFINED, EVERYWHERE, check_cancelled_sin, check_endless_sin, check_sin};

#[test]
fn an_endless_quiet_loop_ends_at_its_deadline() {
    check_endless_sin("quiet_loop", &EVERYWHERE, Failure(&[PluginTimeout], &["1.5"]));
}

#[test]
fn an_endless_chatty_loop_ends_at_its_deadline_too() {
    check_endless_sin("chatty_loop", &EVERYWHERE, Failure(&[PluginTimeout], &["1.5"]));
}

#[test]
fn a_sleeping_plugin_ends_when_it_is_cancelled() {
    check_cancelled_sin("sleep_long", &EVERYWHERE, Failure(&[Cancelled], &[]));
}

#[test]
fn a_chatty_plugin_ends_when_it_is_cancelled() {
    check_cancelled_sin("chatty_loop", &CONFINED, Failure(&[Cancelled], &[]));
}

#[test]
fn a_plugin_that_blocks_all_signals_ends_when_it_is_cancelled() {
    check_cancelled_sin("deaf", &EVERYWHERE, Failure(&[Cancelled], &[]));
}

#[test]
fn a_plugin_that_blocks_all_signals_ends_at_its_deadline() {
    check_endless_sin("deaf", &EVERYWHERE, Failure(&[PluginTimeout], &[]));
}

#[test]
fn a_plugin_that_stops_its_own_process_ends_at_its_deadline() {
    check_endless_sin("stop_everything", &EVERYWHERE, Failure(&[PluginTimeout], &[]));
}

#[test]
fn a_plugin_that_logs_from_a_signal_handler_at_worst_locks_up_itself() {
    check_endless_sin("log_in_signal_handler", &CONFINED, Failure(&[PluginTimeout], &[]));
}

#[test]
fn a_plugin_that_hangs_in_destroy_ends_at_its_deadline() {
    check_endless_sin("hang_in_destroy", &EVERYWHERE, Failure(&[PluginTimeout], &[]));
}

#[test]
fn a_plugin_that_keeps_the_lock_of_standard_output_cannot_keep_the_process() {
    check_endless_sin("hold_stdio_lock", &CONFINED, SuccessOr(&[PluginTimeout]));
}

#[test]
fn a_plugin_that_changes_the_state_of_its_process_changes_nobody_elses() {
    check_sin("change_process_state", &EVERYWHERE, Success);
}
