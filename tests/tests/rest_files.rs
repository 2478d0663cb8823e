//! What is not JSON: image bodies with ranges, artefacts, logs that are followed, events, metrics.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

use std::time::Duration;

use imagefactory_tests::daemon::Daemon;
use reqwest::{Method, Response};
use serde_json::{Value, json};

/// No stream of these tests is silent for longer.
const PATIENCE: Duration = Duration::from_secs(60);

async fn finished_base(daemon: &Daemon) -> (String, Value) {
    let image = daemon.post_base_image(json!({"mock_size_bytes": 700_000})).await;
    let id = image["id"].as_str().unwrap().to_owned();
    let image = daemon.finished(&id).await;
    assert_eq!(image["status"], "COMPLETE", "{image}");
    (id, image)
}

async fn next_text(response: &mut Response) -> Option<String> {
    let piece = tokio::time::timeout(PATIENCE, response.chunk()).await.expect("in time");
    piece.expect("a whole body").map(|piece| String::from_utf8_lossy(&piece).into_owned())
}

/// Reads until the text so far has `wanted`.
async fn read_until(response: &mut Response, wanted: &str) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        let piece = next_text(response).await;
        text += &piece.unwrap_or_else(|| panic!("it ended without {wanted:?}: {text}"));
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_sent_whole_in_ranges_and_by_etag() {
    let daemon = Daemon::start();
    let (id, _) = finished_base(&daemon).await;
    let path = format!("/imagefactory/base_images/{id}/raw_image");
    let whole = daemon.get(&path).await;
    assert_eq!(whole.status().as_u16(), 200);
    assert_eq!(whole.headers()["content-type"], "application/octet-stream");
    assert_eq!(whole.headers()["accept-ranges"], "bytes");
    let disposition = whole.headers()["content-disposition"].to_str().unwrap();
    assert_eq!(disposition, format!("attachment; filename=\"{id}.raw\""));
    let etag = whole.headers()["etag"].to_str().unwrap().to_owned();
    let whole = whole.bytes().await.unwrap();
    assert_eq!(whole.len(), 700_000);
    let on_disk = std::fs::read(daemon.storage().join(format!("{id}.body"))).unwrap();
    assert_eq!(whole, on_disk);
    let asked = |name: &str, value: &str| daemon.request(Method::GET, &path).header(name, value);
    for (range, status, bytes) in [
        ("bytes=0-9", 206, 10),
        ("bytes=699990-", 206, 10),
        ("bytes=-10", 206, 10),
        ("bytes=700000-", 416, 0),
        ("nonsense", 200, 700_000),
    ] {
        let part = asked("range", range).send().await.unwrap();
        assert_eq!(part.status().as_u16(), status, "{range}");
        if status == 206 {
            let content_range = part.headers()["content-range"].to_str().unwrap().to_owned();
            assert!(content_range.ends_with("/700000"), "{content_range}");
            assert_eq!(part.bytes().await.unwrap().len(), bytes, "{range}");
        }
    }
    let known = asked("if-none-match", &etag).send().await.unwrap();
    assert_eq!(known.status().as_u16(), 304);
    let other = asked("range", "bytes=0-9").header("if-range", "\"other\"").send().await.unwrap();
    assert_eq!(other.status().as_u16(), 200, "another file is sent whole");
    let head = daemon.request(Method::HEAD, &path).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "700000");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_image_has_no_body_and_no_artefacts_yet() {
    let daemon = Daemon::start();
    let image = daemon.post_base_image(json!({"mock_duration_ms": 30_000})).await;
    let path = format!("/imagefactory/base_images/{}", image["id"].as_str().unwrap());
    assert_eq!(daemon.get(&format!("{path}/raw_image")).await.status().as_u16(), 409);
    let artifacts = daemon.get_json(&format!("{path}/artifacts")).await;
    assert_eq!(artifacts, json!({"artifacts": []}));
    let missing = daemon.get(&format!("{path}/artifacts/..%2f..%2fimagefactory.sqlite")).await;
    assert_eq!(missing.status().as_u16(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_followed_until_the_image_is_final() {
    let daemon = Daemon::start();
    let image = daemon.post_base_image(json!({"mock_duration_ms": 1000, "mock_steps": 20})).await;
    let id = image["id"].as_str().unwrap();
    let path = format!("/imagefactory/base_images/{id}/log");
    let followed = daemon.get(&format!("{path}?follow=true")).await;
    assert_eq!(followed.headers()["content-type"], "text/plain; charset=utf-8");
    let followed = followed.text().await.unwrap();
    let image = daemon.image(id).await.unwrap();
    assert_eq!(image["status"], "COMPLETE", "it ended when the image was final");
    assert!(followed.lines().count() > 1, "{followed}");
    assert_eq!(daemon.get(&path).await.text().await.unwrap(), followed);
    let events = daemon
        .request(Method::GET, &format!("{path}?follow=true"))
        .header("accept", "text/event-stream");
    let events = events.send().await.unwrap();
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let events = events.text().await.unwrap();
    assert!(events.ends_with("event: end\ndata: COMPLETE\n\n"), "{events}");
    assert!(events.starts_with("data: "), "{events}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_an_event() {
    let daemon = Daemon::start();
    let mut events = daemon.get("/imagefactory/events").await;
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    read_until(&mut events, ": listening\n\n").await;
    let image = daemon.post_base_image(json!({})).await;
    let id = image["id"].as_str().unwrap();
    let text = read_until(&mut events, "\"status\":\"COMPLETE\"").await;
    let place = |status: &str| text.find(&format!("\"status\":\"{status}\"")).expect(status);
    assert!(place("NEW") < place("PENDING"));
    assert!(place("PENDING") < place("BUILDING"));
    assert!(place("BUILDING") < place("COMPLETE"));
    assert!(text.contains(id) && !text.contains("<template>"), "{text}");
    let path = format!("/imagefactory/base_images/{id}");
    assert_eq!(daemon.delete(&path).await.status().as_u16(), 204);
    read_until(&mut events, "\"status\":\"DELETED\"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_changes_is_an_event_and_missed_ones_are_told_by_their_id() {
    let daemon = Daemon::start();
    let mut events = daemon.get("/imagefactory/events").await;
    read_until(&mut events, ": listening\n\n").await;
    let template = daemon.folder.path().join("mock.tdl");
    std::fs::write(&template, imagefactory_tests::factory::TDL_MOCK).unwrap();
    let mut beside = std::process::Command::new(imagefactory_tests::binaries::imagefactory());
    beside.arg("--config").arg(daemon.folder.path().join("imagefactory.conf"));
    let built = beside.arg("base_image").arg(&template).output().unwrap();
    assert!(built.status.success(), "{built:?}");
    let text = read_until(&mut events, "\"status\":\"COMPLETE\"").await;
    for status in ["NEW", "PENDING", "BUILDING"] {
        assert!(text.contains(&format!("\"status\":\"{status}\"")), "{status} in {text}");
    }
    let ids: Vec<i64> = text
        .lines()
        .filter_map(|line| line.strip_prefix("id: ").map(|id| id.parse().unwrap()))
        .collect();
    assert!(ids.is_sorted_by(|one, next| one < next) && ids.len() > 3, "{ids:?}");
    drop(events);

    let again = daemon.request(Method::GET, "/imagefactory/events");
    let again = again.header("Last-Event-ID", ids[0].to_string());
    let mut again = again.send().await.unwrap();
    let text = read_until(&mut again, "\"status\":\"COMPLETE\"").await;
    assert!(text.contains(&format!("id: {}\n", ids[1])), "{text}");
    assert!(!text.contains(&format!("id: {}\n", ids[0])), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_health_and_status_page_tell_counts_and_no_secrets() {
    let daemon = Daemon::start();
    finished_base(&daemon).await;
    let metrics = daemon.get("/metrics").await;
    assert_eq!(metrics.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let metrics = metrics.text().await.unwrap();
    for line in [
        "imagefactory_images{kind=\"base_image\",status=\"COMPLETE\"} 1",
        "imagefactory_http_requests_total{method=\"POST\",status=\"202\"} 1",
        "# TYPE imagefactory_plugins gauge",
        "process_resident_memory_bytes ",
    ] {
        assert!(metrics.contains(line), "{line:?} is not in\n{metrics}");
    }
    assert_eq!(daemon.get("/healthz").await.text().await.unwrap(), "ok\n");
    assert_eq!(daemon.get("/readyz").await.text().await.unwrap(), "ready\n");
    let page = daemon.get("/").await.text().await.unwrap();
    assert!(page.contains("MockCloud") && !page.contains("<template>"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polled_image_shows_every_change_of_itself_its_children_and_its_parent() {
    let daemon = Daemon::start();
    let (base, shown) = finished_base(&daemon).await;
    // Rendered once; from here on it is answered from memory until something is committed.
    assert_eq!(daemon.image(&base).await.unwrap(), shown);
    assert_eq!(daemon.image(&base).await.unwrap(), shown);
    let body = json!({"target_image": {"target": "mock", "base_image_id": base}});
    let target = daemon.order("/imagefactory/target_images", &body).await;
    let target = target["id"].as_str().unwrap();
    let with_child = daemon.image(&base).await.unwrap();
    assert_eq!(with_child["target_images"]["target_images"].as_array().unwrap().len(), 1);
    let finished = daemon.finished(target).await;
    assert_eq!(finished["base_image"]["id"], base, "{finished}");
    let path = format!("/imagefactory/base_images/{base}");
    assert_eq!(daemon.delete(&path).await.status().as_u16(), 204);
    daemon.gone(&base).await;
    let orphan = daemon.image(target).await.unwrap();
    assert_eq!(orphan["base_image"], Value::Null);
    assert_eq!(orphan["base_image_id"], Value::Null);
}
