//! Lies in results and in the verdict.

use imagefactory_model::stage::FailureCode::{PluginError, PluginOutput, PluginProtocol};

use super::door::Wanted::{Failure, SuccessOr};
use super::door::{ANYWHERE, check_attempt, check_sin};

#[test]
fn keys_that_the_operation_does_not_have_become_no_result() {
    check_attempt("unknown_result_keys", &ANYWHERE, SuccessOr(&[PluginProtocol]));
}

#[test]
fn results_of_a_wrong_type_become_no_result() {
    check_attempt("wrong_result_types", &ANYWHERE, SuccessOr(&[PluginProtocol]));
}

#[test]
fn a_format_that_is_no_string_does_not_stand() {
    check_attempt("format_of_wrong_type", &ANYWHERE, SuccessOr(&[PluginProtocol, PluginOutput]));
}

#[test]
fn a_format_that_the_file_does_not_have_is_a_failure() {
    check_attempt("format_lie", &ANYWHERE, Failure(&[PluginOutput], &["qcow2"]));
}

#[test]
fn a_format_that_nobody_knows_is_a_failure() {
    check_attempt("format_unknown", &ANYWHERE, Failure(&[PluginOutput, PluginProtocol], &[]));
}

#[test]
fn an_image_that_leads_to_another_file_is_a_failure() {
    check_attempt("backing_file", &ANYWHERE, Failure(&[PluginOutput], &["backing file"]));
}

#[test]
fn of_two_errors_the_first_stands() {
    let wanted = Failure(&[PluginError], &["the first error"]);
    check_sin("report_error_twice", &ANYWHERE, wanted);
}

#[test]
fn success_beside_an_error_is_not_believed_blindly() {
    check_sin("success_after_error", &ANYWHERE, SuccessOr(&[PluginProtocol, PluginError]));
}

#[test]
fn an_error_without_a_record_names_its_status() {
    check_sin("error_without_report", &ANYWHERE, Failure(&[PluginError], &["12"]));
}

#[test]
fn an_error_with_the_record_of_another_fails_with_the_record() {
    check_sin("error_code_of_another", &ANYWHERE, Failure(&[PluginError, PluginProtocol], &[]));
}

#[test]
fn a_status_that_is_reserved_for_the_host_is_a_failure() {
    check_sin("negative_code", &ANYWHERE, Failure(&[PluginError, PluginProtocol], &["-1"]));
}

#[test]
fn a_status_that_nobody_knows_is_a_failure() {
    check_sin("unknown_code", &ANYWHERE, Failure(&[PluginError], &["999"]));
}

#[test]
fn a_plugin_that_says_cancelled_when_nobody_asked_has_failed() {
    check_sin("cancelled_by_nobody", &ANYWHERE, Failure(&[PluginError, PluginProtocol], &[]));
}
