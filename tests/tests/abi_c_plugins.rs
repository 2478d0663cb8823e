//! MockOS and MockCloud once more, in plain C, called through the ABI by a recording host.
//!
//! They show that the headers alone are enough to write a plugin, without JSON or XML library, and
//! that C and C++ compile to the same behaviour. How the real host runs them is
//! `abi_old_plugins.rs` and the journeys.

mod abi_build;
mod abi_host;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use abi_build::{c_source_as_cpp, exported_symbols, fixtures, library};
use abi_host::{Entry, Plugin, RecordingHost, Stage};
use imagefactory_plugin_sdk::abi;
use serde_json::{Value, json};

const TEMPLATE: &str = "<template><name>one</name></template>";

/// Runs create_base_image; status, bytes of the output (empty = none), and what was told.
fn build_base(library: &Path, stage: &Stage) -> (i32, Vec<u8>, abi_host::Recorded) {
    let folder = tempfile::tempdir().unwrap();
    let host = RecordingHost::new(folder.path());
    let instance = Plugin::load(library).create(&host);
    let status = instance.call(instance.os().create_base_image, stage);
    (status, std::fs::read(host.output()).unwrap_or_default(), host.recorded())
}

fn entry(event: u32, token: &str, resource_id: &str) -> Entry {
    Entry { event, token: token.into(), resource_id: resource_id.into() }
}

#[test]
fn c_plugins_export_the_entry_symbol_and_nothing_else() {
    for id in ["CMockOS", "CMockCloud", "CxxMockOS"] {
        assert_eq!(exported_symbols(&library(id)), [abi::IMGF_ENTRY_SYMBOL], "{id}");
    }
}

#[test]
fn descriptors_and_tables_are_what_the_manifests_say() {
    for id in ["CMockOS", "CMockCloud", "CxxMockOS"] {
        let text = std::fs::read_to_string(fixtures().join(format!("{id}.json"))).unwrap();
        let manifest: Value = serde_json::from_str(&text).unwrap();
        let plugin = Plugin::load(&library(id));
        assert_eq!(plugin.id(), manifest["id"]);
        assert_eq!(plugin.version(), manifest["version"]);
        let kind = if manifest["type"] == "os" { abi::IMGF_KIND_OS } else { abi::IMGF_KIND_CLOUD };
        assert_eq!(plugin.kind(), kind);
        assert_eq!(manifest["capabilities"], json!(operations(&plugin)), "{id}");
    }
}

/// Non-NULL operations of a plugin's tables, in the order of the header.
fn operations(plugin: &Plugin) -> Vec<&'static str> {
    let mut found = Vec::new();
    let mut slot = |name, there| found.extend(if there { Some(name) } else { None });
    if let Some(os) = plugin.interface::<abi::imgf_os_v1>(abi::IMGF_IFACE_OS_V1) {
        slot("create_base_image", os.create_base_image.is_some());
        slot("create_target_image", os.create_target_image.is_some());
    }
    if let Some(cloud) = plugin.interface::<abi::imgf_cloud_v1>(abi::IMGF_IFACE_CLOUD_V1) {
        let will = cloud.builder_will_create_target_image.is_some();
        slot(
            "builder_should_create_target_image",
            cloud.builder_should_create_target_image.is_some(),
        );
        slot("builder_will_create_target_image", will);
        slot("builder_did_create_target_image", cloud.builder_did_create_target_image.is_some());
        slot("push_image_to_provider", cloud.push_image_to_provider.is_some());
        slot("snapshot_image_on_provider", cloud.snapshot_image_on_provider.is_some());
        slot("delete_from_provider", cloud.delete_from_provider.is_some());
    }
    if let Some(table) = plugin.interface::<abi::imgf_cleanup_v1>(abi::IMGF_IFACE_CLEANUP_V1) {
        slot("cleanup", table.cleanup.is_some());
    }
    found
}

