//! DockerCloud when something goes wrong between it and the registry: the right error, a sentence
//! that helps, nothing left over there, and no secret anywhere.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

mod cloud_docker_rig;

use std::process::Command;
use std::time::Duration;

use cloud_docker_rig::{
    Authentication, PASSWORD, RegistryServer, Rig, USER, attempt, error_of, login,
};
use imagefactory_tests::faulty_proxy::{Fault, FaultyProxy};
use imagefactory_tests::strict_registry::{Behaviour, StrictRegistry};
use serde_json::{Value, json};

/// A provider behind a proxy.
fn behind(proxy: &FaultyProxy, repository: &str) -> Value {
    json!({"registry": format!("{}/{repository}", proxy.url())})
}

/// A target image of a MiB and a half, so that uploads have a middle.
async fn rig_and_target() -> (Rig, String) {
    let rig = Rig::start_with(1 << 20).await;
    let target = rig.target_image(json!({})).await;
    (rig, target)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_waited_out_and_makes_one_whole_image() {
    let (rig, target) = rig_and_target().await;
    let server = RegistryServer::start();
    let proxy = FaultyProxy::start(server.address());
    let busy = Fault::Answer {
        status: 429,
        headers: "Retry-After: 0\r\n".to_owned(),
        body: "slow down".to_owned(),
    };
    // A storm over every kind of request.
    for method in ["GET", "HEAD", "POST", "PATCH", "PUT"] {
        proxy.plan(method, "/v2/", 2, busy.clone());
        proxy.plan(method, "/v2/", 1, Fault::answer(503));
    }
    // Cut at places of the first blob, hung up on after the last byte, spoiled in the middle.
    for cut in [0, 1, 70_000, 900_000] {
        proxy.plan("PATCH", "/blobs/uploads/", 1, Fault::CutAfter(cut));
    }
    proxy.plan("PATCH", "/blobs/uploads/", 1, Fault::CloseAfterLastByte);
    proxy.plan("PUT", "/blobs/uploads/", 1, Fault::CloseAfterLastByte);
    proxy.plan("PUT", "/manifests/", 1, Fault::CloseAfterLastByte);
    let image = rig.pushed(&target, &behind(&proxy, "storm"), json!({})).await;
    let digest = server.digest("storm:latest").unwrap();
    assert!(image["identifier_on_provider"].as_str().unwrap().ends_with(&digest));
    rig.delete(image["id"].as_str().unwrap(), None).await;
    assert!(!server.manifests().iter().any(|path| path.contains("/revisions/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_changed_on_the_way_is_seen_and_sent_again() {
    let (rig, target) = rig_and_target().await;
    let server = RegistryServer::start();
    let proxy = FaultyProxy::start(server.address());
    proxy.plan("PATCH", "/blobs/uploads/", 1, Fault::SpoilByte(500_000));
    let image = rig.push(&target, &behind(&proxy, "spoiled"), json!({})).await;
    // The host repeats what may pass; the second attempt is whole.
    assert_eq!(image["status"], "COMPLETE", "{image:#}");
    assert!(image["attempt"].as_u64().is_none_or(|attempt| attempt >= 1));
    for _ in 0..12 {
        proxy.plan("PATCH", "/blobs/uploads/", 1, Fault::SpoilByte(500));
    }
    let image = rig.push(&target, &behind(&proxy, "other"), json!({})).await;
    assert_eq!(image["status"], "FAILED");
    let said = error_of(&image);
    assert!(said.contains("changed on the way"), "{said}");
    assert!(!server.manifests().iter().any(|path| path.contains("/other/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_runs_out_in_mid_upload_is_renewed() {
    let (rig, target) = rig_and_target().await;
    let registry = StrictRegistry::start(Behaviour {
        login: Some((USER.to_owned(), PASSWORD.to_owned())),
        token_requests: 4,
        ..Behaviour::default()
    });
    let provider = json!({"registry": registry.authority(), "plain_http": true,
        "repository": "tokens", "chunk_bytes": 200_000});
    let more = json!({"credentials": login(PASSWORD)});
    rig.pushed(&target, &provider, more).await;
    let holdings = registry.holdings();
    assert!(holdings.tokens_given >= 3, "{}", holdings.tokens_given);
    assert!(holdings.uploads.is_empty(), "no session is left");
    drop(holdings);
    rig.assert_secrets_kept();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_goes_on_where_the_registry_has_got_to() {
    let (rig, target) = rig_and_target().await;
    let registry = StrictRegistry::start(Behaviour::default());
    let proxy = FaultyProxy::start(registry.authority().parse().unwrap());
    for cut in [300_000, 300_000, 1] {
        proxy.plan("PATCH", "/blobs/uploads/", 1, Fault::CutAfter(cut));
    }
    let image = rig.pushed(&target, &behind(&proxy, "cut"), json!({})).await;
    let layer = image["properties"]["docker_manifest_digest"].as_str().map(str::to_owned);
    assert!(layer.is_some() || image["docker_manifest_digest"].is_string(), "{image:#}");
    let holdings = registry.holdings();
    let whole: u64 = holdings.blobs.values().map(|blob| blob.len() as u64).sum();
    assert_eq!(holdings.upload_bytes, whole, "not a byte came twice");
    assert!(holdings.uploads.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_pieces_gets_each_blob_in_one() {
    let (rig, target) = rig_and_target().await;
    let registry = StrictRegistry::start(Behaviour { no_pieces: true, ..Behaviour::default() });
    let provider = json!({"registry": registry.authority(), "plain_http": true,
        "repository": "whole"});
    rig.pushed(&target, &provider, json!({})).await;
    let mut monolithic = provider.clone();
    monolithic["monolithic"] = json!(true);
    monolithic["repository"] = json!("told");
    registry.holdings().requests.clear();
    rig.pushed(&target, &monolithic, json!({})).await;
    let asked = registry.holdings().requests.iter().any(|it| it.starts_with("PATCH"));
    assert!(!asked, "who is told does not try");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_on_the_far_side_fails_the_push_and_leaves_nothing() {
    let (rig, target) = rig_and_target().await;
    let disk = tempfile::tempdir().unwrap();
    let path = disk.path().to_str().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=400k", "tmpfs", path])
        .status()
        .unwrap();
    if !mounted.success() {
        return; // only root may
    }
    let server = RegistryServer::start_with(
        Authentication::None,
        false,
        json!({"filesystem": {"rootdirectory": path}}),
    );
    let image = rig.push(&target, &server.provider("full"), json!({})).await;
    let said = error_of(&image);
    let found = attempt("find", &[path, "-path", "*_manifests*", "-name", "link"]);
    let left = found.stdout;
    drop(server);
    Command::new("umount").args(["-l", path]).status().unwrap();
    assert_eq!(image["status"], "FAILED", "{image:#}");
    assert!(said.contains("full disk there"), "{said}");
    assert_eq!(String::from_utf8_lossy(&left), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_with_the_way_out() {
    let rig = Rig::start_impatient().await;
    let target = rig.target_image(json!({})).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let check = async |provider: Value, sentence: &str| {
        let image = rig.push(&target, &provider, json!({})).await;
        assert_eq!(image["status"], "FAILED", "{provider}");
        let said = error_of(&image);
        assert!(said.contains(sentence), "{provider}: {said}");
    };
    check(json!({"registry": nobody.to_string(), "plain_http": true}), "nothing listens").await;
    let dead = json!({"registry": "registry.invalid", "repository": "a"});
    check(dead, "spelled right").await;
    // A web server that is no registry.
    let server = RegistryServer::start();
    let proxy = FaultyProxy::start(server.address());
    proxy.plan("GET", "/v2/", 9, Fault::answer(404));
    check(behind(&proxy, "none"), "is no registry").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_push_leaves_no_session_and_no_image() {
    let (rig, target) = rig_and_target().await;
    let registry =
        StrictRegistry::start(Behaviour { bytes_per_s: 100_000, ..Behaviour::default() });
    let provider = json!({"registry": registry.authority(), "plain_http": true,
        "repository": "cancelled"});
    let id = rig.order(&target, &provider, json!({})).await;
    registry.wait_for_bytes(100_000, Duration::from_secs(60));
    rig.daemon.delete(&format!("/imagefactory/provider_images/{id}")).await;
    rig.daemon.gone(&id).await;
    let holdings = registry.holdings();
    assert!(holdings.uploads.is_empty(), "{:?}", holdings.uploads.keys());
    assert!(holdings.manifests.is_empty() && holdings.tags.is_empty());
}
