//! Finished disk images that become base images: orders like any other, whatever is sent and
//! whenever the daemon dies.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;

use imagefactory_model::status::Status;
use imagefactory_tests::callback_listener::CallbackListener;
use imagefactory_tests::daemon::Daemon;
use reqwest::{Method, Response};
use serde_json::{Value, json};

const BASE: &str = "/imagefactory/base_images";

fn form(fields: &[(&str, &[u8])], boundary: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        write!(body, "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n")
            .unwrap();
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
    }
    write!(body, "--{boundary}--\r\n").unwrap();
    body
}

async fn post(
    daemon: &Daemon,
    fields: &[(&str, &[u8])],
    (boundary, key): (&str, Option<&str>),
) -> Response {
    let mut request = daemon
        .request(Method::POST, BASE)
        .header("content-type", format!("multipart/form-data; boundary={boundary}"));
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    request.body(form(fields, boundary)).send().await.unwrap()
}

async fn taken(response: Response) -> Value {
    let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
    assert_eq!(status, 202, "{text}");
    serde_json::from_str::<Value>(&text).unwrap()["base_image"].clone()
}

fn staged(daemon: &Daemon) -> Vec<String> {
    let entries = std::fs::read_dir(daemon.storage().join("staging")).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

async fn stored(daemon: &Daemon) -> usize {
    daemon.get_json(BASE).await["base_images"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_an_order_with_a_key_and_callbacks() {
    let (daemon, listener) = (Daemon::start(), CallbackListener::start().await);
    let parameters = json!({"callbacks": [listener.url("import")]}).to_string();
    let fields: [(&str, &[u8]); 2] =
        [("parameters", parameters.as_bytes()), ("image_body", b"a disk")];
    let image = taken(post(&daemon, &fields, ("one", Some("k"))).await).await;
    assert_eq!((&image["status"], &image["percent_complete"]), (&json!("NEW"), &json!(0)));
    let id = image["id"].as_str().unwrap();
    let done = daemon.finished(id).await;
    assert_eq!(done["status"], "COMPLETE", "{done}");
    assert_eq!(done["status_detail"]["activity"], "Base Image import complete");
    // Another boundary and another order of the parts, as a client that tries again has them.
    let swapped = [fields[1], fields[0]];
    let again = taken(post(&daemon, &swapped, ("two", Some("k"))).await).await;
    assert_eq!(again["id"], image["id"]);
    let other = [fields[0], ("image_body", &b"b disk"[..])];
    assert_eq!(post(&daemon, &other, ("one", Some("k"))).await.status().as_u16(), 422);
    assert_eq!(stored(&daemon).await, 1);
    assert!(staged(&daemon).is_empty(), "{:?}", staged(&daemon));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let all = [Status::Pending, Status::Building, Status::Complete];
    while listener.statuses("import", id) != all {
        assert!(std::time::Instant::now() < deadline, "{:?}", listener.statuses("import", id));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_disk_image_is_refused_and_leaves_nothing() {
    let daemon = Daemon::start();
    let backed = [&b"QFI\xfb\0\0\0\x03\0\0\0\0\0\0\x04\0"[..], &[0; 500]].concat();
    let cut = b"QFI\xfb\0\0\0\x03".to_vec();
    let descriptor = b"# Disk DescriptorFile\nRW 1 FLAT \"/etc/shadow\" 0\n".to_vec();
    for (disk, format, says) in [
        (Vec::new(), "", "empty"),
        (backed.clone(), "", "backing file"),
        (backed, "raw", "backing file"),
        (cut, "", "within its qcow2 header"),
        (descriptor, "", "names other files"),
        (b"words".to_vec(), "qcow2", "first bytes are those of raw"),
        (b"words".to_vec(), "../../x", "no name of a format"),
    ] {
        let fields: [(&str, &[u8]); 2] = [("image_body", &disk), ("format", format.as_bytes())];
        let refused = post(&daemon, &fields, ("b", None)).await;
        let (status, text) = (refused.status().as_u16(), refused.text().await.unwrap());
        assert_eq!(status, 400, "{text}");
        assert!(text.contains(says), "{says:?} is not in {text}");
        assert!(!text.contains("staging"), "no paths of the server: {text}");
    }
    assert_eq!(stored(&daemon).await, 0);
    assert!(staged(&daemon).is_empty(), "{:?}", staged(&daemon));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_answered_survives_a_kill_and_one_that_was_not_leaves_nothing() {
    let mut daemon = Daemon::start();
    // Some megabytes to hash, so that the kill comes before the end now and then.
    let disk = b"0123456789abcdef".repeat(1 << 20);
    for _ in 0..3 {
        let image = taken(post(&daemon, &[("image_body", &disk)], ("b", None)).await).await;
        daemon.kill_and_restart();
        let id = image["id"].as_str().unwrap();
        let done = daemon.finished(id).await;
        assert_eq!(done["status"], "COMPLETE", "{done}");
        let body = daemon.storage().join(format!("{id}.body"));
        assert!(std::fs::read(body).unwrap() == disk);
    }
    // Half an upload.
    let mut stream = TcpStream::connect(daemon.authority()).unwrap();
    let body = form(&[("image_body", &disk)], "b");
    let head = format!(
        "POST {BASE} HTTP/1.1\r\nHost: {}\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n",
        daemon.authority(),
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body[..body.len() / 2]).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while staged(&daemon).is_empty() {
        assert!(std::time::Instant::now() < deadline, "the upload never begins");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    daemon.kill_and_restart();
    daemon.wait_for_log("listening");
    while !staged(&daemon).is_empty() {
        assert!(std::time::Instant::now() < deadline, "{:?}", staged(&daemon));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(stored(&daemon).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn zeros_of_an_upload_become_holes() {
    let daemon = Daemon::start();
    let mut disk = vec![0; 32 << 20];
    disk[..4].copy_from_slice(b"boot");
    let image = taken(post(&daemon, &[("image_body", &disk)], ("b", None)).await).await;
    let id = image["id"].as_str().unwrap();
    assert_eq!(daemon.finished(id).await["status"], "COMPLETE");
    let body = daemon.storage().join(format!("{id}.body"));
    assert!(std::fs::read(&body).unwrap() == disk);
    let kept = body.metadata().unwrap().blocks() * 512;
    // Pieces arrive as they do, and holes begin and end with pages.
    assert!(kept < 16 << 20, "{kept} bytes on disk");
}
