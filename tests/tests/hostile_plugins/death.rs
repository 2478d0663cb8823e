//! Sins that end the process in the middle of the operation.

use imagefactory_model::stage::FailureCode::{
    Interrupted, PluginAbort, PluginCrash, PluginProtocol, PluginTimeout, Sandbox,
};

use super::door::Wanted::{Failure, SuccessOr};
use super::door::{BUILDERS, CLOUD, CONFINED, EVERYWHERE, check_endless_sin, check_sin};

#[test]
fn a_plugin_that_crashes_fails_its_stage_with_the_signals_name() {
    check_sin("segfault", &EVERYWHERE, Failure(&[PluginCrash], &["SIGSEGV"]));
}

#[test]
fn a_plugin_that_reads_behind_the_end_of_a_mapped_file_crashes_by_sigbus() {
    check_sin("bus_error", &CONFINED, Failure(&[PluginCrash], &["SIGBUS"]));
}

#[test]
fn a_plugin_that_executes_garbage_crashes_by_sigill() {
    check_sin("illegal_instruction", &CONFINED, Failure(&[PluginCrash], &["SIGILL"]));
}

#[test]
fn a_plugin_that_divides_by_zero_crashes_by_sigfpe() {
    check_sin("divide_by_zero", &CONFINED, Failure(&[PluginCrash], &["SIGFPE"]));
}

#[test]
fn a_plugin_that_aborts_fails_with_a_code_of_its_own() {
    check_sin("abort", &EVERYWHERE, Failure(&[PluginAbort], &["SIGABRT"]));
}

#[test]
fn a_plugin_that_corrupts_the_heap_is_ended_by_the_allocator() {
    check_sin("corrupt_heap", &CONFINED, Failure(&[PluginAbort], &["SIGABRT"]));
}

#[test]
fn a_plugin_that_exits_with_0_did_not_succeed() {
    check_sin("exit_zero", &EVERYWHERE, Failure(&[PluginProtocol], &["0"]));
}

#[test]
fn a_plugin_that_exits_at_once_with_0_did_not_succeed() {
    check_sin("exit_at_once", &EVERYWHERE, Failure(&[PluginProtocol], &["0"]));
}

#[test]
fn a_plugin_that_exits_with_3_has_its_status_named() {
    check_sin("exit_three", &CONFINED, Failure(&[PluginProtocol], &["3"]));
}

#[test]
fn a_plugin_that_exits_after_a_perfect_output_did_not_succeed() {
    check_sin("exit_after_output", &EVERYWHERE, Failure(&[PluginProtocol], &["0"]));
}

#[test]
fn a_plugin_that_overflows_its_stack_crashes() {
    check_sin("stack_overflow", &EVERYWHERE, Failure(&[PluginCrash, PluginAbort], &["SIG"]));
}

#[test]
fn a_plugin_that_kills_itself_is_told_from_one_that_is_killed_where_that_can_be() {
    // Where it may make namespaces of its own it cannot be told from one that others killed.
    check_sin("kill_self", &CLOUD, Failure(&[Sandbox], &["SIGSYS"]));
    check_sin("kill_self", &BUILDERS, Failure(&[Interrupted], &["SIGKILL"]));
}

#[test]
fn a_plugin_that_jumps_out_of_its_operation_fails() {
    // Wherever it lands: here it fell into the next function of the fixture, which kills itself.
    let codes = [PluginCrash, PluginAbort, PluginProtocol, PluginTimeout, Interrupted, Sandbox];
    check_endless_sin("jump_out", &CONFINED, Failure(&codes, &[]));
}

#[test]
fn a_plugin_that_ends_the_stage_thread_fails() {
    let codes = [PluginCrash, PluginAbort, PluginProtocol, PluginTimeout];
    check_endless_sin("end_the_thread", &CONFINED, Failure(&codes, &[]));
}

#[test]
fn a_plugin_that_crashes_in_destroy_has_not_succeeded() {
    check_sin(
        "crash_in_destroy",
        &EVERYWHERE,
        Failure(&[PluginProtocol, PluginCrash], &["SIGSEGV"]),
    );
}

#[test]
fn a_plugin_that_spoils_the_exit_status_has_not_succeeded_unless_the_runner_skips_its_handlers() {
    check_sin("exit_status_after_end", &CONFINED, SuccessOr(&[PluginProtocol]));
}
