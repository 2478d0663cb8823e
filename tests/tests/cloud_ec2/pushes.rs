//! EC2Cloud through the real daemon, against a strict EC2: what is pushed, found again and removed.
//!
//! Faults, kills and moto have files of their own beside this one.

use std::process::Command;

use crate::rig::{Rig, credentials};
use imagefactory_tests::strict_ec2::{ACCESS_KEY, ACCOUNT};
use imagefactory_tests::{binaries, fixture_plugins};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_the_disk_block_by_block_and_an_image_on_it() {
    let rig = Rig::start();
    let target = rig.target_image(40).await;
    let image =
        rig.push(&target, json!({"ec2_tags": {"team": "a&b"}, "ec2_name": "web (1)"})).await;
    rig.assert_pushed(&target);
    let world = rig.ec2.world();
    let (snapshot, made) = (world.the_snapshot(), world.the_image());
    assert_eq!(snapshot.blocks.len(), 40, "blocks with data and no others");
    assert_eq!((world.blocks_taken, world.blocks_again), (40, 0));
    assert_eq!(snapshot.volume_size, 1);
    let id = world.images.keys().next().unwrap();
    assert_eq!(image["identifier_on_provider"], *id);
    assert_eq!(image["provider_account_identifier"], ACCESS_KEY, "as the original's");
    assert_eq!(image["properties"]["ec2_account"], ACCOUNT);
    for tags in [&snapshot.tags, &made.tags] {
        assert_eq!(tags["team"], "a&b");
        assert_eq!(tags["Name"], "web (1)");
        assert_eq!(tags["imagefactory:image"], image["id"].as_str().unwrap());
    }
    assert_eq!((made.name.as_str(), made.state), ("web (1)", "available"));
    let of = |name: &str| made.request.get(name).map_or("", String::as_str);
    assert_eq!(of("Architecture"), "x86_64");
    assert_eq!(of("RootDeviceName"), "/dev/xvda");
    assert_eq!(of("EnaSupport"), "true");
    assert_eq!(of("BlockDeviceMapping.1.Ebs.VolumeType"), "gp3");
    assert_eq!(of("BlockDeviceMapping.1.Ebs.DeleteOnTermination"), "true");
    assert_eq!(image["properties"]["ec2_volume_type"], "gp3", "effective parameters");
    drop(world);
    rig.assert_secrets_kept();
}

