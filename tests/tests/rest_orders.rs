//! Orders over REST, from POST to the finished image: what is answered when, and what is refused.

use imagefactory_tests::daemon::Daemon;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_base_image_is_ordered_and_built() {
    let daemon = Daemon::start();
    let image = daemon.post_base_image(json!({})).await;
    assert_eq!(image["status"], "NEW");
    let id = image["id"].as_str().unwrap();
    let image = daemon.finished(id).await;
    assert_eq!(image["status"], "COMPLETE", "{image}\n{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_survives_a_killed_daemon() {
    let mut daemon = Daemon::start();
    let image = daemon.post_base_image(json!({"mock_duration_ms": 1000, "mock_steps": 50})).await;
    let id = image["id"].as_str().unwrap();
    daemon.wait(id, |image| image["status"] == "BUILDING").await;
    daemon.kill_and_restart();
    let image = daemon.finished(id).await;
    assert_eq!(image["status"], "COMPLETE", "{image}\n{}", daemon.log());
}
