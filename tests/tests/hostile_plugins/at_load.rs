//! Sins before the operation: in a constructor, in negotiate, in the tables, in create; and panics.

use imagefactory_model::stage::FailureCode::{
    self, PluginAbi, PluginAbort, PluginCrash, PluginError, PluginLoad, PluginPanic,
    PluginProtocol, PluginTimeout,
};

use super::door::Wanted::Failure;
use super::door::{CONFINED, check_at_load, check_rust_panic};

#[test]
fn a_library_that_crashes_while_it_is_loaded_fails_its_stage() {
    check_at_load("constructor_segfault", Failure(&[PluginCrash], &["SIGSEGV"]));
}

#[test]
fn a_library_that_exits_while_it_is_loaded_fails_its_stage() {
    check_at_load("constructor_exit_0", Failure(&[PluginProtocol, PluginLoad], &["0"]));
}

#[test]
fn a_library_that_hangs_while_it_is_loaded_fails_its_stage() {
    check_at_load("constructor_hang", Failure(&[PluginTimeout], &[]));
}

#[test]
fn a_library_that_closes_all_descriptors_fails_its_stage() {
    let codes = [PluginProtocol, PluginTimeout, PluginLoad];
    check_at_load("constructor_closes_descriptors", Failure(&codes, &[]));
}

#[test]
fn a_library_that_forges_frames_while_it_is_loaded_fails_its_stage() {
    check_at_load("constructor_forges_frames", Failure(&[PluginProtocol], &[]));
}

#[test]
fn a_library_that_leaves_a_child_while_it_is_loaded_leaves_nothing() {
    check_at_load("constructor_leaves_a_child", Failure(&[PluginError], &[]));
}

#[test]
fn a_plugin_that_crashes_in_negotiation_fails_its_stage() {
    check_at_load("negotiate_segfault", Failure(&[PluginCrash], &["SIGSEGV"]));
}

#[test]
fn a_plugin_that_hangs_in_negotiation_fails_its_stage() {
    check_at_load("negotiate_hang", Failure(&[PluginTimeout], &[]));
}

#[test]
fn a_plugin_that_is_not_the_one_of_its_manifest_is_refused() {
    for sin in ["other_id", "id_not_utf8", "other_version", "other_kind", "kind_nobody_knows"] {
        check_at_load(sin, Failure(&[PluginAbi], &[]));
    }
}

#[test]
fn a_plugin_without_a_common_abi_is_refused() {
    for sin in ["abi_of_tomorrow", "refuses_without_a_word", "refuses_with_garbage"] {
        check_at_load(sin, Failure(&[PluginAbi], &[]));
    }
    check_at_load("negotiate_fails", Failure(&[PluginAbi], &["-5"]));
}

#[test]
fn tables_that_are_missing_short_or_empty_are_refused() {
    let codes: [FailureCode; 3] = [PluginAbi, PluginLoad, PluginError];
    for sin in [
        "no_descriptor",
        "descriptor_too_short",
        "no_functions",
        "interface_absent",
        "table_too_short",
        "table_empty",
    ] {
        check_at_load(sin, Failure(&codes, &[]));
    }
}

#[test]
fn tables_and_texts_that_lie_nowhere_crash_their_own_process() {
    for sin in ["descriptor_nowhere", "id_without_end", "table_nowhere", "interface_segfault"] {
        check_at_load(sin, Failure(&[PluginCrash, PluginAbi], &[]));
    }
}

#[test]
fn a_plugin_whose_create_fails_fails_its_stage() {
    check_at_load("create_segfault", Failure(&[PluginCrash], &["SIGSEGV"]));
    check_at_load("create_fails", Failure(&[PluginError], &[]));
    // No instance is no crime by itself: the plugin may need none.
    check_at_load("create_makes_nothing", Failure(&[PluginError, PluginProtocol], &[]));
}

#[test]
fn a_panic_that_nobody_catches_ends_as_an_abort() {
    check_rust_panic("panic", &CONFINED, Failure(&[PluginAbort], &["SIGABRT"]));
}

#[test]
fn a_panic_that_unwinds_across_the_boundary_fails_the_stage() {
    check_rust_panic("unwind", &CONFINED, Failure(&[PluginAbort, PluginPanic], &[]));
}

/// The lawful twin: the same fixture without a sin answers its own error, so the tests above see
/// sins.
#[test]
fn a_plugin_that_sins_in_nothing_before_its_operation_reaches_it() {
    check_at_load("none", Failure(&[PluginError], &["1"]));
}
