//! What the tests with foreign clients share: programs with an end, and the document's plugins.
//!
//! A client is a program of somebody else (HTTPie, curl, Python): it is given its arguments, its
//! standard input and an environment without proxies and settings of the machine's owner.

#![allow(dead_code, reason = "each test program needs some of it")]

pub(crate) mod wire;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use imagefactory_tests::daemon::{Daemon, Setup};
use imagefactory_tests::{binaries, factory, fixture_plugins};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a client may take; they take a second when the machine is quiet.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How a client ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A file of `tests/clients`.
pub(crate) fn file(name: &str) -> PathBuf {
    binaries::workspace().join("tests/clients").join(name)
}

/// Its text.
pub(crate) fn text(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap()
}

/// Runs a client to its end, at most for `patience`.
pub(crate) fn run(program: &Path, arguments: &[&str], input: &str, patience: Duration) -> Ran {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(program);
    command.args(arguments).env("HOME", home.path()).env("HTTPIE_CONFIG_DIR", home.path());
    for variable in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy"] {
        command.env_remove(variable);
    }
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap_or_else(|error| panic!("{program:?}: {error}; make deps"));
    // An error means that the client does not read it.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let stdout = std::thread::spawn(move || all_of(stdout));
    let stderr = std::thread::spawn(move || all_of(stderr));
    let deadline = Instant::now() + patience;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{program:?} {arguments:?} took more than {patience:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    Ran { success: status.success(), stdout, stderr }
}

fn all_of(mut source: impl Read) -> String {
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A daemon for which the mock plugins serve what the document's examples ask for.
pub(crate) fn documents_daemon() -> (Daemon, TempDir) {
    let folder = tempfile::Builder::new().prefix("document-").tempdir().unwrap();
    factory::open_passage(folder.path());
    for (id, library, targets) in [
        ("MockOS", "mock_os", json!([["Fedora", null, null], ["RHEL-6", null, null]])),
        ("MockCloud", "mock_cloud", json!([["ec2"]])),
    ] {
        let manifest = binaries::workspace().join(format!("plugin-manifests/{id}.json"));
        let mut manifest: Value =
            serde_json::from_str(&std::fs::read_to_string(manifest).unwrap()).unwrap();
        manifest["targets"] = targets;
        // The mock's providers are objects; the document names one by a word.
        manifest.as_object_mut().unwrap().remove("provider_schema");
        let changed = folder.path().join(format!("{id}.manifest"));
        std::fs::write(&changed, manifest.to_string()).unwrap();
        let plugins_d = folder.path().join("plugins.d");
        let library = binaries::plugin_library(library);
        fixture_plugins::install_with_manifest(&plugins_d, &changed, &library);
    }
    let setup = Setup { mocks: false, ..Setup::default() };
    let daemon = setup.with("plugins", json!(folder.path().join("plugins.d"))).start();
    (daemon, folder)
}
