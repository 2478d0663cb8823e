//! Deaths at chosen moments, and several processes on one store: what the kill test met by chance,
//! or would meet too rarely.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed; nothing of this is shipped"
)]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use imagefactory_tests::binaries;
use imagefactory_tests::daemon::Daemon;
use imagefactory_tests::factory::TDL_MOCK;
use imagefactory_tests::ledger::Ledger;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const BASE: &str = "/imagefactory/base_images";
const PROVIDER: &str = "/imagefactory/provider_images";

fn id_of(image: &Value) -> String {
    image["id"].as_str().expect("an image has an id").to_owned()
}

fn provider_order(daemon: &Daemon, parameters: Value) -> Value {
    json!({"provider_image": {
        "target": "mock",
        "provider": {"ledger": daemon.ledger()},
        "credentials": "@mock",
        "template": TDL_MOCK,
        "parameters": parameters,
    }})
}

/// Waits until it is so; panics after a minute.
async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A provider image that exists on its provider and is not finished for long.
async fn snapshot_in_the_making(daemon: &Daemon) -> String {
    let parameters = json!({"snapshot": true, "mock_duration_ms": 60_000, "mock_steps": 600});
    let image = daemon.order(PROVIDER, &provider_order(daemon, parameters)).await;
    let ledger = daemon.ledger();
    wait_until("it is created", || Ledger::read(&ledger).standing().len() == 1).await;
    id_of(&image)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_overtakes_a_dead_build_leaves_nothing_on_the_provider() {
    let mut daemon = Daemon::start();
    let id = snapshot_in_the_making(&daemon).await;
    let body = json!({"provider_image": {"credentials": "@mock"}});
    let deletion = daemon.request(Method::DELETE, &format!("{PROVIDER}/{id}")).json(&body);
    assert_eq!(deletion.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    // The build was told to end and had no time to clean up.
    daemon.kill_and_restart();
    daemon.gone(&id).await;
    let ledger = Ledger::read(&daemon.ledger());
    assert!(ledger.standing().is_empty(), "{ledger:?}\n{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_build_is_cleaned_up_also_when_the_cleanup_is_killed() {
    let mut daemon = Daemon::start();
    let id = snapshot_in_the_making(&daemon).await;
    let cancel = daemon.request(Method::POST, &format!("{PROVIDER}/{id}/cancel"));
    assert_eq!(cancel.send().await.unwrap().status(), StatusCode::ACCEPTED);
    for _ in 0..3 {
        daemon.kill_and_restart();
    }
    let image = daemon.finished(&id).await;
    assert_eq!(image["status_detail"]["error_code"], "cancelled", "{image}");
    assert!(Ledger::read(&daemon.ledger()).standing().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_dies_five_times_without_progress_is_given_up() {
    let mut daemon = Daemon::start();
    let long = json!({"mock_duration_ms": 60_000, "mock_steps": 600});
    let image = daemon.post_base_image(long).await;
    let id = id_of(&image);
    for death in 0..5 {
        let works = |image: &Value| image["status"] == "BUILDING" && image["attempt"] == death + 1;
        daemon.wait(&id, works).await;
        let stages = daemon.storage().join("stages");
        // A stage that has its folders has its record, and is interrupted by the kill.
        wait_until("a stage runs", || {
            let entries = std::fs::read_dir(&stages).into_iter().flatten().flatten();
            entries
                .flat_map(|stage| std::fs::read_dir(stage.path()).into_iter().flatten().flatten())
                .any(|entry| entry.file_name().to_string_lossy().starts_with("output-"))
        })
        .await;
        daemon.kill_and_restart();
    }
    let image = daemon.finished(&id).await;
    assert_eq!(image["status"], "FAILED", "{image}");
    let error = image["status_detail"]["error"].as_str().expect("an error");
    assert!(error.contains("given up after 5 interruptions"), "{error}");
    // Only that order: the factory goes on.
    let image = daemon.post_base_image(json!({})).await;
    assert_eq!(daemon.finished(&id_of(&image)).await["status"], "COMPLETE");
}

fn command_line(daemon: &Daemon, parameters: &[(&str, &str)]) -> Child {
    let template = daemon.folder.path().join("template.tdl");
    std::fs::write(&template, TDL_MOCK).expect("the folder is writable");
    let mut command = Command::new(binaries::imagefactory());
    command.arg("--config").arg(daemon.folder.path().join("imagefactory.conf"));
    command.arg("base_image").arg(template);
    for (name, value) in parameters {
        command.args(["--parameter", name, value]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the command line starts")
}

async fn images(daemon: &Daemon) -> Vec<String> {
    let list = daemon.get_json(BASE).await;
    let list = list["base_images"].as_array().expect("a list").clone();
    list.iter().map(|entry| id_of(&entry["base_image"])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_of_a_killed_command_line_are_finished_by_the_daemon() {
    let daemon = Daemon::start();
    let mut child = command_line(&daemon, &[("mock_duration_ms", "3000"), ("mock_steps", "60")]);
    let deadline = Instant::now() + Duration::from_secs(60);
    let id = loop {
        if let Some(id) = images(&daemon).await.pop() {
            break id;
        }
        assert!(Instant::now() < deadline, "{:?}", child.wait_with_output());
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    daemon.wait(&id, |image| image["percent_complete"].as_u64() > Some(10)).await;
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    let image = daemon.finished(&id).await;
    assert_eq!(image["status"], "COMPLETE", "{image}");
    assert!(image["attempt"].as_u64() > Some(1), "{image}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_and_command_lines_build_on_one_store_at_once() {
    let daemon = Daemon::start();
    let children: Vec<Child> = (0..3)
        .map(|_| command_line(&daemon, &[("fresh", "true"), ("mock_duration_ms", "300")]))
        .collect();
    let mut ordered = Vec::new();
    for _ in 0..8 {
        let parameters = json!({"fresh": true, "mock_duration_ms": 100});
        ordered.push(id_of(&daemon.post_base_image(parameters).await));
    }
    for id in &ordered {
        assert_eq!(daemon.finished(id).await["status"], "COMPLETE");
    }
    for child in children {
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{output:?}");
    }
    let all = images(&daemon).await;
    assert_eq!(all.len(), 8 + 3);
    for id in &all {
        let image = daemon.image(id).await.expect("it is there");
        assert_eq!((&image["status"], &image["attempt"]), (&json!("COMPLETE"), &json!(1)));
    }
}
