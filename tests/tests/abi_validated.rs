//! The plugins that need no SDK, held to every duty of docs/PLUGIN_ABI.md: `imagefactory plugin
//! validate`, all levels, on the C mocks, the C++ fixture and the template for authors; levels 1
//! and 2 on every frozen plugin, which cannot know duties that were added since. That the validator
//! notices what is broken is its own test's business.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed, in its helping functions too"
)]

mod abi_build;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use imagefactory_tests::binaries;
use serde_json::Value;

/// Copies library and manifest into a plugin folder and validates them there; nothing may be broken
/// or advised against, and most of the rules must have been tried.
fn check_passes(id: &str, library: &Path, manifest: &Path, level: &str) {
    let folder = tempfile::tempdir().unwrap();
    let installed = [(library, "so"), (manifest, "json")].map(|(from, extension)| {
        let to = folder.path().join(format!("{id}.{extension}"));
        std::fs::copy(from, &to).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o644)).unwrap();
        to
    });
    // Fewer rounds and points than by default: this is about our plugins, not about rare leaks.
    let answer = Command::new(binaries::imagefactory())
        .args(["plugin", "validate", "--json", "--level", level, "--rounds", "50", "--points", "4"])
        .arg(&installed[1])
        .env_remove("IMAGEFACTORY_PLUGIN_PATH")
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&answer.stderr);
    let report: Value =
        serde_json::from_slice(&answer.stdout).unwrap_or_else(|e| panic!("{id}: {e}: {complaint}"));
    let rules = report["rules"].as_array().unwrap();
    let met = rules.iter().filter(|rule| rule["outcome"] == "success").count();
    let broken: Vec<&Value> = rules
        .iter()
        .filter(|rule| rule["outcome"] != "success" && rule["outcome"] != "skipped")
        .collect();
    assert!(broken.is_empty(), "{id}: {broken:#?}");
    let least = if level == "2" { 40 } else { 55 };
    assert!(met >= least, "{id}: only {met} rules were tried");
    assert_eq!(answer.status.code(), Some(0), "{id}: {complaint}");
}

fn check_fixture(id: &str) {
    check_passes(
        id,
        &abi_build::library(id),
        &abi_build::fixtures().join(format!("{id}.json")),
        "4",
    );
}

#[test]
fn the_c_mock_os_meets_every_duty() {
    check_fixture("CMockOS");
}

#[test]
fn the_c_mock_cloud_meets_every_duty() {
    check_fixture("CMockCloud");
}

#[test]
fn the_cpp_plugin_meets_every_duty() {
    check_fixture("CxxMockOS");
}

#[test]
fn the_template_for_authors_meets_every_duty() {
    let manifest = binaries::workspace().join("plugin-sdk/examples/c/HelloOS.json");
    check_passes("HelloOS", &abi_build::library("HelloOS"), &manifest, "4");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn frozen_plugins_meet_every_duty() {
    let versions = std::fs::read_dir(binaries::workspace().join("tests/old-plugins")).unwrap();
    let versions = versions.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut checked = 0;
    for version in versions {
        for entry in std::fs::read_dir(&version).unwrap() {
            let library = entry.unwrap().path();
            if library.extension().is_some_and(|extension| extension == "so") {
                let id = library.file_stem().unwrap().to_str().unwrap();
                check_passes(id, &library, &library.with_extension("json"), "2");
                checked += 1;
            }
        }
    }
    assert!(checked >= 3);
}
