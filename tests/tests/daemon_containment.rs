//! The daemon says at its start which kinds of hostile plugin this machine cannot contain, and does
//! not start where the configuration insists that it can.
//!
//! The machine without namespaces is made by a limit that holds for the daemon alone
//! (`stage_rig::without_namespaces`); that such stages are confined as far as possible, and what
//! strict means for one of them, is shown in `hostile_plugins/no_sandbox.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed, in its helping functions too"
)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use imagefactory_tests::daemon::Setup;
use imagefactory_tests::{binaries, stage_rig};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What the log of a daemon without namespaces says of a plugin that it cannot hold.
const DEED: &str = "not contained in profile cloud: a hostile plugin can leave processes behind";

/// A store and a configuration.
fn home(sandbox: Value) -> TempDir {
    let folder = tempfile::Builder::new().prefix("contained-").tempdir().unwrap();
    std::fs::create_dir(folder.path().join("plugins.d")).unwrap();
    let configuration = json!({
        "image_manager_args": {"storage_path": folder.path().join("storage")},
        "tmpdir": folder.path().join("tmp"),
        "cache_dir": folder.path().join("cache"),
        "plugins": folder.path().join("plugins.d"),
        "jeos_config": folder.path().join("jeos"),
        "stage_runner": binaries::stage_runner(),
        "sandbox": sandbox,
    });
    std::fs::write(folder.path().join("imagefactory.conf"), configuration.to_string()).unwrap();
    folder
}

/// Starts a daemon that gets no namespaces; its log until it listens or ends, and its exit status
/// if it ended by itself.
fn start_without_namespaces(home: &TempDir) -> (String, Option<i32>) {
    let mut command: Command = stage_rig::without_namespaces(&binaries::daemon());
    let mut daemon = command
        .arg("--config")
        .arg(home.path().join("imagefactory.conf"))
        .args(["--port", "0", "--verbose", "--no_ssl", "--no_oauth"])
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = String::new();
    for line in BufReader::new(daemon.stderr.take().unwrap()).lines() {
        log.push_str(&line.unwrap());
        log.push('\n');
        if log.contains("listening on ") {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
            return (log, None);
        }
    }
    (log, daemon.wait().unwrap().code())
}

#[test]
fn without_namespaces_the_daemon_says_what_it_cannot_contain_and_starts() {
    let (log, ended) = start_without_namespaces(&home(json!({})));
    assert_eq!(ended, None, "{log}");
    for words in [DEED, "max_user_namespaces", "profile os-userns", "landlock"] {
        assert!(log.contains(words), "{words}: {log}");
    }
}

#[test]
fn with_a_strict_sandbox_it_does_not_start_and_says_why() {
    let (log, ended) = start_without_namespaces(&home(json!({"strict": true})));
    assert!(ended.is_some_and(|status| status != 0), "{ended:?} {log}");
    assert!(!log.contains("listening on "), "{log}");
    let last = log.lines().last().unwrap_or_default();
    for words in ["pid-namespace", "max_user_namespaces", "\"strict\": false"] {
        assert!(last.contains(words), "{words}: {last}");
    }
}

#[test]
fn where_stages_are_confined_the_daemon_says_by_what() {
    let daemon = Setup::default().start();
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("stages of profile cloud are confined by: "));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    for layer in ["pid-namespace", "mount-namespace", "landlock", "seccomp", "no-new-privs"] {
        assert!(line.contains(layer), "{layer}: {line}");
    }
    assert!(!log.contains(DEED), "{log}");
}

#[test]
fn a_command_line_says_it_when_it_is_asked_to_be_verbose() {
    let home = home(json!({}));
    let run = |flag: &[&str]| {
        let mut command = Command::new(binaries::imagefactory());
        command.arg("--config").arg(home.path().join("imagefactory.conf")).args(flag);
        let ran = command.arg("plugins").env_remove("RUST_LOG").output().unwrap();
        String::from_utf8(ran.stderr).unwrap()
    };
    let words = "stages of profile cloud are confined by: ";
    assert!(run(&["--verbose"]).contains(words), "{}", run(&["--verbose"]));
    assert!(!run(&[]).contains(words));
}
