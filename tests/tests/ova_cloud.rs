//! OVACloud in the real daemon, over REST: packages of base images and of target images, before
//! readers of other makes.
//!
//! `cot` reads every OVA. virt-v2v and Vagrant are large; they judge when `IMAGEFACTORY_TEST_LONG`
//! is set, which also installs them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

mod validator_rig;

use std::path::Path;
use std::process::Command;

use imagefactory_tests::binaries;
use imagefactory_tests::daemon::{Daemon, Setup};
use serde_json::{Value, json};
use validator_rig::{PluginFolder, broken_rules, imagefactory_plugin};

/// Of the mock base image.
const DISK_BYTES: u64 = 8 << 20;

fn daemon() -> Daemon {
    Setup::default().plugin("OVACloud", "ova_cloud").start()
}

/// Runs a judge in a folder; its failure is the test's.
fn judge(folder: &Path, command: &[&str]) -> String {
    let output = Command::new(command[0])
        .args(&command[1..])
        .current_dir(folder)
        .env("HOME", folder)
        .env("LC_ALL", "C.UTF-8")
        .env("VAGRANT_HOME", folder.join("vagrant"))
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", command[0]));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}{complaint}");
    said
}

/// A complete base image.
async fn base_image(daemon: &Daemon) -> String {
    let base = daemon.post_base_image(json!({"mock_size_bytes": DISK_BYTES})).await;
    let id = base["id"].as_str().unwrap().to_owned();
    assert_eq!(daemon.finished(&id).await["status"], "COMPLETE");
    id
}

/// A target image of an image, final.
async fn target_image(daemon: &Daemon, of: &str, parameters: Value) -> Value {
    let order = json!({"target_image": {
        "target": "ova", "base_image_id": of, "parameters": parameters,
    }});
    let image = daemon.order("/imagefactory/target_images", &order).await;
    daemon.finished(image["id"].as_str().unwrap()).await
}

