//! Host services called as no header allows.

use imagefactory_model::stage::FailureCode::{
    PluginCrash, PluginError, PluginOutput, PluginProtocol, PluginTimeout,
};

use super::door::Wanted::{Failure, SuccessOr};
use super::door::{ANYWHERE, CONFINED, check_attempt, check_sin};

#[test]
fn text_that_is_not_utf_8_is_refused_everywhere() {
    check_sin("invalid_utf8", &ANYWHERE, Failure(&[PluginError], &[]));
}

#[test]
fn text_that_is_not_json_is_refused_everywhere() {
    check_sin("invalid_json", &ANYWHERE, Failure(&[PluginError], &[]));
}

#[test]
fn inner_nuls_and_terminal_escapes_reach_no_log_line() {
    check_sin("inner_nul_and_escapes", &ANYWHERE, Failure(&[PluginError], &[]));
}

#[test]
fn json_nested_a_million_deep_overflows_no_stack_but_the_plugins() {
    check_sin("deep_json", &ANYWHERE, Failure(&[PluginError, PluginCrash], &[]));
}

#[test]
fn null_pointers_are_refused_everywhere() {
    check_sin("null_pointers", &ANYWHERE, Failure(&[PluginError], &[]));
}

#[test]
fn a_length_beyond_memory_is_refused_or_crashes_its_own_process() {
    check_sin("length_beyond_memory", &ANYWHERE, Failure(&[PluginError, PluginCrash], &[]));
}

#[test]
fn wrong_struct_sizes_are_refused_and_larger_ones_are_read_as_far_as_they_are_known() {
    check_sin("wrong_struct_sizes", &ANYWHERE, Failure(&[PluginError], &[]));
}

#[test]
fn strings_of_64_mib_are_refused_and_cost_the_daemon_nothing() {
    check_sin("huge_strings", &ANYWHERE, Failure(&[PluginError, PluginProtocol], &[]));
}

#[test]
fn a_flood_of_lawful_calls_costs_the_daemon_nothing() {
    let codes = [PluginError, PluginProtocol, PluginTimeout];
    check_attempt("host_call_flood", &ANYWHERE, Failure(&codes, &[]));
}

#[test]
fn calls_of_many_threads_do_not_mix() {
    check_sin("many_threads", &ANYWHERE, Failure(&[PluginError], &[]));
}

#[test]
fn a_plugin_that_keeps_pointers_hurts_only_itself() {
    check_sin("keep_pointers", &CONFINED, SuccessOr(&[PluginCrash, PluginProtocol]));
}

#[test]
fn a_plugin_that_uses_the_host_after_destroy_hurts_only_itself() {
    // While destroy still runs, its calls are lawful: then the last format stands, and is a lie.
    let codes = [PluginCrash, PluginProtocol, PluginOutput];
    check_sin("use_host_after_destroy", &CONFINED, SuccessOr(&codes));
}

#[test]
fn what_was_not_granted_is_not_given() {
    check_attempt("ask_for_what_is_not_granted", &ANYWHERE, Failure(&[PluginError], &[]));
}
