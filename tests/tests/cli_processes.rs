//! The command line among processes: interrupts, other commands on the same store, readers that go
//! away, listeners that hear of a build.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed; nothing of this is shipped"
)]

mod cli_rig;

use std::io::{BufRead, BufReader, Read};

use cli_rig::{Answer, Home, command, kill, wait_until};
use serde_json::{Value, json};

#[test]
fn an_interrupted_build_ends_cleanly_with_status_130() {
    let home = Home::new();
    let child = home.spawn(&long_build(&home));
    let pid = child.id();
    wait_until("it builds", || is_building(&home));
    kill(pid, libc::SIGINT);
    let answer = Answer::of_child(child);
    assert_eq!(answer.status, 130, "{answer:?}");
    let id = answer.value("UUID");
    assert!(answer.stdout.contains("\nImage build FAILED with error: "), "{answer:?}");
    let meta = home.meta(&id);
    assert_eq!(meta["status"], "FAILED");
    assert_eq!(meta["status_detail"]["error_code"], "cancelled");
    home.check_nothing_left_behind();
}

#[test]
fn an_interrupted_cascade_ends_all_its_images() {
    let home = Home::new();
    let (template, provider) = (home.template(), home.provider());
    let arguments = ["provider_image", "mock", &provider, "@mock", "--template", &template];
    let child = home.spawn(&[&arguments[..], &LONG[..]].concat());
    let pid = child.id();
    wait_until("it builds", || is_building(&home));
    kill(pid, libc::SIGTERM);
    let answer = Answer::of_child(child);
    assert_eq!(answer.status, 143, "{answer:?}");
    let failed = home.json(&["images", r#"{"status": "FAILED"}"#]);
    assert_eq!(failed["images"].as_array().map(Vec::len), Some(3), "{failed}");
    home.check_nothing_left_behind();
}

#[test]
fn a_second_interrupt_ends_the_command_at_once() {
    let home = Home::new();
    let mut child = home.spawn(&long_build(&home));
    let pid = child.id();
    wait_until("it builds", || is_building(&home));
    // A stage that stands still cannot end cleanly, so the first interrupt alone would wait for it.
    let runners = children_of(pid);
    assert!(!runners.is_empty(), "a stage runs");
    runners.iter().for_each(|runner| kill(*runner, libc::SIGSTOP));
    kill(pid, libc::SIGINT);
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut seen = String::new();
    while !seen.contains("interrupt again") {
        assert_ne!(errors.read_line(&mut seen).unwrap(), 0, "{seen}");
    }
    kill(pid, libc::SIGINT);
    let answer = Answer::of_child(child);
    for runner in runners {
        // Gone with the command, or ours to end.
        let runner = i32::try_from(runner).unwrap();
        // SAFETY: kill has no memory preconditions; a stopped process keeps its id.
        unsafe { libc::kill(runner, libc::SIGKILL) };
    }
    errors.read_to_string(&mut seen).unwrap();
    assert_eq!((answer.status, answer.stdout.as_str()), (130, ""), "no final lines: {seen}");
    assert!(seen.contains("ended at once"), "{seen}");
}

/// The processes whose parent this is.
fn children_of(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line == format!("PPid:\t{parent}"))
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(is_child).collect()
}

const LONG: [&str; 6] =
    ["--parameter", "mock_duration_ms", "60000", "--parameter", "mock_steps", "600"];

fn long_build(home: &Home) -> Vec<&'static str> {
    let template: &'static str = home.template().leak();
    [&["base_image", template], &LONG[..]].concat()
}

