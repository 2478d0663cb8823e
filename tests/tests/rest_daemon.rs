//! The daemon as a process: TLS, protocols, slow and odd clients, reload, shutdown, OAuth's place.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use imagefactory_tests::binaries;
use imagefactory_tests::daemon::{Daemon, Setup};
use imagefactory_tests::factory::TDL_MOCK;
use reqwest::{Method, Version};
use serde_json::{Value, json};

/// Nothing here takes longer when the machine is busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn connect(daemon: &Daemon) -> TcpStream {
    let stream = TcpStream::connect(daemon.authority()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What the daemon answers to these bytes, until it closes or the head is there.
fn raw(daemon: &Daemon, request: &[u8]) -> String {
    let mut stream = connect(daemon);
    // It may close before it has read everything.
    stream.write_all(request).ok();
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(read) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..read]);
        if read == 0 || answer.windows(4).any(|end| end == b"\r\n\r\n") {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_speaks_both_protocols_and_keeps_its_certificate() {
    let mut daemon = Setup::default().flags(&["--no_oauth"]).start();
    assert!(daemon.url().starts_with("https://127.0.0.1:"), "{}", daemon.url());
    let response = daemon.get("/imagefactory").await;
    assert_eq!(response.version(), Version::HTTP_2);
    let http1 = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .http1_only()
        .build()
        .unwrap();
    let url = format!("{}/imagefactory/plugins/MockOS", daemon.url());
    let response = http1.get(&url).send().await.unwrap();
    assert_eq!(response.version(), Version::HTTP_11);
    let plugin: Value = response.json().await.unwrap();
    assert_eq!(plugin["href"], url);
    let pem = daemon.storage().join("imagefactoryd.pem");
    let first = std::fs::read(&pem).unwrap();
    daemon.kill_and_restart();
    assert_eq!(daemon.get("/imagefactory").await.status().as_u16(), 200);
    assert_eq!(std::fs::read(&pem).unwrap(), first);
    let image = daemon.post_base_image(json!({})).await;
    assert_eq!(daemon.finished(image["id"].as_str().unwrap()).await["status"], "COMPLETE");
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_requests_are_refused_and_the_daemon_lives() {
    let daemon = Daemon::start();
    let host = "Host: localhost\r\n";
    for (request, status) in [
        (format!("CONNECT example.org:443 HTTP/1.1\r\n{host}\r\n"), "405"),
        (format!("GET /imagefactory/../../etc/passwd HTTP/1.1\r\n{host}\r\n"), "404"),
        (format!("GET /imagefactory/base_images/..%2f..%2fetc HTTP/1.1\r\n{host}\r\n"), "404"),
        ("GET /imagefactory HTTP/1.1\r\n\r\n".to_owned(), "400"),
        (format!("GET /imagefactory HTTP/1.1\r\n{host}{host}\r\n"), "400"),
        (format!("BREW /imagefactory HTTP/1.1\r\n{host}\r\n"), "405"),
        (format!("GET * HTTP/1.1\r\n{host}\r\n"), "404"),
        ("GET http://localhost/imagefactory HTTP/1.1\r\nHost: other\r\n\r\n".to_owned(), "200"),
        (format!("GET /imagefactory HTTP/1.1\r\n{host}X: {}\r\n\r\n", "x".repeat(200_000)), "431"),
        (
            format!("POST /imagefactory/base_images HTTP/1.1\r\n{host}Content-Length: -1\r\n\r\n"),
            "400",
        ),
    ] {
        let answer = raw(&daemon, request.as_bytes());
        let line = answer.lines().next().unwrap_or_default();
        let shown: String = request.chars().take(60).collect();
        assert!(line.contains(status), "{shown:?}: {answer:?}");
    }
    assert_eq!(daemon.get("/imagefactory").await.status().as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_keep_nobody_else_waiting() {
    let daemon = Daemon::start();
    let head = b"POST /imagefactory/base_images HTTP/1.1\r\nHost: localhost\r\nContent-";
    let mut slow: Vec<TcpStream> = (0..300).map(|_| connect(&daemon)).collect();
    for stream in &mut slow {
        stream.write_all(head).unwrap();
    }
    let begun = Instant::now();
    assert_eq!(daemon.get("/imagefactory").await.status().as_u16(), 200);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // The daemon closes what never ends its headers.
    let mut nothing = [0; 512];
    let read = slow[0].read(&mut nothing).unwrap();
    let said = String::from_utf8_lossy(&nothing[..read]).into_owned();
    assert!(read == 0 || said.contains(" 408 "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn chunked_bodies_work() {
    let daemon = Daemon::start();
    let body = json!({"base_image": {"template": TDL_MOCK}}).to_string();
    let (first, second) = body.split_at(20);
    let request = format!(
        "POST /imagefactory/base_images HTTP/1.1\r\nHost: localhost\r\nContent-Type: \
         application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n\
         0\r\n\r\n",
        first.len(),
        second.len()
    );
    let answer = raw(&daemon, request.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_lets_answers_finish_ends_streams_and_resumes_orders() {
    let mut daemon = Daemon::start();
    let image = daemon.post_base_image(json!({"mock_duration_ms": 3000, "mock_steps": 60})).await;
    let id = image["id"].as_str().unwrap().to_owned();
    daemon.wait(&id, |image| image["status"] == "BUILDING").await;
    let events = daemon.get("/imagefactory/events").await;
    let status = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    let text = events.text().await.expect("the stream ended and did not break");
    assert!(text.starts_with(": listening"), "{text}");
    daemon.start_again();
    assert_eq!(daemon.finished(&id).await["status"], "COMPLETE", "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_on_the_same_store_is_refused_with_a_sentence() {
    let daemon = Daemon::start();
    let second = Command::new(binaries::daemon())
        .arg("--config")
        .arg(daemon.folder.path().join("imagefactory.conf"))
        .args(["--port", "0", "--no_ssl", "--no_oauth"])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("another imagefactoryd works on the store"), "{said}");
    assert_eq!(daemon.get("/imagefactory").await.status().as_u16(), 200);
}

#[test]
fn the_configuration_can_be_checked_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imagefactory.conf");
    let check = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new(binaries::daemon());
        let output = command.arg("--check_config").arg("--config").arg(&path).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, said) = check("{\"addres\": \"::1\", \"clients\": {\"k\": \"canary\"}}");
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("address") && said.contains("is valid"), "{said}");
    assert!(!said.contains("canary"), "{said}");
    let (status, said) = check("{\"port\": \"x\"}");
    assert_eq!(status, Some(78), "{said}");
    assert!(!folder.path().join("storage").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_oauth_only_what_is_open_answers_without_a_signature() {
    let daemon = Setup::default()
        .flags(&["--no_ssl"])
        .with("clients", json!({"key": "secret"}))
        .with("body_bytes_max", json!(1000))
        .start();
    let id = uuid::Uuid::new_v4();
    for (method, path, status) in [
        (Method::GET, "/imagefactory".to_owned(), 200),
        (Method::GET, "/imagefactory/jeos".to_owned(), 200),
        (Method::GET, "/imagefactory/jeos/images".to_owned(), 200),
        (Method::GET, "/imagefactory/openapi.json".to_owned(), 200),
        (Method::GET, "/healthz".to_owned(), 200),
        (Method::GET, "/metrics".to_owned(), 200), // this machine asks
        (Method::GET, "/imagefactory/plugins".to_owned(), 401),
        (Method::GET, "/imagefactory/targets".to_owned(), 401),
        (Method::GET, "/imagefactory/base_images".to_owned(), 401),
        (Method::GET, format!("/imagefactory/base_images/{id}"), 401),
        (Method::GET, format!("/imagefactory/base_images/{id}/log"), 401),
        (Method::GET, "/imagefactory/events".to_owned(), 401),
        (Method::POST, "/imagefactory/base_images".to_owned(), 401),
        (Method::DELETE, format!("/imagefactory/base_images/{id}"), 401),
        (Method::GET, "/imagefactory/nothing".to_owned(), 404), // the route comes first
        (Method::PUT, "/imagefactory/plugins".to_owned(), 405),
    ] {
        let response = daemon.request(method.clone(), &path).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{method} {path}");
        if status == 401 {
            let challenge = response.headers()["www-authenticate"].to_str().unwrap();
            assert_eq!(challenge, "OAuth realm=\"imagefactory\"");
        }
    }
    let unreadable = daemon.request(Method::GET, "/imagefactory/plugins").header("accept", "a/b");
    assert_eq!(unreadable.send().await.unwrap().status().as_u16(), 401, "Accept comes later");
    let large = daemon.request(Method::POST, "/imagefactory/base_images").body("x".repeat(1001));
    assert_eq!(large.send().await.unwrap().status().as_u16(), 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_reads_open_everything_but_the_contents_of_images() {
    let daemon = Setup::default()
        .flags(&["--no_ssl"])
        .with("clients", json!({"key": "secret"}))
        .with("oauth_open_reads", json!(true))
        .start();
    let id = uuid::Uuid::new_v4();
    for (path, status) in [
        ("plugins".to_owned(), 200),
        ("base_images".to_owned(), 200),
        (format!("base_images/{id}"), 404),
        (format!("base_images/{id}/raw_image"), 401),
        (format!("base_images/{id}/log"), 401),
        (format!("base_images/{id}/artifacts"), 401),
    ] {
        let response = daemon.get(&format!("/imagefactory/{path}")).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
    }
    let response = daemon.post("/imagefactory/base_images", &json!({})).await;
    assert_eq!(response.status().as_u16(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_reads_jeos_images_and_survives_a_broken_file() {
    let daemon = Daemon::start();
    let jeos = daemon.folder.path().join("jeos/ec2.conf");
    std::fs::write(&jeos, "# small images\nmock:east:Fedora:17:x86_64:ami-1:ec2-user\n").unwrap();
    daemon.signal(libc::SIGHUP);
    daemon.wait_for_log("reloaded");
    let images = daemon.get_json("/imagefactory/jeos/images").await;
    assert_eq!(images["images"][0]["image"], "ami-1", "{images}");
    let providers = daemon.get_json("/imagefactory/targets/mock/providers").await;
    assert_eq!(providers["providers"][0]["provider"]["id"], "east", "{providers}");
    std::fs::write(daemon.folder.path().join("imagefactory.conf"), "{").unwrap();
    daemon.signal(libc::SIGHUP);
    daemon.wait_for_log("stays as it was");
    assert_eq!(daemon.get("/imagefactory").await.status().as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_providers_are_listed_without_secrets() {
    let definition = json!({"url": "https://u:canary@h/", "password": "canary", "zone": "a"});
    let providers = json!({"mock": {"my cloud": definition}});
    let daemon = Setup::default().with("providers", providers).start();
    let list = daemon.get_json("/imagefactory/targets/mock/providers").await;
    let href = list["providers"][0]["provider"]["href"].as_str().unwrap();
    let one: Value = daemon.client.get(href).send().await.unwrap().json().await.unwrap();
    assert_eq!(one["provider"]["id"], "my cloud");
    assert_eq!(one["provider"]["definition"]["zone"], "a");
    assert!(!one.to_string().contains("canary"), "{one}");
    let missing = daemon.get("/imagefactory/targets/mock/providers/none").await;
    assert_eq!(missing.status().as_u16(), 404);
    assert_eq!(daemon.get("/imagefactory/targets/moon").await.status().as_u16(), 404);
}