/// Its file, downloaded.
async fn download(daemon: &Daemon, image: &Value, to: &Path) {
    assert_eq!(image["status"], "COMPLETE", "{image}");
    let id = image["id"].as_str().unwrap();
    let response = daemon.get(&format!("/imagefactory/target_images/{id}/raw_image")).await;
    std::fs::write(to, response.bytes().await.unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ova_of_a_base_image_is_read_by_others_and_holds_the_same_disk() {
    let daemon = daemon();
    let base = base_image(&daemon).await;
    let parameters = json!({"ovf_name": "web", "ovf_cpu_count": 3, "ovf_memory_mb": "768",
        "vsphere_product_name": "Web", "vsphere_network_name": "DMZ"});
    let image = target_image(&daemon, &base, parameters).await;
    let folder = tempfile::tempdir().unwrap();
    download(&daemon, &image, &folder.path().join("web.ova")).await;
    let response = daemon.get(&format!("/imagefactory/base_images/{base}/raw_image")).await;
    std::fs::write(folder.path().join("disk.raw"), response.bytes().await.unwrap()).unwrap();

    let cot = judge(
        folder.path(),
        &[binaries::workspace().join("tests/judges/make-cot").to_str().unwrap()],
    );
    let cot = format!("{}/bin/cot", cot.trim());
    let told = judge(folder.path(), &[&cot, "info", "--verbose", "web.ova"]);
    for part in ["web-disk1.vmdk", "768 MiB", "DMZ", "harddisk @ SCSI 0:0", "Web"] {
        assert!(told.contains(part), "{part} is missing in\n{told}");
    }
    judge(folder.path(), &["tar", "-xf", "web.ova"]);
    judge(
        folder.path(),
        &[
            "sh",
            "-c",
            "sed -nE 's/SHA256\\((.*)\\)= (.*)/\\2  \\1/p' web.mf | sha256sum --check --strict",
        ],
    );
    judge(
        folder.path(),
        &["qemu-img", "compare", "-f", "raw", "-F", "vmdk", "disk.raw", "web-disk1.vmdk"],
    );
    if std::env::var_os("IMAGEFACTORY_TEST_LONG").is_some() {
        install_judges();
        let source = judge(folder.path(), &["virt-v2v", "-i", "ova", "web.ova", "--print-source"]);
        for part in ["source name: web", "nr vCPUs: 3", "DMZ"] {
            assert!(source.contains(part), "{part} is missing in\n{source}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_image_is_packed_again_and_its_family_chooses_the_package() {
    let daemon = daemon();
    let base = base_image(&daemon).await;
    // The mock cloud's image, as any cloud's whose target is none of the three.
    let order = json!({"target_image": {"target": "mock", "base_image_id": base}});
    let mock = daemon.order("/imagefactory/target_images", &order).await;
    let mock = mock["id"].as_str().unwrap().to_owned();
    assert_eq!(daemon.finished(&mock).await["status"], "COMPLETE");
    let image = target_image(&daemon, &mock, json!({"rhevm_ova_format": "rhevm"})).await;
    let folder = tempfile::tempdir().unwrap();
    download(&daemon, &image, &folder.path().join("rhevm.ova")).await;
    let files = judge(folder.path(), &["tar", "-tzf", "rhevm.ova"]);
    assert_eq!(files.lines().count(), 3, "{files}");
    judge(folder.path(), &["tar", "-xzf", "rhevm.ova"]);
    let disk = files.lines().last().unwrap();
    let response = daemon.get(&format!("/imagefactory/target_images/{mock}/raw_image")).await;
    let content = std::fs::read(folder.path().join(disk)).unwrap();
    assert!(content == response.bytes().await.unwrap(), "another disk than the target image's");
}

#[tokio::test(flavor = "multi_thread")]
async fn boxes_are_added_by_vagrant() {
    if std::env::var_os("IMAGEFACTORY_TEST_LONG").is_none() {
        return; // the unit tests look into the boxes
    }
    install_judges();
    let daemon = daemon();
    let base = base_image(&daemon).await;
    let boxes = [
        ("libvirt", json!({"rhevm_ova_format": "vagrant-libvirt"})),
        ("virtualbox", json!({"vsphere_ova_format": "vagrant-virtualbox"})),
        ("vmware_fusion", json!({"vsphere_ova_format": "vagrant-vmware-fusion"})),
        ("hyperv", json!({"hyperv_ova_format": "hyperv-vagrant"})),
    ];
    for (provider, parameters) in boxes {
        let image = target_image(&daemon, &base, parameters).await;
        let folder = tempfile::tempdir().unwrap();
        download(&daemon, &image, &folder.path().join("it.box")).await;
        judge(folder.path(), &["vagrant", "box", "add", "--name", "it", "it.box"]);
        let list = judge(folder.path(), &["vagrant", "box", "list"]);
        assert!(list.contains(&format!("it ({provider}, 0)")), "{list}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_that_cannot_be_is_refused_before_there_is_an_image() {
    let daemon = daemon();
    let base = base_image(&daemon).await;
    for parameters in [
        json!({"vsphere_ova_format": "vagrant-qemu"}),
        json!({"ovf_cpu_count": "many"}),
        json!({"vagrant_sync_directory": "'; system('x'); '"}),
    ] {
        let order = json!({"target_image": {
            "target": "OVA", "base_image_id": base, "parameters": parameters,
        }});
        let response = daemon.post("/imagefactory/target_images", &order).await;
        assert_eq!(response.status(), 400, "{parameters}");
    }
    let twice = json!({"vsphere_ova_format": "vsphere", "rhevm_ova_format": "rhevm"});
    let image = target_image(&daemon, &base, twice).await;
    assert_eq!(image["status"], "FAILED");
    let error = image["status_detail"]["error"].to_string();
    assert!(error.contains("more than one package"), "{error}");
}

fn install_judges() {
    let script = binaries::workspace().join("tests/judges/install-ova-judges");
    assert!(Command::new(script).status().unwrap().success());
}

#[test]
fn it_meets_every_duty_that_the_validator_knows() {
    let manifest = binaries::workspace().join("plugin-manifests/OVACloud.json");
    let fixtures = binaries::workspace().join("plugins/ova-cloud/OVACloud.validate.json");
    let library = binaries::plugin_library("ova_cloud");
    let folder = PluginFolder::new("OVACloud", &library, &manifest, Some(&fixtures));
    let manifest = folder.manifest();
    let manifest = manifest.to_str().unwrap();
    let level = ["validate", manifest, "--json", "--level", "4", "--rounds", "50", "--points", "4"];
    let answer = imagefactory_plugin(&level);
    let report = answer.json();
    assert_eq!(broken_rules(&report), [], "{}", answer.stdout);
    assert_eq!((report["verdict"].as_str(), answer.status), (Some("passed"), 0));
}