#[tokio::test(flavor = "multi_thread")]
async fn wishes_are_met_copies_are_made_and_a_deletion_removes_everything_everywhere() {
    let rig = Rig::start();
    let target = rig.target_image(4).await;
    let parameters = json!({
        "ec2_boot_mode": "uefi", "ec2_tpm_support": "v2.0", "ec2_imds_support": "v2.0",
        "ec2_volume_type": "io2", "ec2_iops": "4000", "ec2_volume_size": 8,
        "ec2_root_device_name": "/dev/sda1", "ec2_encrypted": true,
        "ec2_launch_permissions": "210987654321,123456789013", "ec2_deprecate": "30d",
        "ec2_copy_regions": ["eu-west-1", "ap-southeast-2", "us-east-1"],
        "ec2_description": "A \"description\" <&>",
    });
    let image = rig.push(&target, parameters).await;
    let copies = image["properties"]["ec2_copies"].as_object().unwrap().clone();
    {
        let world = rig.ec2.world();
        assert_eq!((world.images.len(), world.snapshots.len()), (3, 3), "one in each region");
        let own = &world.images[image["identifier_on_provider"].as_str().unwrap()];
        let of = |name: &str| own.request.get(name).map_or("", String::as_str);
        assert_eq!((own.region.as_str(), of("BootMode")), ("us-east-1", "uefi"));
        assert_eq!((of("TpmSupport"), of("ImdsSupport")), ("v2.0", "v2.0"));
        assert_eq!(of("BlockDeviceMapping.1.DeviceName"), "/dev/sda1");
        assert_eq!(of("BlockDeviceMapping.1.Ebs.VolumeSize"), "8");
        assert_eq!(of("BlockDeviceMapping.1.Ebs.Iops"), "4000");
        assert_eq!(of("Description"), "A \"description\" <&>");
        let snapshot = &world.snapshots[&own.snapshots[0]];
        assert_eq!(snapshot.request["Encrypted"], true);
        for (id, made) in &world.images {
            let accounts = ["UserId=210987654321", "UserId=123456789013"];
            assert_eq!(made.launch_permissions, accounts, "{id}");
            assert!(made.deprecate_at.as_ref().unwrap().ends_with('Z'), "{id}");
            assert!(made.tags.contains_key("imagefactory:stage"), "{id}");
            let snapshot = &world.snapshots[&made.snapshots[0]];
            assert!(snapshot.tags.contains_key("imagefactory:stage"), "{id}'s snapshot");
            if made.region != "us-east-1" {
                assert_eq!(copies[&made.region], *id);
            }
        }
    }
    let id = image["id"].as_str().unwrap();
    let path = format!("/imagefactory/provider_images/{id}");
    let body = json!({"provider_image": {"credentials": credentials()}});
    let request = rig.daemon.request(reqwest::Method::DELETE, &path).json(&body);
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    rig.daemon.gone(id).await;
    rig.ec2.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn named_credentials_open_the_account_for_deletions_too_and_gone_is_as_good() {
    let rig = Rig::start();
    let target = rig.target_image(2).await;
    let id = rig.order_with(&target, (rig.provider(), json!("@aws")), json!({})).await;
    let image = rig.daemon.finished(&id).await;
    assert_eq!(image["status"], "COMPLETE", "{image:#}");
    // Somebody has tidied up by hand.
    rig.ec2.world().images.clear();
    let answer = rig.daemon.delete(&format!("/imagefactory/provider_images/{id}")).await;
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    rig.daemon.gone(&id).await;
    rig.ec2.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_request_is_refused_before_any_work() {
    let rig = Rig::start();
    let target = rig.target_image(1).await;
    let check_refused = async |change: Value, pointer: &str| {
        let mut order = json!({"target": "ec2", "target_image_id": target,
            "provider": rig.provider(), "credentials": credentials()});
        order.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let body = json!({"provider_image": order});
        let answer = rig.daemon.post("/imagefactory/provider_images", &body).await;
        let status = answer.status();
        let said = answer.text().await.unwrap();
        assert_eq!(status, 400, "{change}: {said}");
        assert!(said.contains(pointer), "{change}: no {pointer} in {said}");
    };
    check_refused(json!({"parameters": {"ec2_boot_mode": "coreboot"}}), "ec2_boot_mode").await;
    check_refused(json!({"parameters": {"ec2_upload_concurrency": 65}}), "concurrency").await;
    check_refused(json!({"parameters": {"ec2_name": "a"}}), "ec2_name").await;
    check_refused(json!({"parameters": {"ec2_virt_type": "paravirtual"}}), "virt_type").await;
    check_refused(json!({"parameters": {"ec2_tags": {"aws:x": "1"}}}), "ec2_tags").await;
    check_refused(json!({"provider": {"region": "x"}}), "region").await;
    check_refused(json!({"provider": {"region": "us-east-1", "endpoint": "ftp://x"}}), "").await;
    check_refused(json!({"credentials": {"source": "elsewhere"}}), "source").await;
    rig.ec2.assert_empty();
    assert_eq!(rig.ec2.world().calls.len(), 0, "nobody was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_factorys_own_role_is_lent_only_where_the_operator_says_so() {
    let rig = Rig::start();
    let target = rig.target_image(1).await;
    let role = (rig.provider(), json!({"source": "instance-role"}));
    let id = rig.order_with(&target, role, json!({})).await;
    let wanted = ("user-request", &["does not lend", "credential_sources"][..]);
    rig.check_failure((&target, id), wanted).await;
}

#[test]
fn it_meets_every_duty_that_the_validator_knows() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = binaries::workspace().join("plugin-manifests/EC2Cloud.json");
    let library = binaries::plugin_library("ec2_cloud");
    fixture_plugins::install_with_manifest(folder.path(), &manifest, &library);
    let fixtures = binaries::workspace().join("plugins/ec2-cloud/EC2Cloud.validate.json");
    std::fs::copy(fixtures, folder.path().join("EC2Cloud.validate.json")).unwrap();
    let answer = Command::new(binaries::imagefactory())
        .args(["plugin", "validate", "--json", "--level", "3", "--rounds", "20", "--points", "2"])
        .arg(folder.path().join("EC2Cloud.json"))
        .env_remove("IMAGEFACTORY_PLUGIN_PATH")
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let rules = report["rules"].as_array().unwrap();
    let ended = |outcome: &str| rules.iter().filter(|rule| rule["outcome"] == outcome).count();
    let good = ["success", "skipped"].map(Value::from);
    let broken: Vec<&Value> =
        rules.iter().filter(|rule| !good.contains(&rule["outcome"])).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(ended("success") >= 55, "only {} rules were tried", ended("success"));
    assert_eq!(answer.status.code(), Some(0));
}
