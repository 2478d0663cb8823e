//! MockCloud as the runner meets it: through its tables, on a fake host.

use std::path::Path;

use imagefactory_plugin_sdk::abi::*;
use imagefactory_plugin_sdk::payload::target_content::TargetContent;

use crate::MockCloud;
use crate::fake_host::check_manifest;
use crate::fake_host::driver::StageOperation;
use crate::fake_host::{FakeHost, PluginInstance, StageTexts};

const STAGE: &str = "11111111-2222-4333-8444-555555555555";

fn mock_cloud() -> &'static imgf_plugin {
    imagefactory_plugin_sdk::cloud_plugin!(MockCloud)
}

/// A stage at a provider whose ledger lies in the folder.
fn stage_at(folder: &Path) -> StageTexts {
    StageTexts {
        target: Some("mock".to_owned()),
        provider: Some(format!(r#"{{"ledger":"{}"}}"#, folder.display())),
        ..StageTexts::new()
    }
}

fn ledger(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("ledger")).unwrap_or_default()
}

fn run(
    host: &FakeHost,
    which: fn(&imgf_cloud_v1) -> Option<StageOperation>,
    stage: &StageTexts,
) -> i32 {
    let instance = PluginInstance::create(mock_cloud(), host).unwrap();
    instance.run(which(instance.table(IMGF_IFACE_CLOUD_V1).unwrap()), stage)
}

fn push(host: &FakeHost, stage: &StageTexts) -> i32 {
    run(host, |cloud| cloud.push_image_to_provider, stage)
}

fn delete(host: &FakeHost, folder: &Path, identifier: &str) -> i32 {
    let images_json = format!(r#"{{"self":{{"identifier_on_provider":"{identifier}"}}}}"#);
    let stage = StageTexts { images_json: Some(images_json), ..stage_at(folder) };
    run(host, |cloud| cloud.delete_from_provider, &stage)
}

#[test]
fn it_is_the_plugin_that_its_manifest_describes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-manifests/MockCloud.json");
    check_manifest(mock_cloud(), &std::fs::read_to_string(path).unwrap());
}

#[test]
fn a_push_announces_creates_and_confirms() {
    let folder = tempfile::tempdir().unwrap();
    let host = FakeHost::new();
    assert_eq!(push(&host, &stage_at(folder.path())), IMGF_OK);
    assert_eq!(ledger(folder.path()), format!("create {STAGE} mock-{STAGE}\n"));
    let record = host.record();
    let events: Vec<_> =
        record.journal.iter().map(|e| (e.event, e.token.as_str(), e.resource_id.clone())).collect();
    let identifier = format!("mock-{STAGE}");
    assert_eq!(
        events,
        [
            (IMGF_JOURNAL_WILL_CREATE, STAGE, None),
            (IMGF_JOURNAL_CREATED, STAGE, Some(identifier.clone()))
        ]
    );
    assert_eq!(record.results["identifier_on_provider"], format!("\"{identifier}\""));
    assert_eq!(record.results["provider_account_identifier"], "\"mock-account\"");
    assert_eq!(record.checkpoints["steps_done"], "4");
}

#[test]
fn a_second_attempt_takes_over_and_goes_on_from_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let host = FakeHost::new();
    let wish = Some(r#"{"mock_steps":3,"mock_fail_retryable_times":1}"#.to_owned());
    let first = StageTexts { parameters_json: wish, ..stage_at(folder.path()) };
    assert_eq!(push(&host, &first), IMGF_E_UNAVAILABLE);
    assert_eq!(ledger(folder.path()).lines().count(), 1);
    host.record().checkpoints.insert("steps_done".to_owned(), "2".to_owned());
    host.record().progress.clear();

    assert_eq!(push(&host, &StageTexts { attempt: 2, ..first }), IMGF_OK);
    assert_eq!(ledger(folder.path()).lines().count(), 1, "no second image");
    let steps: Vec<u64> = host.record().progress.iter().map(|(_, done, _)| *done).collect();
    assert_eq!(steps, [2, 3]);
    assert!(host.result("identifier_on_provider").is_some());
}

#[test]
fn a_snapshot_is_an_image_of_its_own_name() {
    let folder = tempfile::tempdir().unwrap();
    let host = FakeHost::new();
    let status = run(&host, |cloud| cloud.snapshot_image_on_provider, &stage_at(folder.path()));
    assert_eq!(status, IMGF_OK);
    assert_eq!(ledger(folder.path()), format!("create {STAGE} mock-snapshot-{STAGE}\n"));
}

#[test]
fn deleting_twice_removes_once() {
    let folder = tempfile::tempdir().unwrap();
    let host = FakeHost::new();
    assert_eq!(push(&host, &stage_at(folder.path())), IMGF_OK);
    let identifier = format!("mock-{STAGE}");
    assert_eq!(delete(&host, folder.path(), &identifier), IMGF_OK);
    assert_eq!(delete(&host, folder.path(), &identifier), IMGF_OK);
    assert_eq!(delete(&host, folder.path(), "mock-somebody-elses"), IMGF_OK);
    let line = format!("{STAGE} {identifier}\n");
    assert_eq!(ledger(folder.path()), format!("create {line}remove {line}"));
    // After that the same token may be made again.
    assert_eq!(push(&host, &stage_at(folder.path())), IMGF_OK);
    assert_eq!(ledger(folder.path()).lines().count(), 3);
}

#[test]
fn cleanup_removes_by_token_and_records_it() {
    let folder = tempfile::tempdir().unwrap();
    let host = FakeHost::new();
    assert_eq!(push(&host, &stage_at(folder.path())), IMGF_OK);
    host.record().journal.clear();
    // As after a crash right behind the announcement: the identifier never reached the journal.
    let journal = format!(
        r#"[{{"event":"will_create","scratch":false,"token":"{STAGE}","kind":"mock-image",
             "resource_id":null,"details":null}},
            {{"event":"will_create","scratch":false,"token":"never-made","kind":"mock-image",
             "resource_id":null,"details":null}}]"#
    );
    let instance = PluginInstance::create(mock_cloud(), &host).unwrap();
    for _twice in 0..2 {
        assert_eq!(instance.cleanup(&stage_at(folder.path()), &journal), IMGF_OK);
    }
    assert_eq!(ledger(folder.path()).lines().filter(|line| line.starts_with("remove")).count(), 1);
    let tokens: Vec<_> = host.record().journal.iter().map(|e| (e.event, e.token.clone())).collect();
    let removed = |token: &str| (IMGF_JOURNAL_REMOVED, token.to_owned());
    let both = [removed(STAGE), removed("never-made")];
    assert_eq!(tokens, [both.clone(), both].concat());
}

