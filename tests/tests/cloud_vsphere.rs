//! VSphereCloud over REST, against VMware's own simulator of a vCenter (govmomi's vcsim): real
//! SOAP, real leases, real uploads. Its machines never start.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

#[path = "cloud_vsphere_rig/mod.rs"]
mod rig;

use std::path::Path;
use std::process::Command;

use imagefactory_tests::daemon::{Daemon, Setup};
use imagefactory_tests::factory::TDL_MOCK;
use rig::{PASSWORD, Vcenter};
use serde_json::{Value, json};

const PROVIDER: &str = "/imagefactory/provider_images";

fn factory() -> Daemon {
    // A host that is not there is given up soon, not after minutes.
    let soon = json!({"VSphereCloud": {"http": {"retry_for_s": 2, "connect_timeout_s": 5}}});
    Setup::default().plugin("VSphereCloud", "vsphere_cloud").with("plugin_settings", soon).start()
}

fn order(vcenter: &Vcenter, parameters: Value) -> Value {
    json!({"provider_image": {
        "target": "vsphere", "provider": vcenter.provider(),
        "credentials": Vcenter::credentials(), "template": TDL_MOCK, "parameters": parameters,
    }})
}

async fn pushed(daemon: &Daemon, order: &Value) -> Value {
    let image = daemon.order(PROVIDER, order).await;
    daemon.finished(image["id"].as_str().unwrap()).await
}

fn error_of(image: &Value) -> String {
    assert_eq!(image["status"], "FAILED", "{image}");
    image["status_detail"]["error"].as_str().unwrap_or_default().to_owned()
}

/// Everything that the factory wrote, its log included.
fn check_no_secret(daemon: &Daemon) {
    assert!(!daemon.log().contains(PASSWORD), "the password is in the daemon's log");
    let found = Command::new("grep")
        .args(["-rlaF", PASSWORD, "--exclude-dir=plugins.d"])
        .arg(daemon.folder.path())
        .output()
        .unwrap();
    assert!(
        found.stdout.is_empty(),
        "the password is in {}",
        String::from_utf8_lossy(&found.stdout)
    );
}

fn check_same_disk(one: &Path, other: &Path) {
    let compared = Command::new("qemu-img").arg("compare").args([one, other]).output().unwrap();
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_becomes_a_machine_whose_disk_is_the_image_and_delete_removes_it() {
    let (vcenter, daemon) = (Vcenter::start(), factory());
    let image = pushed(&daemon, &order(&vcenter, json!({"mock_size_bytes": 8 << 20}))).await;
    assert_eq!(image["status"], "COMPLETE", "{image}");
    let id = image["id"].as_str().unwrap();
    let name = format!("factory-image-{id}");
    assert_eq!(image["identifier_on_provider"], name.as_str());
    assert_eq!(image["provider_account_identifier"], rig::USER);
    assert_eq!(vcenter.imported(), [(name, false)]);

    let target = image["target_image_id"].as_str().or(image["target_image"]["id"].as_str());
    let target = daemon.image(target.unwrap()).await.unwrap();
    let base = target["base_image_id"].as_str().or(target["base_image"]["id"].as_str()).unwrap();
    let body = |id: &str| daemon.storage().join(format!("{id}.body"));
    let target_body = body(target["id"].as_str().unwrap());
    let uploaded = vcenter.uploaded().expect("a disk was uploaded");
    assert!(std::fs::read(&uploaded).unwrap() == std::fs::read(&target_body).unwrap());
    check_same_disk(&body(base), &uploaded);
    check_no_secret(&daemon);

    let delete = json!({"credentials": Vcenter::credentials()});
    let path = format!("{PROVIDER}/{id}");
    let answer = daemon.request(reqwest::Method::DELETE, &path).json(&delete).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 204);
    daemon.gone(id).await;
    assert_eq!(vcenter.imported(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_with_a_name_of_its_own_is_made_where_it_is_asked_for() {
    let (vcenter, daemon) = (Vcenter::start(), factory());
    let parameters =
        json!({"ovf_name": "golden/12", "vsphere_template": true, "ovf_cpu_count": "2"});
    let image = pushed(&daemon, &order(&vcenter, parameters)).await;
    assert_eq!(image["status"], "COMPLETE", "{image}");
    assert_eq!(image["identifier_on_provider"], "golden/12");
    let imported = vcenter.imported();
    assert!(matches!(imported.as_slice(), [(_, true)]), "{imported:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_and_nothing_is_left() {
    let (vcenter, daemon) = (Vcenter::start(), factory());
    let with = |key: &str, value: Value| {
        let mut order = order(&vcenter, json!({}));
        order["provider_image"]["provider"][key] = value;
        order
    };
    let mut wrong_password = order(&vcenter, json!({}));
    wrong_password["provider_image"]["credentials"] =
        json!(Vcenter::credentials().replace(PASSWORD, "canary-wrong"));
    let cases = [
        (wrong_password, "InvalidLogin"),
        (with("datastore", json!("nowhere")), "LocalDS_0"),
        (with("compute_resource", json!("nowhere")), "DC0_C0"),
        (with("network_name", json!("nowhere")), "VM Network"),
        (with("ca_certificate", Value::Null), "certificate"),
        (with("api-url", json!("https://no-such-host.invalid/sdk")), "no-such-host.invalid"),
        (with("api-url", json!("https://127.0.0.1:1/sdk")), "127.0.0.1:1"),
    ];
    for (order, says) in cases {
        let error = error_of(&pushed(&daemon, &order).await);
        assert!(error.contains(says), "{says:?} is not in {error}");
        assert!(!error.contains("canary"), "{error}");
        assert_eq!(vcenter.imported(), [], "{says}");
    }
    check_no_secret(&daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_leaves_no_machine() {
    let (vcenter, daemon) = (Vcenter::start(), factory());
    vcenter.break_uploads(true);
    let image = daemon.order(PROVIDER, &order(&vcenter, json!({}))).await;
    let image = daemon.finished(image["id"].as_str().unwrap()).await;
    let error = error_of(&image);
    assert!(error.contains("127.0.0.1"), "{error}");
    assert_eq!(vcenter.imported(), []);
    check_no_secret(&daemon);
}
