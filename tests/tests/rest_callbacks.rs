//! Callbacks: one PUT for each status change, in order, across refusals and restarts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use imagefactory_tests::daemon::Daemon;
use imagefactory_tests::factory::TDL_MOCK;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A listener gets its callbacks in milliseconds; a retry waits a second or two.
const PATIENCE: Duration = Duration::from_secs(60);

/// One callback as it arrived.
#[derive(Debug, Clone)]
struct Heard {
    head: String,
    document: Value,
}

/// A small HTTP server that remembers what it was told and refuses the first requests.
struct Listener {
    address: String,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Listener {
    async fn start(refusals: usize) -> Listener {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let memory = Arc::clone(&heard);
        tokio::spawn(async move {
            let mut refusals = refusals;
            while let Ok((mut stream, _)) = socket.accept().await {
                let Some(one) = read_request(&mut stream).await else { continue };
                let status = if refusals > 0 { "503 Later" } else { "200 OK" };
                if refusals > 0 {
                    refusals -= 1;
                } else {
                    memory.lock().unwrap().push(one);
                }
                let answer =
                    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.ok();
            }
        });
        Listener { address, heard }
    }

    fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// The statuses that were heard of an image, once the last of them is `last`.
    async fn statuses(&self, kind: &str, id: &str, last: &str) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let of_image =
                self.heard().into_iter().filter(|heard| heard.document[kind]["id"] == id);
            let statuses: Vec<String> = of_image
                .map(|heard| heard.document[kind]["status"].as_str().unwrap().to_owned())
                .collect();
            if statuses.last().is_some_and(|status| status == last) {
                return statuses;
            }
            assert!(Instant::now() < deadline, "{kind} {id}: {statuses:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn read_request(stream: &mut tokio::net::TcpStream) -> Option<Heard> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.to_lowercase().split("content-length: ").nth(1)?.lines().next()?.to_owned();
        if body.len() == length.parse::<usize>().ok()? {
            let document = serde_json::from_str(body).ok()?;
            return Some(Heard { head: head.to_owned(), document });
        }
    }
}

fn base_order(callbacks: &Value) -> Value {
    json!({"base_image": {"template": TDL_MOCK, "parameters": {"callbacks": callbacks}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn each_status_is_told_once_and_in_order_from_order_to_deletion() {
    let daemon = Daemon::start();
    let listener = Listener::start(0).await;
    let url = format!("http://user:canary@{}/hook?a=b", listener.address);
    let order = base_order(&json!([url]));
    let image = daemon.order("/imagefactory/base_images", &order).await;
    let shown = image["parameters"]["callbacks"][0].as_str().unwrap();
    assert_eq!(shown, format!("http://user:***@{}/hook?a=b", listener.address));
    let id = image["id"].as_str().unwrap();
    let statuses = listener.statuses("base_image", id, "COMPLETE").await;
    assert_eq!(statuses, ["PENDING", "BUILDING", "COMPLETE"]);
    let heard = listener.heard().remove(0);
    assert!(heard.head.starts_with("PUT /hook?a=b HTTP/1.1"), "{}", heard.head);
    let head = heard.head.to_lowercase();
    assert!(head.contains("content-type: application/json"), "{head}");
    // base64 of user:canary
    assert!(heard.head.contains("Basic dXNlcjpjYW5hcnk="), "{}", heard.head);
    assert!(heard.document["base_image"].get("href").is_none(), "{}", heard.document);
    assert!(!heard.document.to_string().contains("canary"), "{}", heard.document);
    let body = json!({"base_image": {"parameters": {"callbacks": [url]}}});
    let path = format!("/imagefactory/base_images/{id}");
    let deletion = daemon.request(reqwest::Method::DELETE, &path).json(&body);
    assert_eq!(deletion.send().await.unwrap().status().as_u16(), 204);
    let statuses = listener.statuses("base_image", id, "DELETED").await;
    assert_eq!(statuses, ["PENDING", "BUILDING", "COMPLETE", "DELETING", "DELETED"]);
    assert!(!daemon.log().contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn by_template_all_images_of_the_cascade_are_told_of() {
    let daemon = Daemon::start();
    let listener = Listener::start(0).await;
    let order = json!({"provider_image": {
        "target": "mock", "provider": {"ledger": daemon.ledger()}, "credentials": "@mock",
        "template": TDL_MOCK,
        "parameters": {"callbacks": [format!("http://{}/", listener.address)]},
    }});
    let provider = daemon.order("/imagefactory/provider_images", &order).await;
    let provider = daemon.finished(provider["id"].as_str().unwrap()).await;
    let target_id = provider["target_image_id"].as_str().unwrap();
    let target = daemon.image(target_id).await.unwrap();
    for (kind, id) in [
        ("base_image", target["base_image_id"].as_str().unwrap()),
        ("target_image", target_id),
        ("provider_image", provider["id"].as_str().unwrap()),
    ] {
        let statuses = listener.statuses(kind, id, "COMPLETE").await;
        assert_eq!(statuses, ["PENDING", "BUILDING", "COMPLETE"], "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_refuses_is_asked_again_also_after_a_kill() {
    let mut daemon = Daemon::start();
    let listener = Listener::start(2).await;
    let order = base_order(&json!([format!("http://{}/", listener.address)]));
    let image = daemon.order("/imagefactory/base_images", &order).await;
    let id = image["id"].as_str().unwrap().to_owned();
    daemon.finished(&id).await;
    daemon.kill_and_restart();
    let statuses = listener.statuses("base_image", &id, "COMPLETE").await;
    // A callback that was delivered at the moment of the kill may come twice, but never late.
    let mut once = statuses.clone();
    once.dedup();
    assert_eq!(once, ["PENDING", "BUILDING", "COMPLETE"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_that_are_no_list_of_urls_are_refused() {
    let daemon = Daemon::start();
    for callbacks in [
        json!("http://h/"),
        json!({"url": "http://h/"}),
        json!(["ftp://h/"]),
        json!(["http://h/", 5]),
        json!(["/path"]),
        json!([format!("http://h/{}", "x".repeat(3000))]),
        json!(vec!["http://h/"; 17]),
    ] {
        let response = daemon.post("/imagefactory/base_images", &base_order(&callbacks)).await;
        assert_eq!(response.status().as_u16(), 400, "{callbacks}");
        let problem: Value = response.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().contains("callbacks"), "{problem}");
    }
    let list = daemon.get_json("/imagefactory/base_images").await;
    assert_eq!(list, json!({"base_images": []}));
}
