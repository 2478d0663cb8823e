//! Orders over REST, from POST to the finished or deleted image: what is taken, what is refused,
//! and what survives a killed daemon.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

use imagefactory_tests::daemon::Daemon;
use imagefactory_tests::factory::TDL_MOCK;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use uuid::Uuid;

const BASE: &str = "/imagefactory/base_images";
const TARGET: &str = "/imagefactory/target_images";
const PROVIDER: &str = "/imagefactory/provider_images";

fn id_of(image: &Value) -> &str {
    image["id"].as_str().expect("an image has an id")
}

async fn check_refused(response: Response, status: u16, says: &str) {
    let found = response.status();
    let text = response.text().await.unwrap();
    assert_eq!(found.as_u16(), status, "{text}");
    assert!(text.contains(says), "{says:?} is not in {text}");
    assert!(!text.contains("canary"), "a secret came back: {text}");
}

async fn all_images(daemon: &Daemon) -> usize {
    let mut images = 0;
    for collection in ["base_images", "target_images", "provider_images"] {
        let list = daemon.get_json(&format!("/imagefactory/{collection}")).await;
        images += list[collection].as_array().unwrap().len();
    }
    images
}

async fn complete_base(daemon: &Daemon) -> String {
    let image = daemon.post_base_image(json!({})).await;
    let image = daemon.finished(id_of(&image)).await;
    assert_eq!(image["status"], "COMPLETE", "{image}");
    id_of(&image).to_owned()
}

fn provider_order(daemon: &Daemon, from: (&str, &str)) -> Value {
    json!({"provider_image": {
        "target": "mock",
        "provider": {"ledger": daemon.ledger()},
        "credentials": "<secret>canary-9</secret>",
        from.0: from.1,
    }})
}

async fn complete_provider(daemon: &Daemon) -> Value {
    let order = provider_order(daemon, ("template", TDL_MOCK));
    let image = daemon.order(PROVIDER, &order).await;
    let image = daemon.finished(id_of(&image)).await;
    assert_eq!(image["status"], "COMPLETE", "{image}");
    image
}