#[test]
fn a_provider_that_is_no_json_keeps_nothing() {
    let host = FakeHost::new();
    let stage = StageTexts { provider: Some("mock-provider".to_owned()), ..StageTexts::new() };
    assert_eq!(push(&host, &stage), IMGF_OK);
    let identifier = format!("\"mock-{STAGE}\"");
    assert_eq!(host.result("identifier_on_provider"), Some(identifier));

    let relative = Some(r#"{"ledger":"here"}"#.to_owned());
    let stage = StageTexts { provider: relative, ..StageTexts::new() };
    assert_eq!(push(&host, &stage), IMGF_E_INVALID_ARGUMENT);
}

#[test]
fn the_account_follows_from_the_credentials_without_giving_them_away() {
    let host = FakeHost::new();
    host.record().secrets.insert("default".to_owned(), "hunter2".to_owned());
    let credential_name = Some("default".to_owned());
    let stage = StageTexts { credential_name, ..StageTexts::new() };
    assert_eq!(push(&host, &stage), IMGF_OK);
    let account = host.result("provider_account_identifier").unwrap();
    assert_eq!(account, "\"mock-account-7\"");
    assert_eq!(host.record().secrets_released, 1);
}

#[test]
fn the_will_hook_gives_target_content_and_the_did_hook_appends_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let host = FakeHost::new();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    host.record().paths.insert(IMGF_PATH_INPUT_IMAGE, path("image.raw"));
    host.record().paths.insert(IMGF_PATH_OUTPUT_IMAGE, path("output.raw"));
    std::fs::write(path("image.raw"), "image\n").unwrap();

    let stage = stage_at(folder.path());
    assert_eq!(run(&host, |cloud| cloud.builder_will_create_target_image, &stage), IMGF_OK);
    let content = TargetContent::from_json(&host.record().contents[0]).unwrap();
    assert_eq!(content.files[0].file, "mock");
    assert_eq!(content.commands.len(), 1);

    assert_eq!(run(&host, |cloud| cloud.builder_did_create_target_image, &stage), IMGF_OK);
    assert!(!Path::new(&path("output.raw")).exists(), "nothing written = unchanged");
    let wish = Some(r#"{"mock_did":"and more"}"#.to_owned());
    let stage = StageTexts { parameters_json: wish, ..stage };
    assert_eq!(run(&host, |cloud| cloud.builder_did_create_target_image, &stage), IMGF_OK);
    assert_eq!(std::fs::read_to_string(path("output.raw")).unwrap(), "image\nand more\n");
    assert_eq!(host.result("format").as_deref(), Some("\"raw\""));
}

#[test]
fn the_should_hook_may_make_the_whole_image() {
    let folder = tempfile::tempdir().unwrap();
    let host = FakeHost::new();
    let output = folder.path().join("output.raw");
    host.record().paths.insert(IMGF_PATH_OUTPUT_IMAGE, output.to_str().unwrap().to_owned());
    let instance = PluginInstance::create(mock_cloud(), &host).unwrap();
    assert_eq!(instance.should_create(&stage_at(folder.path())), (IMGF_OK, 1));
    assert!(!output.exists());
    let wish = Some(r#"{"mock_should":"no"}"#.to_owned());
    let stage = StageTexts { parameters_json: wish, ..stage_at(folder.path()) };
    assert_eq!(instance.should_create(&stage), (IMGF_OK, 0));
    assert!(std::fs::read_to_string(&output).unwrap().starts_with("mock image for mock"));
    assert_eq!(host.result("format").as_deref(), Some("\"raw\""));
}