#[test]
fn interface_ids_are_compared_in_full_and_without_a_nul() {
    let plugin = Plugin::load(&library("CMockOS"));
    let there = |id: &str| plugin.interface::<abi::imgf_os_v1>(id).is_some();
    assert!(there("imagefactory.os/1"));
    for id in
        ["", "imagefactory.os/", "imagefactory.os/10", "imagefactory.os/2", "imagefactory.cloud/1"]
    {
        assert!(!there(id), "{id:?}");
    }
    assert!(there(&"imagefactory.os/1/and more"[..17]), "the id ends with its length");
}

#[test]
fn negotiation_takes_1_0_from_any_range_around_it_and_refuses_others_with_a_sentence() {
    for id in ["CMockOS", "CMockCloud", "CxxMockOS"] {
        let plugin = Plugin::load(&library(id));
        let wide = plugin.negotiate(abi::IMGF_ABI(0, 9), abi::IMGF_ABI(3, 7));
        assert_eq!((wide.status, wide.chosen_abi), (abi::IMGF_OK, abi::IMGF_ABI_1_0));
        for (min, max) in [((1, 1), (2, 0)), ((0, 1), (0, 9))] {
            let answer = plugin.negotiate(abi::IMGF_ABI(min.0, min.1), abi::IMGF_ABI(max.0, max.1));
            assert_eq!(answer.status, abi::IMGF_E_ABI);
            assert!(answer.refusal.contains(id) && answer.refusal.contains("1.0"));
            assert!(answer.plugin.is_null());
        }
    }
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
    let used = json!({"mock_duration_ms": 0, "mock_steps": 3});
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

/// A CMockCloud stage whose provider is the ledger in `folder`.
fn cloud_stage(folder: &Path) -> Stage {
    let provider = json!({"name": "mock", "ledger": folder.join("ledger")}).to_string();
    Stage {
        target: Some("cmock".into()),
        provider: Some(provider),
        ..Stage::with_template(TEMPLATE)
    }
}

fn ledger(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("ledger")).unwrap_or_default()
}

#[test]
fn the_c_mock_cloud_asks_for_a_file_that_names_the_target() {
    let folder = tempfile::tempdir().unwrap();
    let host = RecordingHost::new(folder.path());
    let instance = Plugin::load(&library("CMockCloud")).create(&host);
    let will = instance.cloud().builder_will_create_target_image;
    assert_eq!(instance.call(will, &cloud_stage(folder.path())), abi::IMGF_OK);
    let file = json!({"name": "/etc/mock-cloud", "type": "raw", "file": "cmock"});
    assert_eq!(host.recorded().contents, [json!({"files": [file]})]);
}

#[test]
fn a_push_announces_creates_confirms_and_a_second_attempt_takes_over() {
    for library in [library("CMockCloud"), c_source_as_cpp("mock_cloud.c")] {
        let folder = tempfile::tempdir().unwrap();
        let stage = cloud_stage(folder.path());
        let token = stage.stage_id.clone();
        let identifier = format!("mock-{token}");
        for attempt in 1..=2 {
            let host = RecordingHost::new(folder.path());
            let instance = Plugin::load(&library).create(&host);
            let push = instance.cloud().push_image_to_provider;
            assert_eq!(instance.call(push, &stage), abi::IMGF_OK, "attempt {attempt}");
            let told = host.recorded();
            assert_eq!(
                told.journal,
                [
                    entry(abi::IMGF_JOURNAL_WILL_CREATE, &token, ""),
                    entry(abi::IMGF_JOURNAL_CREATED, &token, &identifier),
                ]
            );
            assert_eq!(told.results["identifier_on_provider"], json!(identifier));
        }
        assert_eq!(ledger(folder.path()), format!("created {token} {identifier}\n"));
    }
}

