//! Good plugins pass: the mocks in Rust and in C, and what `plugin new` writes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

#[path = "abi_build/mod.rs"]
mod abi_build;
mod validator_rig;

use std::io::Write;
use std::path::Path;
use std::process::Command;

use imagefactory_tests::binaries;
use validator_rig::{PluginFolder, broken_rules, imagefactory_plugin};

/// Makes the mocks' operations last where they are to be cancelled or killed.
const SLOW_MOCKS: &str =
    r#"{ "slow_parameters": { "mock_duration_ms": 1500, "mock_steps": 300 } }"#;

/// Validates up to level 4 (one more than the mark needs) and demands that every duty is met.
fn check_passes(folder: &PluginFolder) {
    let manifest = folder.manifest();
    let answer = imagefactory_plugin(&[
        "validate",
        manifest.to_str().expect("a path"),
        "--json",
        "--level",
        "4",
        "--rounds",
        "200",
        "--points",
        "4",
    ]);
    let report = answer.json();
    assert_eq!(broken_rules(&report), [], "{}", answer.stdout);
    assert_eq!(report["verdict"], "passed");
    assert_eq!(answer.status, 0);
    let met = report["counts"]["success"].as_u64().expect("a count");
    assert!(met > 55, "only {met} rules were tried and met: {}", report["counts"]);
}

fn with_slow_mocks(id: &str, library: &Path, manifest: &Path) -> PluginFolder {
    let mut fixtures = tempfile::NamedTempFile::new().expect("a file");
    fixtures.write_all(SLOW_MOCKS.as_bytes()).expect("it can be written");
    PluginFolder::new(id, library, manifest, Some(fixtures.path()))
}

#[test]
fn mock_os_and_mock_cloud_pass() {
    for (id, name) in [("MockOS", "mock_os"), ("MockCloud", "mock_cloud")] {
        let manifest = binaries::workspace().join(format!("plugin-manifests/{id}.json"));
        check_passes(&with_slow_mocks(id, &binaries::plugin_library(name), &manifest));
    }
}

#[test]
fn the_mocks_in_c_and_in_cpp_pass() {
    for id in ["CMockOS", "CMockCloud", "CxxMockOS"] {
        let manifest = abi_build::fixtures().join(format!("{id}.json"));
        check_passes(&with_slow_mocks(id, &abi_build::library(id), &manifest));
    }
}

/// `make` in a folder that `plugin new` has written.
fn make(folder: &Path, arguments: &[String]) {
    let output = Command::new("make")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .env("CARGO_NET_OFFLINE", "true")
        .output()
        .expect("make can be started");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
}

/// Writes a new plugin, builds it as its author would, validates it.
fn check_new(id: &str, language: &str, make_arguments: &[String]) {
    let outside = tempfile::tempdir().expect("a folder");
    let folder = outside.path().join("new");
    let sdk = binaries::workspace().join("plugin-sdk");
    let answer = imagefactory_plugin(&[
        "new",
        id,
        "--language",
        language,
        "--folder",
        folder.to_str().expect("a path"),
        "--sdk",
        sdk.to_str().expect("a path"),
    ]);
    assert_eq!(answer.status, 0, "{}", answer.stderr);
    make(&folder, make_arguments);
    let file = |extension: &str| folder.join(format!("{id}.{extension}"));
    let new = PluginFolder::new(id, &file("so"), &file("json"), Some(&file("validate.json")));
    check_passes(&new);
}

#[test]
fn a_new_plugin_in_c_builds_and_passes() {
    let include = binaries::workspace().join("plugin-sdk/include");
    check_new("My-OS.1", "c", &[format!("CPPFLAGS=-I{}", include.display())]);
}

#[test]
fn a_new_plugin_in_rust_builds_and_passes() {
    let target = binaries::build_folder().join("new-plugin");
    check_new("my-os.2", "rust", &[format!("TARGET_DIR={}", target.display())]);
}

#[test]
fn a_new_plugin_never_overwrites_anything() {
    let there = tempfile::tempdir().expect("a folder");
    let folder = there.path().to_str().expect("a path");
    let answer = imagefactory_plugin(&["new", "MyOS", "--language", "c", "--folder", folder]);
    assert_eq!(answer.status, 2);
    assert!(answer.stderr.contains("exists already"), "{}", answer.stderr);
    assert_eq!(std::fs::read_dir(there.path()).expect("the folder").count(), 0);
}
