//! EC2Cloud as the runner meets it: through its tables, on a fake host, without any network. What
//! needs a provider is in `tests/tests/cloud_ec2`.

use std::path::Path;

use imagefactory_plugin_sdk::abi::*;
use imagefactory_plugin_sdk::payload::target_content::TargetContent;

use crate::Ec2Cloud;
use crate::fake_host::{FakeHost, PluginInstance, StageTexts, check_manifest};

fn ec2_cloud() -> &'static imgf_plugin {
    imagefactory_plugin_sdk::cloud_plugin!(Ec2Cloud)
}

fn stage(parameters: &str) -> StageTexts {
    StageTexts {
        target: Some("ec2".to_owned()),
        provider: Some("ec2-us-east-1".to_owned()),
        parameters_json: Some(parameters.to_owned()),
        ..StageTexts::new()
    }
}

fn will(parameters: &str) -> Vec<String> {
    let host = FakeHost::new();
    let instance = PluginInstance::create(ec2_cloud(), &host).unwrap();
    let cloud: &imgf_cloud_v1 = instance.table(IMGF_IFACE_CLOUD_V1).unwrap();
    let status = instance.run(cloud.builder_will_create_target_image, &stage(parameters));
    assert_eq!(status, IMGF_OK);
    host.record().contents.clone()
}

#[test]
fn it_is_the_plugin_that_its_manifest_describes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-manifests/EC2Cloud.json");
    check_manifest(ec2_cloud(), &std::fs::read_to_string(path).unwrap());
}

#[test]
fn the_target_image_gets_cloud_init_and_both_generations_drivers() {
    let contents = will("{}");
    let content = TargetContent::from_json(&contents[0]).unwrap();
    assert_eq!(content.packages[0].name, "cloud-init");
    for driver in ["nvme", "ena", "xen-blkfront"] {
        assert!(content.commands[0].command.contains(driver), "{driver}");
    }
    assert!(content.files.iter().any(|file| file.file.contains("Ec2")));
}

#[test]
fn the_originals_two_words_leave_the_target_image_alone() {
    for parameters in [
        r#"{"ec2_modify":false}"#,
        r#"{"ec2_modify":"False"}"#,
        r#"{"skip_ec2_modifications":true}"#,
        r#"{"skip_ec2_modifications":"true"}"#,
    ] {
        assert!(will(parameters).is_empty(), "{parameters}");
    }
}

/// Demands that a push is refused before anything is announced.
fn check_refused(credentials: Option<&str>, parameters: &str, (code, sentence): (i32, &str)) {
    let host = FakeHost::new();
    let mut stage = stage(parameters);
    stage.credential_name = credentials.map(|_| "credentials".to_owned());
    if let Some(text) = credentials {
        host.record().secrets.insert("credentials".to_owned(), text.to_owned());
    }
    let instance = PluginInstance::create(ec2_cloud(), &host).unwrap();
    let cloud: &imgf_cloud_v1 = instance.table(IMGF_IFACE_CLOUD_V1).unwrap();
    assert_eq!(instance.run(cloud.push_image_to_provider, &stage), code, "{parameters}");
    let error = host.the_error();
    let said = format!("{} {}", error.message, error.hint.unwrap_or_default());
    assert!(said.contains(sentence), "{said}");
    assert!(host.record().journal.is_empty());
}

#[test]
fn a_push_without_usable_keys_or_with_impossible_wishes_is_refused_before_anything_is_made() {
    const ROLE: &str = r#"{"source":"instance-role"}"#;
    check_refused(None, "{}", (IMGF_E_AUTH, "no credentials"));
    check_refused(Some("nonsense"), "{}", (IMGF_E_AUTH, "neither XML nor JSON"));
    check_refused(Some(ROLE), "{}", (IMGF_E_PERMISSION, "credential_sources"));
    let paravirtual = r#"{"ec2_virt_type":"paravirtual"}"#;
    check_refused(Some(ROLE), paravirtual, (IMGF_E_INVALID_ARGUMENT, "hvm"));
}
