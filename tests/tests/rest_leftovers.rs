//! What a failed cleanup leaves at a provider: seen, tried again, over restarts, until it is gone
//! or dropped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use imagefactory_tests::binaries;
use imagefactory_tests::daemon::Daemon;
use imagefactory_tests::factory::TDL_MOCK;
use imagefactory_tests::ledger::Ledger;
use serde_json::{Value, json};

const LEFTOVERS: &str = "/imagefactory/leftovers";

/// Some tries with their pauses.
const PATIENCE: Duration = Duration::from_secs(90);

/// The provider answers nobody, or everybody again.
fn open_ledger(daemon: &Daemon, open: bool) {
    let mode = if open { 0o777 } else { 0o000 };
    std::fs::set_permissions(daemon.ledger(), std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A push that makes its image at the provider and fails; then the provider is away.
async fn fail_a_push(daemon: &Daemon) -> String {
    let order = json!({"provider_image": {
        "template": TDL_MOCK, "target": "mock", "provider": {"ledger": daemon.ledger()},
        "credentials": "sealed words",
        "parameters": {"mock_duration_ms": 4000, "mock_steps": 40},
    }});
    let image = daemon.order("/imagefactory/provider_images", &order).await;
    let id = image["id"].as_str().unwrap().to_owned();
    let deadline = Instant::now() + PATIENCE;
    while Ledger::read(&daemon.ledger()).creations() == 0 {
        assert!(Instant::now() < deadline, "{:?}", daemon.image(&id).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    open_ledger(daemon, false);
    let path = format!("/imagefactory/provider_images/{id}/cancel");
    assert_eq!(daemon.post(&path, &json!({})).await.status().as_u16(), 202);
    assert_eq!(daemon.finished(&id).await["status"], "FAILED");
    id
}

async fn leftovers(daemon: &Daemon) -> Vec<Value> {
    daemon.get_json(LEFTOVERS).await["leftovers"].as_array().unwrap().clone()
}

async fn wait_until(daemon: &Daemon, what: &str, is_so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = leftovers(daemon).await;
        if is_so(&left) {
            return left;
        }
        assert!(Instant::now() < deadline, "{what}: {left:?}\n{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn metric(daemon: &Daemon, state: &str) -> u64 {
    let metrics = daemon.get("/metrics").await.text().await.unwrap();
    let line = format!("imagefactory_leftovers{{state=\"{state}\"}} ");
    let value = metrics.lines().find_map(|metric| metric.strip_prefix(&line));
    value.unwrap_or_else(|| panic!("{metrics}")).parse().unwrap()
}

fn sealed(daemon: &Daemon) -> usize {
    std::fs::read_dir(daemon.storage().join("vault")).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_cleanup_is_seen_and_tried_again_over_restarts_until_it_succeeds() {
    let mut daemon = Daemon::start();
    let image = fail_a_push(&daemon).await;
    let left = wait_until(&daemon, "it is seen", |left| left.len() == 1).await;
    let (left, token) = (&left[0], left[0]["token"].as_str().unwrap());
    assert_eq!((&left["image_id"], &left["plugin"]), (&json!(image), &json!("MockCloud")));
    assert_eq!(left["resources"][0]["kind"], "mock-image", "{left}");
    assert_eq!(left["resources"][0]["token"], token);
    assert_eq!(left["given_up"], false);
    assert!(left["error"].as_str().unwrap().contains("ledger"), "{left}");
    assert!(!left.to_string().contains("sealed words"));
    daemon.wait_for_log("is still there");
    assert_eq!((metric(&daemon, "tried_again").await, metric(&daemon, "given_up").await), (1, 0));
    assert_eq!(sealed(&daemon), 1, "its credentials are kept");

    wait_until(&daemon, "it is tried again", |left| left[0]["tries"].as_u64() >= Some(1)).await;
    daemon.kill_and_restart();
    let path = format!("/imagefactory/provider_images/{image}");
    assert_eq!(daemon.delete(&path).await.status().as_u16(), 204);
    daemon.gone(&image).await;
    let kept = leftovers(&daemon).await;
    assert_eq!(kept[0]["resources"], left["resources"], "it outlives its image and its daemon");

    open_ledger(&daemon, true);
    wait_until(&daemon, "it is gone", <[Value]>::is_empty).await;
    let ledger = Ledger::read(&daemon.ledger());
    assert_eq!(ledger.creations(), 1);
    assert!(ledger.standing().is_empty(), "{ledger:?}");
    assert_eq!(metric(&daemon, "tried_again").await, 0);
    let deadline = Instant::now() + PATIENCE;
    while sealed(&daemon) > 0 {
        assert!(Instant::now() < deadline, "its credentials stay");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_and_drops_a_leftover() {
    let daemon = Daemon::start();
    fail_a_push(&daemon).await;
    let left = wait_until(&daemon, "it is seen", |left| left.len() == 1).await;
    let (id, token) = (left[0]["id"].as_str().unwrap(), left[0]["token"].as_str().unwrap());
    let imagefactory = |arguments: &[&str]| {
        let mut command = Command::new(binaries::imagefactory());
        command.arg("--config").arg(daemon.folder.path().join("imagefactory.conf"));
        let output = command.args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (listed, text) = imagefactory(&["leftovers"]);
    assert!(listed && text.contains(id) && text.contains(token), "{text}");
    let (listed, text) = imagefactory(&["--url", daemon.url(), "--output", "json", "leftovers"]);
    assert!(listed && text.contains(id), "{text}");
    let stranger = "00000000-0000-4000-8000-000000000000";
    assert!(!imagefactory(&["leftovers", "--drop", stranger]).0);
    assert!(!imagefactory(&["--url", daemon.url(), "leftovers", "--drop", stranger]).0);
    let unknown = daemon.delete(&format!("{LEFTOVERS}/{stranger}")).await;
    assert_eq!(unknown.status().as_u16(), 404);
    assert!(imagefactory(&["leftovers", "--drop", id]).0);
    assert!(leftovers(&daemon).await.is_empty());
    let gone = daemon.delete(&format!("{LEFTOVERS}/{id}")).await;
    assert_eq!(gone.status().as_u16(), 404);

    let deadline = Instant::now() + PATIENCE;
    while sealed(&daemon) > 0 {
        assert!(Instant::now() < deadline, "its order hears that nobody cares");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    open_ledger(&daemon, true);
    assert_eq!(Ledger::read(&daemon.ledger()).standing().len(), 1, "nobody removed it");
}