fn is_building(home: &Home) -> bool {
    let images = home.json(&["images", r#"{"status": "BUILDING"}"#]);
    images["percent_complete"].as_u64().is_some_and(|percent| percent > 0)
}

#[test]
fn a_cancel_of_another_process_ends_the_build() {
    let home = Home::new();
    let child = home.spawn(&long_build(&home));
    wait_until("it builds", || is_building(&home));
    let id = home.json(&["images", "{}"])["identifier"].as_str().unwrap().to_owned();
    let cancel = home.run(&["cancel", &id]);
    assert_eq!((cancel.status, cancel.stdout), (0, format!("Cancelling image with id {id}\n")));
    let watch = home.run(&["watch", &id]);
    assert_eq!(watch.status, 1, "{watch:?}");
    assert!(watch.stdout.lines().last().unwrap().contains("FAILED"), "{watch:?}");
    let answer = Answer::of_child(child);
    assert_eq!(answer.status, 1, "it was not interrupted itself: {answer:?}");
    assert_eq!(home.meta(&id)["status_detail"]["error_code"], "cancelled");
    let again = home.run(&["cancel", &id]);
    assert_eq!(again.status, 1);
    assert!(again.stderr.contains("nothing to cancel"), "{again:?}");
}

#[test]
fn a_followed_log_ends_with_its_build() {
    let home = Home::new();
    let template = home.template();
    let duration = ["--parameter", "mock_duration_ms", "1500", "--parameter", "mock_steps", "6"];
    let build = home.spawn(&[&["base_image", &template], &duration[..]].concat());
    wait_until("it builds", || is_building(&home));
    let id = home.json(&["images", "{}"])["identifier"].as_str().unwrap().to_owned();
    let followed = home.run(&["logs", "--follow", &id]);
    let answer = Answer::of_child(build);
    assert_eq!((followed.status, answer.status), (0, 0), "{followed:?} {answer:?}");
    assert_eq!(followed.stdout, home.run(&["logs", &id]).stdout, "nothing is left out or twice");
}

#[test]
fn callbacks_are_delivered_in_order_where_no_daemon_does_it() {
    let home = Home::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/heard", listener.local_addr().unwrap());
    let hearing = std::thread::spawn(move || {
        let mut heard = Vec::new();
        while heard.last().is_none_or(|status| status != "COMPLETE") {
            heard.push(hear(listener.accept().unwrap().0));
        }
        heard
    });
    let callbacks = json!([url]).to_string();
    let answer =
        home.run(&["base_image", "--parameter", "callbacks", &callbacks, &home.template()]);
    assert_eq!(answer.status, 0, "{answer:?}");
    assert_eq!(hearing.join().unwrap(), ["PENDING", "BUILDING", "COMPLETE"]);
}

/// One request and its answer; says which status it told of.
fn hear(mut connection: std::net::TcpStream) -> String {
    use std::io::Write;
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let mut bytes = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(length) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            bytes = length.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; bytes];
    reader.read_exact(&mut body).unwrap();
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    connection.write_all(answer.as_bytes()).unwrap();
    let document: Value = serde_json::from_slice(&body).unwrap();
    document["base_image"]["status"].as_str().unwrap().to_owned()
}

#[test]
fn commands_that_start_at_once_on_a_new_store_do_not_disturb_each_other() {
    let home = Home::new();
    // What the Python factory left: taken over once, by whoever comes first.
    std::fs::create_dir(home.path("storage")).unwrap();
    let id = "0c2a7c4e-58ba-4ff7-9a1f-0ad9ee7ad131";
    let meta = json!({"type": "BaseImage", "identifier": id, "status": "COMPLETE",
        "percent_complete": 100, "template": "<template/>", "parameters": {}, "properties": {}});
    home.write(&format!("storage/{id}.meta"), &meta.to_string());
    home.write(&format!("storage/{id}.body"), "a disk");
    let children: Vec<_> =
        (0..6).map(|_| home.spawn(&["--output", "json", "images", "{}"])).collect();
    for child in children {
        let answer = Answer::of_child(child);
        assert_eq!(answer.status, 0, "{answer:?}");
        assert_eq!(answer.json()["identifier"], id, "{answer:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let home = Home::new();
    home.base_image();
    let mut child = command(home.folder.path(), &["watch"]).spawn().unwrap();
    drop(child.stdout.take());
    home.base_image();
    wait_until("it ends by itself", || child.try_wait().unwrap().is_some());
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!((child.wait().unwrap().code(), errors.as_str()), (Some(0), ""));
}
