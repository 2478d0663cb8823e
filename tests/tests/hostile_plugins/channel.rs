//! Sins against the channel: descriptors, frames, printing.

use imagefactory_model::stage::FailureCode::{
    PluginCrash, PluginOutput, PluginProtocol, PluginTimeout,
};

use super::door::Wanted::{Failure, Success, SuccessOr};
use super::door::{
    ANYWHERE, CONFINED, EVERYWHERE, check_attempt, check_endless_sin, check_long_sin,
};

#[test]
fn a_plugin_that_closes_all_descriptors_fails() {
    let codes = [PluginProtocol, PluginTimeout];
    check_endless_sin("close_descriptors", &EVERYWHERE, Failure(&codes, &[]));
}

#[test]
fn an_end_forged_on_every_descriptor_does_not_count() {
    check_attempt("forge_end", &EVERYWHERE, Failure(&[PluginProtocol], &[]));
}

#[test]
fn an_end_forged_with_the_nonce_from_memory_brings_no_output_into_being() {
    let codes = [PluginProtocol, PluginOutput, PluginCrash, PluginTimeout];
    check_attempt("forge_end_with_stolen_nonce", &CONFINED, Failure(&codes, &[]));
}

#[test]
fn broken_frames_fail_the_stage() {
    check_attempt("garbage_frames", &CONFINED, Failure(&[PluginProtocol], &[]));
}

#[test]
fn results_from_a_thread_that_goes_on_after_the_end_do_not_change_a_success() {
    let codes = [PluginProtocol, PluginOutput, PluginCrash];
    check_attempt("results_after_end", &CONFINED, SuccessOr(&codes));
}

#[test]
fn a_result_changed_in_destroy_does_not_change_a_success() {
    let codes = [PluginProtocol, PluginOutput];
    check_attempt("results_in_destroy", &CONFINED, SuccessOr(&codes));
}

#[test]
fn a_printed_gigabyte_is_drained_and_not_kept() {
    check_long_sin("print_a_gigabyte", &ANYWHERE, Success);
}

#[test]
fn a_line_without_end_is_cut_and_not_kept() {
    check_attempt("print_one_endless_line", &CONFINED, Success);
}

#[test]
fn a_plugin_that_closes_standard_output_may_go_on() {
    check_attempt("close_the_pipes", &CONFINED, Success);
}
