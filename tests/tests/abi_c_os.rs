//! MockOS once more, in plain C and as a smaller one in C++, called through the ABI by a recording
//! host: what it makes, how it fails, how it stops. What both C plugins share is
//! `abi_c_plugins.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed, in its helping functions too"
)]

mod abi_build;
mod abi_host;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use abi_build::{c_source_as_cpp, library};
use abi_host::{Plugin, RecordingHost, Stage};
use imagefactory_plugin_sdk::abi;
use serde_json::json;

const TEMPLATE: &str = "<template><name>one</name></template>";

/// Runs create_base_image; status, bytes of the output (empty = none), and what was told.
fn build_base(library: &Path, stage: &Stage) -> (i32, Vec<u8>, abi_host::Recorded) {
    let folder = tempfile::tempdir().unwrap();
    let host = RecordingHost::new(folder.path());
    let instance = Plugin::load(library).create(&host);
    let status = instance.call(instance.os().create_base_image, stage);
    (status, std::fs::read(host.output()).unwrap_or_default(), host.recorded())
}

#[test]
fn the_c_mock_builds_the_same_image_from_the_same_template_only() {
    for library in [library("CMockOS"), c_source_as_cpp("mock_os.c")] {
        let (status, first, told) = build_base(&library, &Stage::with_template(TEMPLATE));
        assert_eq!(status, abi::IMGF_OK, "{:?}", told.errors);
        let (_, again, _) = build_base(&library, &Stage::with_template(TEMPLATE));
        let (_, other, _) = build_base(&library, &Stage::with_template("<template/>"));
        assert_eq!(first.len(), 1024 * 1024);
        assert!(first == again && first != other);
        assert_eq!(told.results["format"], "raw");
        assert!(told.results["icicle"].as_str().unwrap().starts_with("<icicle>"));
        assert!(told.errors.is_empty());
    }
}

#[test]
fn the_c_mock_image_is_sparse() {
    let folder = tempfile::tempdir().unwrap();
    let host = RecordingHost::new(folder.path());
    let instance = Plugin::load(&library("CMockOS")).create(&host);
    instance.call(instance.os().create_base_image, &Stage::with_template(TEMPLATE));
    let about = std::fs::metadata(host.output()).unwrap();
    assert!(about.blocks() * 512 < about.len() / 2, "{} blocks", about.blocks());
}

