//! Clients that read a large answer or the events a byte a second: their connections end, and the
//! daemon serves the others meanwhile. Takes minutes, so only with `IMAGEFACTORY_TEST_LONG`; the
//! clocks themselves have unit tests (`stall.rs`, `rest/streams.rs`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use imagefactory_tests::daemon::Daemon;
use reqwest::Method;
use serde_json::Value;

/// The daemon's patience is two minutes; kernels buffer some megabytes before it begins.
const PATIENCE: Duration = Duration::from_secs(400);

/// Sockets that the daemon has open.
fn sockets(daemon: &Daemon) -> usize {
    let entries = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    let targets = entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

fn ask(daemon: &Daemon, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(daemon.authority()).unwrap();
    let host = daemon.authority();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_a_byte_a_second_is_ended_and_hurts_nobody() {
    if std::env::var_os("IMAGEFACTORY_TEST_LONG").is_none() {
        return;
    }
    let daemon = Daemon::start();
    let disk = vec![b'x'; 100 << 20];
    let mut form = b"--b\r\nContent-Disposition: form-data; name=\"image_body\"\r\n\r\n".to_vec();
    form.extend_from_slice(&disk);
    form.extend_from_slice(b"\r\n--b--\r\n");
    let posted = daemon
        .request(Method::POST, "/imagefactory/base_images")
        .header("content-type", "multipart/form-data; boundary=b")
        .body(form);
    let image: Value = posted.send().await.unwrap().json().await.unwrap();
    let id = image["base_image"]["id"].as_str().unwrap().to_owned();
    assert_eq!(daemon.finished(&id).await["status"], "COMPLETE");
    drop(daemon.client.clone());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = sockets(&daemon);
    let mut slow: Vec<TcpStream> = (0..8)
        .map(|_| ask(&daemon, &format!("/imagefactory/base_images/{id}/raw_image")))
        .collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    while sockets(&daemon) < before + 8 {
        assert!(Instant::now() < deadline, "all are served at first");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let began = Instant::now();
    while sockets(&daemon) > before {
        assert!(began.elapsed() < PATIENCE, "{} are still served", sockets(&daemon) - before);
        for stream in &mut slow {
            // What is broken off here may be heard of or not.
            stream.read(&mut [0]).ok();
        }
        let asked = Instant::now();
        daemon.get_json(&format!("/imagefactory/base_images/{id}")).await;
        assert!(asked.elapsed() < Duration::from_secs(10), "others are served");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    println!("ended after {} s", began.elapsed().as_secs());
}
