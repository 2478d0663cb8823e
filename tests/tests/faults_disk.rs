//! Disks that are full, read-only or broken: a clear error, nothing lost, and the daemon goes on
//! when the disk does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed; nothing of this is shipped"
)]

use std::time::{Duration, Instant};

use imagefactory_tests::daemon::{Daemon, Setup};
use imagefactory_tests::factory::TDL_MOCK;
use imagefactory_tests::faulty_disk::{FailingCalls, SmallDisk};
use reqwest::Method;
use serde_json::{Value, json};

const BASE: &str = "/imagefactory/base_images";
const PROVIDER: &str = "/imagefactory/provider_images";

/// Room for what a base image is reserved (256 MiB), and then some.
const DISK_BYTES: u64 = 512 << 20;

fn id_of(image: &Value) -> &str {
    image["id"].as_str().expect("an image has an id")
}

fn base_order(parameters: &Value) -> Value {
    json!({"base_image": {"template": TDL_MOCK, "parameters": parameters}})
}

fn provider_order(daemon: &Daemon) -> Value {
    json!({"provider_image": {
        "target": "mock",
        "provider": {"ledger": daemon.ledger()},
        "credentials": "<secret>canary-of-the-fault-tests</secret>",
        "template": TDL_MOCK,
    }})
}

/// A daemon whose store lies on a disk of its own.
fn daemon_on(disk: &SmallDisk) -> Daemon {
    let storage = json!({"storage_path": disk.path().join("storage")});
    Setup::default().with("image_manager_args", storage).start()
}

async fn check_builds(daemon: &Daemon) -> Value {
    let image = daemon.post_base_image(json!({"fresh": true})).await;
    let image = daemon.finished(id_of(&image)).await;
    assert_eq!(image["status"], "COMPLETE", "{image}");
    image
}

/// An order is refused with this status, in a sentence that shows neither paths nor secrets.
async fn check_refused(daemon: &Daemon, path: &str, order: &Value, status: u16) {
    let response = daemon.post(path, order).await;
    let found = response.status().as_u16();
    let text = response.text().await.expect("a body");
    assert_eq!(found, status, "{text}\n{}", daemon.log());
    let problem: Value = serde_json::from_str(&text).expect("a problem is JSON");
    assert!(problem["detail"].is_string() && problem["status"] == status, "{text}");
    assert!(!text.contains("canary") && !text.contains("storage/"), "{text}");
}

