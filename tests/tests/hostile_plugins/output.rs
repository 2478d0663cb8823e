//! Success is said and the output is not what it must be; artefacts that lead elsewhere.

use imagefactory_model::stage::FailureCode::{PluginError, PluginOutput, PluginProtocol};

use super::door::Wanted::{Failure, Success, SuccessOr};
use super::door::{ANYWHERE, CONFINED, EVERYWHERE, check_attempt, check_sin};

#[test]
fn a_missing_output_is_a_failure() {
    check_sin("output_missing", &EVERYWHERE, Failure(&[PluginOutput], &[]));
}

#[test]
fn an_output_without_a_format_is_a_failure() {
    check_sin(
        "output_without_format",
        &ANYWHERE,
        Failure(&[PluginOutput, PluginProtocol], &["format"]),
    );
}

#[test]
fn an_empty_output_is_a_failure() {
    check_sin("output_empty", &ANYWHERE, Failure(&[PluginOutput], &["empty"]));
}

#[test]
fn an_output_that_links_to_a_file_of_the_system_is_a_failure() {
    check_sin("output_links_to_passwd", &EVERYWHERE, Failure(&[PluginOutput], &["link"]));
}

#[test]
fn an_output_that_links_to_a_secret_of_the_daemon_is_a_failure() {
    check_sin("output_links_to_secret", &EVERYWHERE, Failure(&[PluginOutput], &["link"]));
}

#[test]
fn an_output_with_a_second_name_is_a_failure() {
    check_sin("output_is_hard_link", &EVERYWHERE, Failure(&[PluginOutput], &["link"]));
}

#[test]
fn an_output_that_is_a_fifo_is_a_failure_and_nobody_waits_at_it() {
    check_sin("output_is_fifo", &EVERYWHERE, Failure(&[PluginOutput], &["regular file"]));
}

#[test]
fn an_output_that_is_a_folder_is_a_failure() {
    check_sin("output_is_folder", &EVERYWHERE, Failure(&[PluginOutput], &["regular file"]));
}

#[test]
fn an_output_that_is_a_device_is_a_failure() {
    check_sin("output_is_device", &EVERYWHERE, Failure(&[PluginOutput], &[]));
}

#[test]
fn an_output_that_cannot_be_read_is_a_failure_unless_the_daemon_can_read_it() {
    check_sin("output_cannot_be_read", &CONFINED, SuccessOr(&[PluginOutput]));
}

#[test]
fn an_output_with_setuid_bits_is_accepted_without_them_or_not_at_all() {
    check_sin("output_is_setuid", &CONFINED, SuccessOr(&[PluginOutput]));
}

#[test]
fn the_folder_of_the_output_cannot_be_exchanged() {
    check_attempt("output_folder_swapped", &CONFINED, Success);
}

#[test]
fn nobody_writes_to_an_output_after_it_was_checked() {
    check_attempt("output_written_after_success", &EVERYWHERE, SuccessOr(&[PluginOutput]));
}

#[test]
fn an_artefact_cannot_have_a_name_or_a_place_outside() {
    for ended in check_attempt("artifact_escapes", &CONFINED, SuccessOr(&[PluginError])) {
        assert!(ended.artifacts.is_empty(), "{:?}", ended.artifacts);
    }
}

#[test]
fn an_artefact_that_became_a_link_is_not_followed() {
    for ended in check_attempt("artifact_swapped", &CONFINED, SuccessOr(&[PluginOutput])) {
        assert!(ended.artifacts.is_empty(), "{:?}", ended.artifacts);
    }
}