#[test]
fn nothing_is_created_when_the_journal_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let host = RecordingHost::new(folder.path());
    host.refuse_journal();
    let instance = Plugin::load(&library("CMockCloud")).create(&host);
    let push = instance.cloud().push_image_to_provider;
    assert_eq!(instance.call(push, &cloud_stage(folder.path())), abi::IMGF_E_IO);
    assert_eq!(ledger(folder.path()), "");
    assert!(host.recorded().errors[0].2.contains("refused by the test"));
}

#[test]
fn a_snapshot_is_a_provider_image_of_its_own_kind() {
    let folder = tempfile::tempdir().unwrap();
    let host = RecordingHost::new(folder.path());
    let instance = Plugin::load(&library("CMockCloud")).create(&host);
    let snapshot = instance.cloud().snapshot_image_on_provider;
    assert_eq!(instance.call(snapshot, &cloud_stage(folder.path())), abi::IMGF_OK);
    assert!(ledger(folder.path()).contains(" mock-snapshot-"));
}

#[test]
fn a_delete_removes_once_and_is_content_with_what_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let host = RecordingHost::new(folder.path());
    let instance = Plugin::load(&library("CMockCloud")).create(&host);
    let mut stage = cloud_stage(folder.path());
    assert_eq!(instance.call(instance.cloud().push_image_to_provider, &stage), abi::IMGF_OK);
    let created = ledger(folder.path());
    let identifier = created.split_whitespace().last().unwrap().to_string();
    stage.images = json!({"self": {"identifier_on_provider": identifier}}).to_string();
    for _ in 0..2 {
        assert_eq!(instance.call(instance.cloud().delete_from_provider, &stage), abi::IMGF_OK);
    }
    let removed = created.replace("created", "removed");
    assert_eq!(ledger(folder.path()), format!("{created}{removed}"));
}

#[test]
fn cleanup_removes_what_the_journal_lists_and_is_idempotent() {
    let folder = tempfile::tempdir().unwrap();
    let host = RecordingHost::new(folder.path());
    let instance = Plugin::load(&library("CMockCloud")).create(&host);
    let stage = cloud_stage(folder.path());
    let token = stage.stage_id.clone();
    assert_eq!(instance.call(instance.cloud().push_image_to_provider, &stage), abi::IMGF_OK);
    let journal = json!([
        {"event": "will_create", "scratch": false, "token": "never made", "kind": "mock-image",
         "resource_id": null, "details": {"a": ["]", "}"]}},
        {"event": "created", "scratch": false, "token": token, "kind": "mock-image",
         "resource_id": format!("mock-{token}"), "details": null},
    ]);
    for _ in 0..2 {
        assert_eq!(instance.cleanup(&stage, &journal.to_string()), abi::IMGF_OK);
    }
    let lines = ledger(folder.path());
    assert_eq!(lines.matches("removed").count(), 1, "{lines}");
    let removed = &host.recorded().journal[2..];
    let both = [
        entry(abi::IMGF_JOURNAL_REMOVED, "never made", ""),
        entry(abi::IMGF_JOURNAL_REMOVED, &token, ""),
    ];
    assert_eq!(removed, [both.clone(), both].concat());
}

#[test]
fn credentials_are_asked_for_by_name_and_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = cloud_stage(folder.path());
    stage.credential_name = Some("credentials".into());
    let host = RecordingHost::new(folder.path()).with_secret("credentials", "s3cret");
    let instance = Plugin::load(&library("CMockCloud")).create(&host);
    assert_eq!(instance.call(instance.cloud().push_image_to_provider, &stage), abi::IMGF_OK);
    let told = host.recorded();
    assert!(told.secrets_held.is_empty());
    assert!(!format!("{told:?}{}", ledger(folder.path())).contains("s3cret"));

    let host = RecordingHost::new(folder.path());
    let instance = Plugin::load(&library("CMockCloud")).create(&host);
    assert_eq!(instance.call(instance.cloud().push_image_to_provider, &stage), abi::IMGF_E_AUTH);
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