#[test]
fn progress_of_the_c_mock_rises_to_its_total() {
    let stage = Stage::with_template(TEMPLATE).and_parameters(r#"{"x":{"y":[1]},"mock_steps":3}"#);
    let (_, _, told) = build_base(&library("CMockOS"), &stage);
    let install = |done| ("install".to_string(), done, 3);
    assert_eq!(told.progress, [install(0), install(1), install(2), install(3)]);
    let used = json!({"mock_duration_ms": 0, "mock_steps": 3, "mock_size_bytes": 1048576});
    assert_eq!(told.results["effective_parameters"], used);
}

#[test]
fn mock_fail_fails_with_its_own_text_and_leaves_no_image() {
    let wish = r#"{"mock_fail":"no \"room\" for it"}"#;
    let stage = Stage::with_template(TEMPLATE).and_parameters(wish);
    let (status, output, told) = build_base(&library("CMockOS"), &stage);
    assert_eq!(status, abi::IMGF_E_INTERNAL);
    assert_eq!(told.errors, [(abi::IMGF_E_INTERNAL, 0, "no \"room\" for it".to_string())]);
    assert!(output.is_empty());
}

#[test]
fn parameters_that_cannot_be_are_the_requests_fault() {
    for wrong in [
        r#"{"mock_steps":0}"#,
        r#"{"mock_steps":1001}"#,
        r#"{"mock_steps":"3"}"#,
        r#"{"mock_steps":3.5}"#,
        r#"{"mock_duration_ms":-1}"#,
        r#"{"mock_duration_ms":99999999999999999999999}"#,
        r#"{"mock_fail":7}"#,
        r#"{"mock_size_bytes":511}"#,
        r#"{"mock_size_bytes":1099511627777}"#,
        r#"{"mock_fail_retryable_times":"1"}"#,
    ] {
        let stage = Stage::with_template(TEMPLATE).and_parameters(wrong);
        let (status, _, told) = build_base(&library("CMockOS"), &stage);
        assert_eq!(status, abi::IMGF_E_INVALID_ARGUMENT, "{wrong}");
        assert_eq!(told.errors.len(), 1, "{wrong}");
        assert_eq!(told.errors[0].1, abi::IMGF_ERR_USER_FAULT, "{wrong}");
    }
    let (status, _, told) =
        build_base(&library("CMockOS"), &Stage { template_xml: None, ..Stage::with_template("") });
    assert_eq!(
        (status, told.errors[0].1),
        (abi::IMGF_E_INVALID_ARGUMENT, abi::IMGF_ERR_USER_FAULT)
    );
}

#[test]
fn the_c_mock_stops_when_it_is_cancelled_before_in_or_by_abort() {
    // Ten minutes of work: only an ear for cancel ends this test.
    let long = Stage::with_template(TEMPLATE).and_parameters(r#"{"mock_duration_ms":600000}"#);
    let check = |what: &str, cancel: &dyn Fn(&RecordingHost, &abi_host::Instance)| {
        let folder = tempfile::tempdir().unwrap();
        let host = RecordingHost::new(folder.path());
        let instance = Plugin::load(&library("CMockOS")).create(&host);
        cancel(&host, &instance);
        let status = instance.call(instance.os().create_base_image, &long);
        assert_eq!(status, abi::IMGF_E_CANCELLED, "{what}");
        assert!(!host.output().exists(), "{what}");
        assert!(host.recorded().errors.is_empty(), "{what}");
    };
    check("before", &|host, _| host.cancel());
    check("while it works", &|host, _| host.cancel_at_progress(1));
    check("by abort, twice", &|_, instance| {
        instance.abort();
        instance.abort();
    });
}

#[test]
fn a_cancel_when_all_steps_are_done_still_leaves_no_image() {
    let folder = tempfile::tempdir().unwrap();
    let host = RecordingHost::new(folder.path());
    let instance = Plugin::load(&library("CMockOS")).create(&host);
    host.cancel_at_progress(5); // four steps, and then "done"
    let status = instance.call(instance.os().create_base_image, &Stage::with_template(TEMPLATE));
    assert_eq!(status, abi::IMGF_E_CANCELLED);
    assert!(!host.output().exists());
}

#[test]
fn the_c_mock_target_image_is_its_input_and_the_contents_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let host = RecordingHost::new(folder.path());
    std::fs::write(host.input(), "base image").unwrap();
    let instance = Plugin::load(&library("CMockOS")).create(&host);
    assert_eq!(instance.add_content(r#"{"packages":["one"]}"#), abi::IMGF_OK);
    assert_eq!(instance.add_content(r#"{"packages":["two"]}"#), abi::IMGF_OK);
    let status = instance.call(instance.os().create_target_image, &Stage::with_template(TEMPLATE));
    assert_eq!(status, abi::IMGF_OK, "{:?}", host.recorded().errors);
    let output = std::fs::read_to_string(host.output()).unwrap();
    assert_eq!(output, "base image{\"packages\":[\"one\"]}\n{\"packages\":[\"two\"]}\n");
    assert_eq!(std::fs::read_to_string(host.input()).unwrap(), "base image");
    assert_eq!(host.recorded().results["format"], "raw");
}

#[test]
fn an_output_that_exists_already_is_an_error_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let host = RecordingHost::new(folder.path());
    std::fs::write(host.output(), "somebody's").unwrap();
    let instance = Plugin::load(&library("CMockOS")).create(&host);
    let status = instance.call(instance.os().create_base_image, &Stage::with_template(TEMPLATE));
    assert_eq!(status, abi::IMGF_E_IO);
    assert!(host.recorded().errors[0].2.contains("output.raw"));
    assert_eq!(std::fs::read_to_string(host.output()).unwrap(), "somebody's");
}

#[test]
fn the_size_of_the_c_mock_image_is_a_parameter() {
    for bytes in [512, 4096, 1 << 21] {
        let wish = format!(r#"{{"mock_size_bytes":{bytes}}}"#);
        let stage = Stage::with_template(TEMPLATE).and_parameters(&wish);
        let (status, output, _) = build_base(&library("CMockOS"), &stage);
        assert_eq!((status, output.len()), (abi::IMGF_OK, bytes));
    }
}

#[test]
fn a_retryable_failure_is_over_after_so_many_attempts() {
    let wish = r#"{"mock_fail_retryable_times":2}"#;
    let mut stage = Stage::with_template(TEMPLATE).and_parameters(wish);
    for (attempt, expected) in
        [(1, abi::IMGF_E_UNAVAILABLE), (2, abi::IMGF_E_UNAVAILABLE), (3, abi::IMGF_OK)]
    {
        stage.attempt = attempt;
        let (status, _, told) = build_base(&library("CMockOS"), &stage);
        assert_eq!(status, expected, "attempt {attempt}");
        assert!(told.errors.iter().all(|error| error.1 == abi::IMGF_ERR_RETRYABLE));
    }
}

#[test]
fn the_c_mock_verifies_its_own_image_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let host = RecordingHost::new(folder.path());
    let instance = Plugin::load(&library("CMockOS")).create(&host);
    let stage = Stage::with_template(TEMPLATE);
    instance.call(instance.os().create_base_image, &stage);
    let table: &abi::imgf_os_verify_v1 = instance.interface(abi::IMGF_IFACE_OS_VERIFY_V1);
    std::fs::rename(host.output(), host.input()).unwrap();
    assert_eq!(instance.call(table.verify_image, &stage), abi::IMGF_OK);
    assert_eq!(host.recorded().results["verified"]["ok"], true);
    std::fs::write(host.input(), "mock").unwrap();
    assert_eq!(instance.call(table.verify_image, &stage), abi::IMGF_OK);
    assert_eq!(host.recorded().results["verified"]["ok"], false);
}

#[test]
fn the_inputs_of_the_c_mock_are_its_own_version() {
    let folder = tempfile::tempdir().unwrap();
    let host = RecordingHost::new(folder.path());
    let instance = Plugin::load(&library("CMockOS")).create(&host);
    let table: &abi::imgf_os_inputs_v1 = instance.interface(abi::IMGF_IFACE_OS_INPUTS_V1);
    assert_eq!(instance.call(table.resolve_inputs, &Stage::with_template(TEMPLATE)), abi::IMGF_OK);
    assert_eq!(host.recorded().results["input_digest"], "CMockOS 1.0.0");
}

#[test]
fn an_exception_in_cpp_becomes_a_panic_status_and_the_instance_refuses_further_work() {
    let folder = tempfile::tempdir().unwrap();
    let host = RecordingHost::new(folder.path());
    let instance = Plugin::load(&library("CxxMockOS")).create(&host);
    let build = instance.os().create_base_image;
    let stage = Stage::with_template(TEMPLATE).and_parameters(r#"{"mock_throw":true}"#);
    assert_eq!(instance.call(build, &stage), abi::IMGF_E_PANIC);
    let errors = host.recorded().errors;
    assert_eq!(errors[0].2, "thrown because mock_throw was given");
    let lawful = Stage::with_template(TEMPLATE);
    assert_eq!(instance.call(build, &lawful), abi::IMGF_E_INVALID_STATE);
}

#[test]
fn a_cpp_plugin_builds_an_image() {
    let (status, output, told) = build_base(&library("CxxMockOS"), &Stage::with_template(TEMPLATE));
    assert_eq!(status, abi::IMGF_OK, "{:?}", told.errors);
    assert!(output.len() >= 64 * 1024);
    assert_eq!(told.results["format"], "raw");
}
