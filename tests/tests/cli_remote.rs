//! The command line as a client of a real daemon, and both on one store at once.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed; nothing of this is shipped"
)]

mod cli_rig;

use cli_rig::{Answer, command, kill, wait_until};
use imagefactory_tests::daemon::{Daemon, Setup};
use imagefactory_tests::factory::TDL_MOCK;
use serde_json::{Value, json};

/// Runs a command with `--url`; files lie in the daemon's folder, which is nobody's business there.
fn remote(daemon: &Daemon, arguments: &[&str]) -> Answer {
    Answer::of(&mut command(daemon.folder.path(), &with_url(daemon, arguments)))
}

fn with_url<'a>(daemon: &'a Daemon, arguments: &[&'a str]) -> Vec<&'a str> {
    [&["--url", daemon.url()], arguments].concat()
}

/// The same in process, on the daemon's own store.
fn local(daemon: &Daemon, arguments: &[&str]) -> Answer {
    Answer::of(&mut command(daemon.folder.path(), arguments))
}

fn write(daemon: &Daemon, name: &str, text: &str) -> String {
    let path = daemon.folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn template(daemon: &Daemon) -> String {
    write(daemon, "mock.tdl", TDL_MOCK)
}

const LONG: [&str; 6] =
    ["--parameter", "mock_duration_ms", "60000", "--parameter", "mock_steps", "600"];

#[test]
fn a_build_through_a_daemon_ends_with_the_same_lines() {
    let daemon = Daemon::start();
    let answer = remote(&daemon, &["base_image", &template(&daemon)]);
    assert_eq!(answer.status, 0, "{answer:?}");
    let id = answer.value("UUID");
    assert_eq!(
        answer.stdout,
        format!(
            "\n============ Final Image Details ============\nUUID: {id}\nType: base_image\n\
             Image filename: {}/imagefactory/base_images/{id}/raw_image\n\
             Image build completed SUCCESSFULLY!\n",
            daemon.url()
        )
    );
    assert!(answer.stderr.contains(&format!("base_image {id}: COMPLETE")), "{answer:?}");
}

#[test]
fn a_cascade_is_pushed_listed_and_deleted_through_a_daemon() {
    let daemon = Daemon::start();
    let provider = format!("@{}", json!({"ledger": daemon.ledger()}));
    let credentials = write(&daemon, "credentials.xml", "<secret>canary-81</secret>");
    let template = template(&daemon);
    let push = ["provider_image", "mock", &provider, &credentials, "--template", &template];
    let answer = remote(&daemon, &push);
    assert_eq!(answer.status, 0, "{answer:?}");
    assert!(answer.value("Image ID on provider").starts_with("mock-"), "{answer:?}");
    let id = answer.value("UUID");
    for kind in ["base_image", "target_image", "provider_image"] {
        assert!(answer.stderr.contains(&format!("{kind} ")), "{answer:?}");
    }

    let images = remote(&daemon, &["--output", "json", "images", r#"{"status": "COMPLETE"}"#]);
    let types: Vec<Value> = images.json()["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["type"].clone())
        .collect();
    assert_eq!(types, ["BaseImage", "TargetImage", "ProviderImage"]);
    let spec = json!({"identifier": id}).to_string();
    let there = remote(&daemon, &["--output", "json", "images", &spec]).json();
    let here = local(&daemon, &["--output", "json", "images", &spec]).json();
    for (key, value) in here.as_object().unwrap() {
        // The daemon tells nobody its paths.
        let wanted = if key == "data" { &Value::Null } else { value };
        assert_eq!(&there[key], wanted, "{key}");
    }

    let deleted = remote(&daemon, &["delete", &id, "--credentials", &credentials]);
    assert_eq!(deleted.status, 0, "{deleted:?}");
    assert_eq!(deleted.stdout, format!("Deleting image with id {id}\n"));
    let again = remote(&daemon, &["delete", &id]);
    assert_eq!(again.stderr, format!("imagefactory: there is no image {id}\n"));
    let logs = format!("{answer:?}{deleted:?}{}", daemon.log());
    assert!(!logs.contains("canary-81"), "{logs}");
}

#[test]
fn what_the_daemon_refuses_is_told_in_its_words() {
    let daemon = Daemon::start();
    let template = template(&daemon);
    let refused = remote(&daemon, &["target_image", "moon", "--template", &template]);
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.stderr.starts_with("imagefactory: the daemon refused (400): "), "{refused:?}");
    assert!(refused.stderr.contains("mocksphere"), "{refused:?}");
    let failed =
        remote(&daemon, &["base_image", "--parameter", "mock_fail", "broken mock", &template]);
    assert_eq!(failed.status, 1, "{failed:?}");
    assert!(failed.stdout.contains("\nImage build FAILED with error: "), "{failed:?}");
    assert!(failed.stdout.contains("broken mock"), "{failed:?}");
    let warned = remote(&daemon, &["base_image", "--parameter", "nobodys", "1", &template]);
    assert_eq!(warned.status, 0, "{warned:?}");
    assert!(warned.stderr.contains("nobodys"), "{warned:?}");
}

#[test]
fn a_daemon_that_is_not_there_is_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("imagefactory.conf"), "{}").unwrap();
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let answer = Answer::of(&mut command(folder.path(), &["--url", &url, "plugins"]));
    assert_eq!(answer.status, 1, "{answer:?}");
    assert!(answer.stderr.starts_with(&format!("imagefactory: no answer from {url}: ")));
    assert_eq!(answer.stderr.lines().count(), 1, "{answer:?}");
    let answer = Answer::of(&mut command(folder.path(), &["--url", "h:1", "plugins"]));
    assert!(answer.stderr.contains("an address such as"), "{answer:?}");
}

#[test]
fn signed_requests_over_tls_pass_and_others_do_not() {
    let daemon = Setup::default()
        .flags(&["--address", "127.0.0.1"])
        .with("clients", json!({"a key": "canary secret"}))
        .start();
    let secret = write(&daemon, "secret", "canary secret\n");
    let wrong = write(&daemon, "wrong", "another\n");
    let key = ["--insecure", "--oauth-key", "a key", "--oauth-secret-file"];

    let passed = remote(&daemon, &[&key[..], &[&secret, "plugins"]].concat());
    assert_eq!(passed.status, 0, "{passed:?}");
    assert!(passed.stdout.contains("MockCloud"), "{passed:?}");
    let query = r#"{"status": "COMPLETE", "type": "BaseImage"}"#;
    let passed = remote(&daemon, &[&key[..], &[&secret, "images", query]].concat());
    assert_eq!(passed.status, 0, "a query is signed too: {passed:?}");
    let built = remote(&daemon, &[&key[..], &[&secret, "base_image", &template(&daemon)]].concat());
    assert_eq!(built.status, 0, "{built:?}");

    let refused = remote(&daemon, &[&key[..], &[&wrong, "plugins"]].concat());
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.stderr.contains("refused (401)"), "{refused:?}");
    let unsigned = remote(&daemon, &["--insecure", "plugins"]);
    assert!(unsigned.stderr.contains("refused (401)"), "{unsigned:?}");
    let untrusted = remote(&daemon, &[&key[1..], &[&secret, "plugins"]].concat());
    assert_eq!(untrusted.status, 1, "{untrusted:?}");
    assert!(untrusted.stderr.contains("certificate"), "{untrusted:?}");
    for answer in [passed, built, refused, unsigned, untrusted] {
        assert!(!format!("{answer:?}").contains("canary"), "{answer:?}");
    }
    assert!(!daemon.log().contains("canary"));
}

#[test]
fn the_daemons_own_certificate_can_be_trusted_by_its_file() {
    let daemon = Setup::default().flags(&["--address", "127.0.0.1", "--no_oauth"]).start();
    let certificate = own_certificate(&daemon);
    let answer = remote(&daemon, &["--cacert", &certificate, "plugins"]);
    assert_eq!(answer.status, 0, "{answer:?}");
}

/// The first PEM file with a certificate below the store: the one that the daemon made.
fn own_certificate(daemon: &Daemon) -> String {
    let entries = std::fs::read_dir(daemon.storage()).unwrap().flatten();
    let is_certificate = |path: &std::path::PathBuf| {
        path.extension().is_some_and(|extension| extension == "pem")
            && std::fs::read_to_string(path).is_ok_and(|text| text.contains("BEGIN CERTIFICATE"))
    };
    let path = entries.map(|entry| entry.path()).find(is_certificate);
    path.unwrap().to_str().unwrap().to_owned()
}

#[test]
fn an_interrupt_ends_the_build_on_the_daemon() {
    let daemon = Daemon::start();
    let template = template(&daemon);
    let arguments = with_url(&daemon, &["base_image", &template]);
    let child = command(daemon.folder.path(), &[&arguments[..], &LONG[..]].concat()).spawn();
    let child = child.unwrap();
    wait_until("it builds", || is_building(&daemon));
    kill(child.id(), libc::SIGINT);
    let answer = Answer::of_child(child);
    assert_eq!(answer.status, 130, "{answer:?}");
    assert!(answer.stdout.contains("\nImage build FAILED with error: "), "{answer:?}");
    let spec = json!({"identifier": answer.value("UUID")}).to_string();
    let image = local(&daemon, &["--output", "json", "images", &spec]).json();
    assert_eq!(image["status_detail"]["error_code"], "cancelled");
}

fn is_building(daemon: &Daemon) -> bool {
    let answer = local(daemon, &["--output", "json", "images", r#"{"status": "BUILDING"}"#]);
    answer.json()["percent_complete"].as_u64().is_some_and(|percent| percent > 0)
}

#[test]
fn logs_templates_and_imports_go_through_a_daemon() {
    let daemon = Daemon::start();
    let template = template(&daemon);
    let built = remote(&daemon, &["--verbose", "base_image", &template]);
    let id = built.value("UUID");
    let there = remote(&daemon, &["logs", &id]);
    assert_eq!(there.stdout, local(&daemon, &["logs", &id]).stdout);
    assert_eq!(there.stdout, remote(&daemon, &["logs", "--follow", &id]).stdout);
    assert!(!there.stdout.is_empty());
    for line in there.stdout.lines() {
        assert!(built.stderr.contains(line), "{line} in {built:?}");
    }

    let good = remote(&daemon, &["template", "check", &template]);
    assert_eq!(good.status, 0, "{good:?}");
    assert!(good.stdout.ends_with(": MockOS_A 1 x86_64, built by MockOS\n"), "{good:?}");
    let broken = write(&daemon, "broken.tdl", "<template>\n  <nome/>\n</template>\n");
    let bad = remote(&daemon, &["template", "check", &broken]);
    assert_eq!(bad.status, 1, "{bad:?}");
    assert!(bad.stdout.contains(&format!("{broken}:2:")), "{bad:?}");

    let disk = write(&daemon, "disk.img", &"x".repeat(4096));
    let imported = remote(&daemon, &["import_base_image", &disk, "--template", &template]);
    assert_eq!(imported.status, 0, "{imported:?}");
    let body = daemon.storage().join(format!("{}.body", imported.value("UUID")));
    assert_eq!(std::fs::read(body).unwrap().len(), 4096);
}

#[test]
fn daemon_and_command_line_build_on_one_store_at_once() {
    let daemon = Daemon::start();
    let template = template(&daemon);
    let here = command(daemon.folder.path(), &["base_image", &template]).spawn().unwrap();
    let there = remote(&daemon, &["base_image", &template]);
    let here = Answer::of_child(here);
    assert_eq!((here.status, there.status), (0, 0), "{here:?} {there:?}");
    let seen = remote(&daemon, &["--output", "json", "images", "{}"]).json();
    assert_eq!(seen["images"].as_array().map(Vec::len), Some(2), "{seen}");
    // Made of an image that the other one built.
    let target = remote(&daemon, &["target_image", "mock", "--id", &here.value("UUID")]);
    assert_eq!(target.status, 0, "{target:?}");
    let deleted = local(&daemon, &["delete", &there.value("UUID")]);
    assert_eq!(deleted.status, 0, "{deleted:?}");
    let gone = remote(&daemon, &["watch", &there.value("UUID")]);
    assert!(gone.stderr.contains("there is no image"), "{gone:?}");
}

#[test]
fn a_daemon_that_starts_leaves_a_living_command_lines_order_alone() {
    let mut daemon = Daemon::start();
    let template = template(&daemon);
    let child = command(daemon.folder.path(), &[&["base_image", &template], &LONG[..]].concat());
    let child = { child }.spawn().unwrap();
    wait_until("it builds", || is_building(&daemon));
    daemon.kill_and_restart();
    assert!(is_building(&daemon), "it goes on");
    // And the daemon's client may end it, through the store.
    let id = local(&daemon, &["--output", "json", "images", "{}"]).json()["identifier"].clone();
    let cancel = remote(&daemon, &["cancel", id.as_str().unwrap()]);
    assert_eq!(cancel.status, 0, "{cancel:?}");
    let answer = Answer::of_child(child);
    assert_eq!(answer.status, 1, "{answer:?}");
    assert_eq!(answer.value("UUID"), id.as_str().unwrap());
}

#[test]
fn a_daemon_goes_on_with_what_a_killed_command_line_left() {
    let mut daemon = Daemon::start();
    let template = template(&daemon);
    let duration = ["--parameter", "mock_duration_ms", "2000", "--parameter", "mock_steps", "20"];
    let arguments = [&["base_image", &template], &duration[..]].concat();
    let child = command(daemon.folder.path(), &arguments).spawn().unwrap();
    wait_until("it builds", || is_building(&daemon));
    kill(child.id(), libc::SIGKILL);
    assert_eq!(Answer::of_child(child).status, -1);
    daemon.kill_and_restart();
    let id = local(&daemon, &["--output", "json", "images", "{}"]).json()["identifier"].clone();
    let watched = remote(&daemon, &["watch", id.as_str().unwrap()]);
    assert_eq!(watched.status, 0, "{watched:?}");
}