fn ledger(daemon: &Daemon) -> String {
    let files = std::fs::read_dir(daemon.ledger()).unwrap();
    files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap_or_default()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_survives_a_killed_daemon() {
    let mut daemon = Daemon::start();
    let image = daemon.post_base_image(json!({"mock_duration_ms": 1000, "mock_steps": 50})).await;
    assert_eq!(image["status"], "NEW");
    let id = id_of(&image);
    daemon.wait(id, |image| image["status"] == "BUILDING").await;
    daemon.kill_and_restart();
    let image = daemon.finished(id).await;
    assert_eq!(image["status"], "COMPLETE", "{image}\n{}", daemon.log());
    assert!(image["attempt"].as_u64() >= Some(2), "{image}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_image_needs_a_target_and_exactly_one_origin() {
    let daemon = Daemon::start();
    let base = complete_base(&daemon).await;
    let other = Uuid::new_v4().to_string();
    let below = format!("{BASE}/{base}/target_images");
    for (path, fields, status, says) in [
        (TARGET, json!({}), 400, "'target' is missing"),
        (TARGET, json!({"target": "mock"}), 400, "neither"),
        (TARGET, json!({"target": "mock", "base_image_id": base, "template": "<t/>"}), 400, "both"),
        (&below, json!({"target": "mock", "template": "<t/>"}), 400, "both"),
        (&below, json!({"target": "mock", "base_image_id": other}), 400, "the path says"),
        (TARGET, json!({"target": "mock", "base_image_id": other}), 404, other.as_str()),
        (TARGET, json!({"target": "mock", "base_image_id": "x"}), 400, "UUID"),
        (TARGET, json!({"target": "moon", "base_image_id": base}), 400, "mocksphere"),
        (
            TARGET,
            json!({"target": "mock", "base_image_id": base,
            "parameters": {"mock_steps": "many"}}),
            400,
            "mock_steps",
        ),
    ] {
        check_refused(daemon.post(path, &json!({"target_image": fields})).await, status, says)
            .await;
    }
    let nowhere = format!("{BASE}/{other}/target_images");
    let order = json!({"target_image": {"target": "mock"}});
    check_refused(daemon.post(&nowhere, &order).await, 404, &other).await;
    assert_eq!(all_images(&daemon).await, 1, "refused orders leave nothing behind");
    let agreeing = json!({"target_image": {"target": "mock", "base_image_id": base}});
    let image = daemon.order(&below, &agreeing).await;
    let href = format!("{}{below}/{}", daemon.url(), id_of(&image));
    assert_eq!(image["href"], href);
    assert_eq!(daemon.finished(id_of(&image)).await["status"], "COMPLETE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_image_waits_for_its_base_and_fails_with_it() {
    let daemon = Daemon::start();
    let base = daemon.post_base_image(json!({"mock_duration_ms": 1500})).await;
    let order = json!({"target_image": {"target": "mock", "base_image_id": base["id"]}});
    let target = daemon.order(TARGET, &order).await;
    daemon.wait(id_of(&target), |image| image["status"] == "PENDING").await;
    assert_eq!(daemon.finished(id_of(&target)).await["status"], "COMPLETE");
    let bad = daemon.post_base_image(json!({"mock_fail": "no luck"})).await;
    daemon.finished(id_of(&bad)).await;
    let order = json!({"target_image": {"target": "mock", "base_image_id": bad["id"]}});
    let target = daemon.order(TARGET, &order).await;
    let target = daemon.finished(id_of(&target)).await;
    assert_eq!(target["status"], "FAILED");
    let error = target["status_detail"]["error"].as_str().unwrap();
    assert!(error.contains("base image"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_image_names_what_is_missing_and_shows_no_secret() {
    let daemon = Daemon::start();
    let provider = complete_provider(&daemon).await;
    let target = provider["target_image_id"].as_str().unwrap();
    let ledger = json!({"ledger": daemon.ledger()});
    for (fields, status, says) in [
        (json!({}), 400, "missing: target, provider, credentials"),
        (json!({"target": "mock", "credentials": "canary"}), 400, "credentials: REDACTED"),
        (
            json!({"target": "mock", "provider": ledger, "target_image_id": target}),
            400,
            "missing: credentials",
        ),
        (
            json!({"target": "mock", "provider": ledger, "credentials": "@nobody",
            "target_image_id": target}),
            400,
            "@nobody",
        ),
        (
            json!({"target": "mocksphere", "provider": ledger, "credentials": "canary",
            "target_image_id": target}),
            400,
            "made for 'mock'",
        ),
        (
            json!({"target": "mock", "provider": {"ledger": 5}, "credentials": "canary",
            "target_image_id": target}),
            400,
            "/ledger",
        ),
        (
            json!({"target": "mock", "provider": ledger, "credentials": "canary",
            "target_image_id": Uuid::new_v4()}),
            404,
            "no image",
        ),
    ] {
        let response = daemon.post(PROVIDER, &json!({"provider_image": fields})).await;
        check_refused(response, status, says).await;
    }
    assert_eq!(all_images(&daemon).await, 3);
    let wrong = format!("{BASE}/{}/target_images/{target}/provider_images", Uuid::new_v4());
    let order = json!({"provider_image": {
        "target": "mock", "provider": ledger, "credentials": "canary",
    }});
    check_refused(daemon.post(&wrong, &order).await, 404, "nothing at").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_build_makes_a_provider_image_without_a_target_image() {
    let daemon = Daemon::start();
    let mut order = provider_order(&daemon, ("template", TDL_MOCK));
    order["provider_image"]["parameters"] = json!({"snapshot": true});
    order["provider_image"]["credentials"] = "@mock".into();
    let image = daemon.order(PROVIDER, &order).await;
    assert_eq!(image["target_image_id"], Value::Null);
    let image = daemon.finished(id_of(&image)).await;
    assert_eq!(image["status"], "COMPLETE", "{image}");
    assert_eq!(image["target_image"], Value::Null);
    assert_eq!(all_images(&daemon).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_idempotency_key_is_the_same_order() {
    let mut daemon = Daemon::start();
    let body = json!({"base_image": {"template": TDL_MOCK}});
    let keyed = |daemon: &Daemon, body: &Value| {
        daemon.request(Method::POST, BASE).header("idempotency-key", "k-1").json(body)
    };
    let first: Value = keyed(&daemon, &body).send().await.unwrap().json().await.unwrap();
    let again: Value = keyed(&daemon, &body).send().await.unwrap().json().await.unwrap();
    assert_eq!(first["base_image"]["id"], again["base_image"]["id"]);
    daemon.kill_and_restart();
    let later: Value = keyed(&daemon, &body).send().await.unwrap().json().await.unwrap();
    assert_eq!(first["base_image"]["id"], later["base_image"]["id"]);
    let other = json!({"base_image": {"template": "<template/>"}});
    check_refused(keyed(&daemon, &other).send().await.unwrap(), 422, "k-1").await;
    assert_eq!(all_images(&daemon).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_image_fails_and_a_finished_one_cannot_be_cancelled() {
    let daemon = Daemon::start();
    let image =
        daemon.post_base_image(json!({"mock_duration_ms": 60_000, "mock_steps": 600})).await;
    let path = format!("{BASE}/{}", id_of(&image));
    let response = daemon.request(Method::POST, &format!("{path}/cancel")).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 202);
    let answered: Value = response.json().await.unwrap();
    assert_eq!(answered["base_image"]["href"], format!("{}{path}", daemon.url()));
    let image = daemon.finished(id_of(&image)).await;
    assert_eq!(image["status"], "FAILED");
    assert_eq!(image["status_detail"]["error_code"], "cancelled", "{image}");
    let again = daemon.request(Method::POST, &format!("{path}/cancel")).send().await.unwrap();
    check_refused(again, 409, "nothing to cancel").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn base_and_target_images_are_deleted_and_finished_children_stay() {
    let daemon = Daemon::start();
    let provider = complete_provider(&daemon).await;
    let target = provider["target_image_id"].as_str().unwrap();
    let path = format!("{TARGET}/{target}");
    let response = daemon.delete(&path).await;
    assert_eq!(response.status().as_u16(), 204);
    assert!(response.bytes().await.unwrap().is_empty());
    daemon.gone(target).await;
    assert!(!daemon.storage().join(format!("{target}.body")).exists());
    assert!(!daemon.storage().join(format!("{target}.meta")).exists());
    assert_eq!(daemon.image(id_of(&provider)).await.unwrap()["target_image"], Value::Null);
    check_refused(daemon.delete(&path).await, 404, "nothing at").await;
    check_refused(daemon.delete(&format!("{BASE}/{}", Uuid::new_v4())).await, 404, "nothing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_in_use_is_not_deleted_and_a_building_one_is() {
    let daemon = Daemon::start();
    let base = complete_base(&daemon).await;
    let order = json!({"target_image": {
        "target": "mock", "base_image_id": base, "parameters": {"mock_duration_ms": 60_000},
    }});
    let target = daemon.order(TARGET, &order).await;
    check_refused(daemon.delete(&format!("{BASE}/{base}")).await, 409, id_of(&target)).await;
    daemon.wait(id_of(&target), |image| image["status"] == "BUILDING").await;
    let response = daemon.delete(&format!("{TARGET}/{}", id_of(&target))).await;
    assert_eq!(response.status().as_u16(), 204);
    daemon.gone(id_of(&target)).await;
    assert_eq!(daemon.delete(&format!("{BASE}/{base}")).await.status().as_u16(), 204);
    daemon.gone(&base).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_image_is_deleted_from_its_provider_with_and_without_a_body() {
    let daemon = Daemon::start();
    let mut removed = 0;
    for body in [None, Some(true), Some(false)] {
        let image = complete_provider(&daemon).await;
        let identifier = image["identifier_on_provider"].as_str().unwrap();
        assert!(ledger(&daemon).contains(identifier));
        let path = format!("{PROVIDER}/{}", id_of(&image));
        let fields = json!({
            "target": "mock", "provider": {"ledger": daemon.ledger()}, "credentials": "canary",
        });
        let request = daemon.request(Method::DELETE, &path);
        let request = match body {
            None => request,
            Some(true) => request.json(&json!({ "provider_image": fields })),
            Some(false) => request.json(&fields),
        };
        assert_eq!(request.send().await.unwrap().status().as_u16(), 204);
        daemon.gone(id_of(&image)).await;
        removed += 1;
        let ledger = ledger(&daemon);
        let lines = ledger.lines().filter(|line| line.starts_with("remove ")).count();
        assert_eq!(lines, removed, "{ledger}");
    }
    assert!(!daemon.log().contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_whose_plugin_is_gone_can_only_be_forgotten() {
    let daemon = Daemon::start();
    let image = complete_provider(&daemon).await;
    let path = format!("{PROVIDER}/{}", id_of(&image));
    for file in ["MockCloud.json", "MockCloud.so"] {
        std::fs::remove_file(daemon.folder.path().join("plugins.d").join(file)).unwrap();
    }
    daemon.signal(libc::SIGHUP);
    daemon.wait_for_log("reloaded");
    check_refused(daemon.delete(&path).await, 409, "forget=true").await;
    assert_eq!(daemon.delete(&format!("{path}?forget=true")).await.status().as_u16(), 204);
    daemon.gone(id_of(&image)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_are_judged_without_an_order() {
    let daemon = Daemon::start();
    let path = "/imagefactory/templates/validate";
    let valid = daemon.post(path, &json!({"template": TDL_MOCK})).await;
    assert_eq!(valid.status().as_u16(), 200);
    let valid: Value = valid.json().await.unwrap();
    assert_eq!(valid["plugin"], "MockOS");
    assert_eq!(valid["template"]["os"]["name"], "MockOS_A");
    let request = daemon.request(Method::POST, path).header("content-type", "application/xml");
    let itself = request.body(TDL_MOCK).send().await.unwrap();
    assert_eq!(itself.json::<Value>().await.unwrap(), valid);
    let broken = "<template>\n<nome>x</nome></template>";
    let broken = daemon.post(path, &json!({ "template": broken })).await;
    assert_eq!(broken.status().as_u16(), 422);
    let broken: Value = broken.json().await.unwrap();
    let errors = broken["errors"].as_array().unwrap();
    assert!(errors.iter().any(|error| error["line"] == 2), "{broken}");
    let unserved = TDL_MOCK.replace("MockOS_A", "Plan9");
    let unserved = daemon.post(path, &json!({ "template": unserved })).await;
    check_refused(unserved, 422, "Plan9").await;
    check_refused(daemon.post(path, &json!({})).await, 400, "'template' is missing").await;
    assert_eq!(all_images(&daemon).await, 0);
}
