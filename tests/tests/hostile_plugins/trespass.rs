//! Sins against other processes, the machine, and the files and memory of others.

use imagefactory_model::stage::FailureCode::{
    Interrupted, PluginCrash, PluginError, PluginTimeout,
};

use super::door::Wanted::{Failure, SuccessOr};
use super::door::{CONFINED, EVERYWHERE, check_attempt};

#[test]
fn a_plugin_cannot_kill_the_daemon() {
    let codes = [PluginError, PluginCrash, Interrupted];
    check_attempt("kill_parent", &EVERYWHERE, Failure(&codes, &[]));
}

#[test]
fn a_plugin_that_kills_everybody_kills_only_itself() {
    let codes = [PluginError, PluginCrash, Interrupted, PluginTimeout];
    check_attempt("kill_everybody", &EVERYWHERE, Failure(&codes, &[]));
}

#[test]
fn a_plugin_that_kills_its_process_group_does_not_reach_the_daemon() {
    let codes = [PluginError, PluginCrash, Interrupted];
    check_attempt("kill_group", &EVERYWHERE, Failure(&codes, &[]));
}

#[test]
fn a_plugin_cannot_trace_or_read_other_processes() {
    check_attempt("ptrace_everybody", &CONFINED, Failure(&[PluginError], &[]));
}

#[test]
fn what_a_plugin_mounts_nobody_else_sees() {
    check_attempt("mount_over_the_machine", &EVERYWHERE, SuccessOr(&[PluginError]));
}

#[test]
fn a_plugin_cannot_enter_other_namespaces() {
    check_attempt("leave_the_namespaces", &CONFINED, Failure(&[PluginError], &[]));
}

#[test]
fn a_plugin_cannot_touch_devices_and_the_kernel() {
    check_attempt("touch_the_kernel", &CONFINED, Failure(&[PluginError], &[]));
}

#[test]
fn a_plugin_without_network_cannot_call_the_daemon() {
    check_attempt("call_the_daemon", &CONFINED, Failure(&[PluginError], &[]));
}

#[test]
fn a_plugin_cannot_read_the_daemons_files() {
    check_attempt("read_secrets", &CONFINED, Failure(&[PluginError], &[]));
}

#[test]
fn a_plugin_cannot_read_the_daemons_environment_and_memory() {
    check_attempt("read_processes", &CONFINED, Failure(&[PluginError], &[]));
}

#[test]
fn a_plugin_inherits_no_descriptor_of_the_daemon() {
    check_attempt("read_inherited_descriptors", &EVERYWHERE, Failure(&[PluginError], &[]));
}

#[test]
fn a_plugin_cannot_write_outside_its_own_folders() {
    check_attempt("write_outside", &CONFINED, Failure(&[PluginError], &[]));
}
