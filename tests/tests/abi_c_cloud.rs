//! MockCloud once more, in plain C, called through the ABI by a recording host: its hooks, its
//! ledger, and the order in which journal and ledger are written. What both C plugins share is
//! `abi_c_plugins.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed, in its helping functions too"
)]

mod abi_build;
mod abi_host;

use std::path::Path;

use abi_build::{c_source_as_cpp, library};
use abi_host::{Entry, Plugin, RecordingHost, Stage};
use imagefactory_plugin_sdk::abi;
use serde_json::json;

const TEMPLATE: &str = "<template><name>one</name></template>";

fn entry(event: u32, token: &str, resource_id: &str) -> Entry {
    Entry { event, token: token.into(), resource_id: resource_id.into() }
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
    let command =
        json!({"name": "mock-cloud", "type": "raw", "command": "test -s /etc/mock-cloud"});
    let content = json!({"files": [file], "commands": [command]});
    assert_eq!(host.recorded().contents, [content]);
}

#[test]
fn the_c_mock_cloud_goes_the_usual_way_unless_it_is_told_to_do_all_itself() {
    let folder = tempfile::tempdir().unwrap();
    let host = RecordingHost::new(folder.path());
    let instance = Plugin::load(&library("CMockCloud")).create(&host);
    let stage = cloud_stage(folder.path());
    assert_eq!(instance.should(&stage), (abi::IMGF_OK, 1));
    assert!(!host.output().exists());
    let wish = |wish: &str| stage.clone().and_parameters(wish);
    assert_eq!(instance.should(&wish(r#"{"mock_should":"no"}"#)), (abi::IMGF_OK, 0));
    assert!(std::fs::read_to_string(host.output()).unwrap().contains("cmock"));
    assert_eq!(host.recorded().results["format"], "raw");
    let (status, yes) = instance.should(&wish(r#"{"mock_should":"perhaps"}"#));
    assert_eq!((status, yes), (abi::IMGF_E_INVALID_ARGUMENT, 1));
}

#[test]
fn the_did_hook_of_the_c_mock_cloud_writes_a_new_image_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let host = RecordingHost::new(folder.path());
    std::fs::write(host.input(), "target\n").unwrap();
    let instance = Plugin::load(&library("CMockCloud")).create(&host);
    let did = instance.cloud().builder_did_create_target_image;
    let stage = cloud_stage(folder.path());
    assert_eq!(instance.call(did, &stage), abi::IMGF_OK);
    assert!(!host.output().exists());
    let wish = stage.and_parameters(r#"{"mock_did":"done"}"#);
    assert_eq!(instance.call(did, &wish), abi::IMGF_OK);
    assert_eq!(std::fs::read_to_string(host.output()).unwrap(), "target\ndone\n");
    assert_eq!(std::fs::read_to_string(host.input()).unwrap(), "target\n");
}

#[test]
fn a_push_goes_on_where_the_checkpoint_of_an_earlier_attempt_says() {
    let folder = tempfile::tempdir().unwrap();
    let host = RecordingHost::new(folder.path()).with_checkpoint("steps_done", "3");
    let instance = Plugin::load(&library("CMockCloud")).create(&host);
    let stage = cloud_stage(folder.path()).and_parameters(r#"{"mock_steps":5}"#);
    assert_eq!(instance.call(instance.cloud().push_image_to_provider, &stage), abi::IMGF_OK);
    let steps: Vec<u64> = host.recorded().progress.iter().map(|(_, done, _)| *done).collect();
    assert_eq!(steps, [3, 4, 5]);
    assert_eq!(host.checkpoint("steps_done").unwrap(), "5");
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
        assert_eq!(ledger(folder.path()), format!("create {token} {identifier}\n"));
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
    let removed = created.replace("create", "remove");
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
    assert_eq!(lines.matches("remove").count(), 1, "{lines}");
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
    assert_eq!(told.results["provider_account_identifier"], "mock-account-6");
    assert!(!format!("{told:?}{}", ledger(folder.path())).contains("s3cret"));

    let host = RecordingHost::new(folder.path());
    let instance = Plugin::load(&library("CMockCloud")).create(&host);
    assert_eq!(instance.call(instance.cloud().push_image_to_provider, &stage), abi::IMGF_E_AUTH);
}
