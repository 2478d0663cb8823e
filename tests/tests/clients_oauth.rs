//! OAuth as others sign: requests_oauthlib (Python), and curl with a header made by hand.
//!
//! Nothing of our own signer is used here, so that a mistake on both of our sides cannot hide.
//! Every refusal is 401 with `WWW-Authenticate`, whatever was wrong.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

mod clients_rig;

use std::collections::BTreeMap;
use std::path::Path;

use clients_rig::{PATIENCE, file, run};
use imagefactory_tests::daemon::{Daemon, Setup};
use imagefactory_tests::factory::TDL_MOCK;
use serde_json::{Value, json};

const KEY: &str = "client1";
/// With everything that percent-encoding can get wrong.
const SECRET: &str = "our secret & =+/%~ü";
/// curl's script encodes less.
const PLAIN_KEY: &str = "client2";
const PLAIN_SECRET: &str = "just-between=us/+%";

/// What the script's lawful cases are answered with.
const LAWFUL: [(&str, u64); 9] = [
    ("a signed read", 200),
    ("a read with odd query parameters", 200),
    ("a read signed with HMAC-SHA256", 200),
    ("a signed form", 202),
    ("signed JSON without body hash", 202),
    ("signed JSON with body hash", 202),
    ("any realm", 200),
    ("a signed DELETE", 204),
    ("open to all", 200),
];

/// All others are refused; a script that loses a case fails here.
const UNLAWFUL: usize = 34;

fn signed_daemon(flags: &[&str]) -> Daemon {
    let clients = json!({KEY: SECRET, PLAIN_KEY: PLAIN_SECRET});
    Setup::default().with("clients", clients).flags(flags).start()
}

fn check_answers_to_requests_oauthlib(daemon: &Daemon) {
    let template = daemon.folder.path().join("mock.tdl");
    std::fs::write(&template, TDL_MOCK).unwrap();
    let script = file("oauth_requests.py");
    let arguments =
        [script.to_str().unwrap(), daemon.url(), KEY, SECRET, template.to_str().unwrap()];
    // Debian's own Python, where python3-requests-oauthlib is installed.
    let ran = run(Path::new("/usr/bin/python3"), &arguments, "", PATIENCE);
    assert!(ran.success, "{}{}", ran.stdout, ran.stderr);
    let mut answers: BTreeMap<String, (u64, Option<String>)> =
        serde_json::from_str(&ran.stdout).unwrap();
    for (case, status) in LAWFUL {
        assert_eq!(answers.remove(case), Some((status, None)), "{case}: {}", daemon.log());
    }
    for (case, (status, challenge)) in &answers {
        assert_eq!(*status, 401, "{case}");
        let challenge = challenge.as_deref().unwrap_or_default();
        assert_eq!(challenge, "OAuth realm=\"imagefactory\"", "{case}");
    }
    assert_eq!(answers.len(), UNLAWFUL, "{:?}", answers.keys());
    assert!(!daemon.log().contains(SECRET), "a secret is in the log");
}

/// The status and the challenge that curl was answered with.
fn curl(daemon: &Daemon, variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let url = format!("{}/imagefactory/{}", daemon.url(), arguments[1]);
    let script = file("curl_signed.sh");
    let mut all: Vec<String> =
        variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    all.extend([script.to_str().unwrap(), arguments[0], &url].map(str::to_owned));
    all.extend([PLAIN_KEY, PLAIN_SECRET].map(str::to_owned));
    all.extend(arguments[2..].iter().map(ToString::to_string));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let ran = run(Path::new("env"), &all, "", PATIENCE);
    assert!(ran.success, "{}{}", ran.stdout, ran.stderr);
    ran.stdout.trim().to_owned()
}

const REFUSED: &str = "401 OAuth realm=\"imagefactory\"";

#[tokio::test(flavor = "multi_thread")]
async fn requests_oauthlib_is_understood_and_every_forgery_of_it_is_refused() {
    check_answers_to_requests_oauthlib(&signed_daemon(&["--no_ssl"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_of_requests_oauthlib_hold_over_tls_too() {
    check_answers_to_requests_oauthlib(&signed_daemon(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_made_by_hand_is_taken_once() {
    let daemon = signed_daemon(&["--no_ssl"]);
    assert_eq!(curl(&daemon, &[], &["GET", "plugins"]), "200");
    let body = json!({"base_image": {"template": TDL_MOCK}}).to_string();
    let json = ["POST", "base_images", "--header", "Content-Type: application/json", "-d", &body];
    assert_eq!(curl(&daemon, &[], &json), "202");
    let once = [("NONCE", "once")];
    assert_eq!(curl(&daemon, &once, &["GET", "plugins"]), "200");
    // In another second too: a nonce is good once in its whole window.
    assert_eq!(curl(&daemon, &once, &["GET", "plugins"]), REFUSED);
    assert_eq!(curl(&daemon, &[("HEADER_AGAIN", "1")], &["GET", "plugins"]), REFUSED);
    assert_eq!(curl(&daemon, &[("TIMESTAMP", "1")], &["GET", "plugins"]), REFUSED);
    let host = ["GET", "plugins", "--header", "Host: 127.0.0.1:1"];
    assert_eq!(curl(&daemon, &[], &host), REFUSED);
    let hosts = ["GET", "plugins", "--header", "Host: a", "--header", "Host: b"];
    assert_ne!(curl(&daemon, &[], &hosts), "200");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_is_remembered_by_the_next_daemon() {
    let mut daemon = signed_daemon(&["--no_ssl"]);
    let once = [("NONCE", "before-the-kill")];
    assert_eq!(curl(&daemon, &once, &["GET", "plugins"]), "200");
    daemon.kill_and_restart();
    assert_eq!(curl(&daemon, &[], &["GET", "plugins"]), "200");
    // Signed anew, for the new port: only its nonce is old.
    assert_eq!(curl(&daemon, &once, &["GET", "plugins"]), REFUSED);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_clients_everything_that_needs_a_signature_is_refused() {
    let daemon = Setup::default().with("clients", json!({})).flags(&["--no_ssl"]).start();
    assert_eq!(curl(&daemon, &[], &["GET", "plugins"]), REFUSED);
    let open: Value = daemon.get_json("/imagefactory").await;
    assert_eq!(open["api_version"], "2.0");
}