async fn images(daemon: &Daemon) -> usize {
    daemon.get_json(BASE).await["base_images"].as_array().expect("a list").len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_orders_with_507_and_takes_them_again_when_there_is_room() {
    let disk = SmallDisk::mount(DISK_BYTES, 100_000);
    let mut daemon = daemon_on(&disk);
    check_builds(&daemon).await;
    disk.fill();
    // The write-ahead log has some room of its own; what is accepted meanwhile must be kept.
    let mut taken = Vec::new();
    let refused = loop {
        let response = daemon.post(BASE, &base_order(&json!({"fresh": true}))).await;
        let status = response.status().as_u16();
        let document: Value = response.json().await.expect("JSON");
        if status != 202 {
            break (status, document);
        }
        taken.push(id_of(&document["base_image"]).to_owned());
        assert!(taken.len() < 5000, "the disk is never full");
    };
    assert_eq!(refused.0, 507, "{}", refused.1);
    check_refused(&daemon, PROVIDER, &provider_order(&daemon), 507).await;
    assert_eq!(daemon.get("/healthz").await.status(), 200, "it lives");
    let before = images(&daemon).await;
    assert_eq!(before, 1 + taken.len(), "a refused order leaves nothing behind");
    disk.free();
    check_builds(&daemon).await;
    for id in &taken {
        let image = daemon.finished(id).await;
        assert!(
            image["status"] == "COMPLETE" || image["status_detail"]["error_code"] == "no-space",
            "{image}"
        );
    }
    daemon.kill_and_restart();
    assert_eq!(images(&daemon).await, before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_cannot_be_promised_its_room_fails_with_the_code_no_space() {
    let disk = SmallDisk::mount(DISK_BYTES, 100_000);
    let daemon = daemon_on(&disk);
    disk.fill_but(100 << 20);
    let image = daemon.post_base_image(json!({})).await;
    let image = daemon.finished(id_of(&image)).await;
    assert_eq!(image["status"], "FAILED", "{image}");
    assert_eq!(image["status_detail"]["error_code"], "no-space", "{image}");
    let error = image["status_detail"]["error"].as_str().expect("an error");
    assert!(error.contains("268435456 bytes needed"), "{error}");
    disk.free();
    check_builds(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_was_accepted_waits_for_a_full_disk_and_is_finished() {
    let disk = SmallDisk::mount(DISK_BYTES, 100_000);
    let daemon = daemon_on(&disk);
    let slow = json!({"mock_duration_ms": 2000, "mock_steps": 200, "fresh": true});
    let image = daemon.post_base_image(slow).await;
    daemon.wait(id_of(&image), |image| image["percent_complete"].as_u64() > Some(10)).await;
    disk.fill();
    daemon.wait_for_log("waits for the store");
    disk.free();
    let image = daemon.finished(id_of(&image)).await;
    assert_eq!(image["status"], "COMPLETE", "{image}");
    check_builds(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_tmpdir_fails_a_build_with_the_code_no_space() {
    // Folders take no bytes on a tmpfs, but each takes one of the files that it may have.
    let disk = SmallDisk::mount(1 << 20, 64);
    let daemon = Setup::default().with("tmpdir", json!(disk.path().join("tmp"))).start();
    check_builds(&daemon).await;
    disk.use_all_files();
    let image = daemon.post_base_image(json!({"fresh": true})).await;
    let image = daemon.finished(id_of(&image)).await;
    assert_eq!(image["status"], "FAILED", "{image}");
    assert_eq!(image["status_detail"]["error_code"], "no-space", "{image}");
    disk.free();
    check_builds(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_written_refuses_orders_and_recovers() {
    let calls = FailingCalls::new();
    let mut daemon = calls.over(Setup::default()).start();
    check_builds(&daemon).await;
    let journal = "imagefactory.sqlite-wal";
    for (call, error) in [("write", libc::EIO), ("fsync", libc::EIO), ("write", libc::EROFS)] {
        let before = images(&daemon).await;
        calls.fail(call, error, journal);
        check_refused(&daemon, BASE, &base_order(&json!({})), 503).await;
        assert_eq!(daemon.get("/healthz").await.status(), 200, "it lives");
        assert_eq!(images(&daemon).await, before, "{call}: a refused order leaves nothing behind");
        calls.heal();
        check_builds(&daemon).await;
    }
    calls.fail("write", libc::ENOSPC, journal);
    check_refused(&daemon, BASE, &base_order(&json!({})), 507).await;
    calls.heal();
    let before = images(&daemon).await;
    daemon.kill_and_restart();
    assert_eq!(images(&daemon).await, before);
    check_builds(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_cannot_be_sealed_refuse_their_order() {
    let calls = FailingCalls::new();
    let daemon = calls.over(Setup::default()).start();
    for (call, error, status) in [
        ("write", libc::ENOSPC, 507),
        ("fsync", libc::EIO, 503),
        ("open", libc::EROFS, 503),
        ("rename", libc::EIO, 503),
    ] {
        calls.fail(call, error, "/vault/");
        check_refused(&daemon, PROVIDER, &provider_order(&daemon), status).await;
    }
    assert_eq!(images(&daemon).await, 0, "nothing was taken");
    calls.heal();
    let image = daemon.order(PROVIDER, &provider_order(&daemon)).await;
    assert_eq!(daemon.finished(id_of(&image)).await["status"], "COMPLETE");
    // Unlinked when the order is closed, a moment after its image is final.
    let deadline = Instant::now() + Duration::from_secs(30);
    let vault = daemon.storage().join("vault");
    while std::fs::read_dir(&vault).unwrap().next().is_some() {
        assert!(Instant::now() < deadline, "sealed credentials stay");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_cannot_be_kept_fails_its_image_and_no_other() {
    let calls = FailingCalls::new();
    let daemon = calls.over(Setup::default()).start();
    for (call, error, part, code) in [
        ("fsync", libc::EIO, "/output-", "host"),
        ("rename", libc::EIO, ".body", "host"),
        ("rename", libc::ENOSPC, ".body", "no-space"),
    ] {
        calls.fail(call, error, part);
        let image = daemon.post_base_image(json!({"fresh": true})).await;
        let image = daemon.finished(id_of(&image)).await;
        assert_eq!(image["status"], "FAILED", "{call} on {part}: {image}");
        assert_eq!(image["status_detail"]["error_code"], code, "{call} on {part}: {image}");
        assert!(!daemon.storage().join(format!("{}.body", id_of(&image))).exists());
        calls.heal();
        check_builds(&daemon).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn papers_that_cannot_be_written_cost_no_image() {
    let calls = FailingCalls::new();
    let mut daemon = calls.over(Setup::default()).start();
    for part in ["build.log", ".meta", "plugins.described"] {
        calls.fail_all(libc::EIO, part);
        if part == "plugins.described" {
            daemon.kill_and_restart();
        }
        check_builds(&daemon).await;
        calls.heal();
    }
    let with_meta = check_builds(&daemon).await;
    assert!(daemon.storage().join(format!("{}.meta", id_of(&with_meta))).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_whose_checkpoints_cannot_be_kept_leaves_nothing_on_its_provider() {
    let calls = FailingCalls::new();
    let daemon = calls.over(Setup::default()).start();
    let mut order = provider_order(&daemon);
    order["provider_image"]["parameters"] = json!({"mock_duration_ms": 3000, "mock_steps": 60});
    let image = daemon.order(PROVIDER, &order).await;
    daemon.wait(id_of(&image), |image| image["percent_complete"].as_u64() > Some(10)).await;
    calls.fail("write", libc::EIO, "imagefactory.sqlite-wal");
    daemon.wait_for_log("waits for the store");
    calls.heal();
    let image = daemon.finished(id_of(&image)).await;
    let ledger = imagefactory_tests::ledger::Ledger::read(&daemon.ledger());
    assert!(ledger.doubled().is_empty());
    let standing = usize::from(image["status"] == "COMPLETE");
    assert_eq!(ledger.standing().len(), standing, "{image}");
    let refused = daemon.request(Method::DELETE, &format!("{PROVIDER}/{}", id_of(&image)));
    let body = json!({"provider_image": {"credentials": "@mock"}});
    let answer = refused.json(&body).timeout(Duration::from_secs(30)).send().await.unwrap();
    assert_eq!(answer.status(), 204);
    daemon.gone(id_of(&image)).await;
    let ledger = imagefactory_tests::ledger::Ledger::read(&daemon.ledger());
    assert!(ledger.standing().is_empty());
}
