//! Deletions that meet: each other, builds, children. One provider, asked once; nothing is left.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

use imagefactory_tests::daemon::Daemon;
use imagefactory_tests::factory::TDL_MOCK;
use imagefactory_tests::ledger::Ledger;
use serde_json::{Value, json};
use tokio::task::JoinSet;

async fn push(daemon: &Daemon, parameters: Value) -> Value {
    let order = json!({"provider_image": {
        "template": TDL_MOCK, "target": "mock", "provider": {"ledger": daemon.ledger()},
        "credentials": "x", "parameters": parameters,
    }});
    daemon.order("/imagefactory/provider_images", &order).await
}

/// Nothing of an order may stay in these folders; they are emptied a moment after the record.
async fn check_nothing_left(daemon: &Daemon) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    for folder in ["storage/stages", "storage/staging", "storage/vault", "tmp"] {
        let path = daemon.folder.path().join(folder);
        loop {
            let left: Vec<_> = std::fs::read_dir(&path)
                .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
                .unwrap_or_default();
            if left.is_empty() {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{folder}: {left:?}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_at_once_are_all_answered_and_ask_the_provider_once() {
    let daemon = Daemon::start();
    for _ in 0..3 {
        let image = push(&daemon, json!({})).await;
        let id = image["id"].as_str().unwrap();
        let done = daemon.finished(id).await;
        assert_eq!(done["status"], "COMPLETE", "{done}");
        let path = format!("/imagefactory/provider_images/{id}");
        let mut asked = JoinSet::new();
        for _ in 0..8 {
            asked.spawn(daemon.request(reqwest::Method::DELETE, &path).send());
        }
        let answers = asked.join_all().await;
        let statuses: Vec<u16> =
            answers.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect();
        assert!(statuses.contains(&204), "{statuses:?}");
        // Late ones may find it gone.
        assert!(statuses.iter().all(|status| [204, 404].contains(status)), "{statuses:?}");
        daemon.gone(id).await;
    }
    let ledger = Ledger::read(&daemon.ledger());
    assert_eq!(ledger.creations(), 3);
    assert!(ledger.standing().is_empty() && ledger.doubled().is_empty(), "{ledger:?}");
    let text = std::fs::read_to_string(daemon.ledger().join("ledger")).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("remove")).count(), 3, "{text}");
    check_nothing_left(&daemon).await;
    assert!(!daemon.log().contains("waits for the store"), "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_ends_the_build_at_any_of_its_moments_and_leaves_nothing() {
    let daemon = Daemon::start();
    let slow = json!({"mock_duration_ms": 1500, "mock_steps": 30});
    for until in ["NEW", "PENDING", "BUILDING"] {
        let image = daemon.post_base_image(slow.clone()).await;
        let id = image["id"].as_str().unwrap();
        if until != "NEW" {
            let reached = |image: &Value| image["status"] == until || image["status"] == "BUILDING";
            daemon.wait(id, reached).await;
        }
        let path = format!("/imagefactory/base_images/{id}");
        assert_eq!(daemon.delete(&path).await.status().as_u16(), 204);
        daemon.gone(id).await;
    }
    // While it is pushed: the provider has it by then, and loses it again.
    let image = push(&daemon, slow).await;
    let id = image["id"].as_str().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while Ledger::read(&daemon.ledger()).creations() == 0 {
        assert!(std::time::Instant::now() < deadline, "{:?}", daemon.image(id).await);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let path = format!("/imagefactory/provider_images/{id}");
    assert_eq!(daemon.delete(&path).await.status().as_u16(), 204);
    daemon.gone(id).await;
    let ledger = Ledger::read(&daemon.ledger());
    assert!(ledger.standing().is_empty(), "{ledger:?}");
    check_nothing_left(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_stays_while_its_children_are_made_and_goes_afterwards() {
    let daemon = Daemon::start();
    let image = push(&daemon, json!({"mock_duration_ms": 700, "mock_steps": 7})).await;
    let (id, target) = (image["id"].as_str().unwrap(), image["target_image_id"].as_str().unwrap());
    let base = daemon.image(target).await.unwrap()["base_image_id"].as_str().unwrap().to_owned();
    for (path, parent) in [("base_images", base.as_str()), ("target_images", target)] {
        let refused = daemon.delete(&format!("/imagefactory/{path}/{parent}")).await;
        assert_eq!(refused.status().as_u16(), 409, "{path}");
    }
    assert_eq!(daemon.finished(id).await["status"], "COMPLETE");
    let gone = daemon.delete(&format!("/imagefactory/base_images/{base}")).await;
    assert_eq!(gone.status().as_u16(), 204);
    daemon.gone(&base).await;
    let target = daemon.image(target).await.unwrap();
    assert_eq!((&target["base_image"], &target["base_image_id"]), (&Value::Null, &Value::Null));
}
