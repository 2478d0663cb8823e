//! Plugins as they were compiled when an ABI version was released, run by today's host; and today's
//! plugins, run by a host that knows nothing but the headers of such a version.
//!
//! `tests/old-plugins/VERSION` holds them with their manifests; `README.md` there says how they
//! came to be. Each is described and then runs each of its operations through the real supervisor
//! and the real runner, as a stage of its own. Containment is not the question here, so they run
//! without a sandbox profile; the hostile plugins' tests are about that.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed, in its helping functions too"
)]

mod abi_build;
mod abi_host;
mod abi_stages;

use std::path::{Path, PathBuf};

use abi_host::{Plugin, RecordingHost, Stage};
use abi_stages::{Factory, INPUT, TARGET_CONTENT};
use imagefactory_model::stage::{JournalEvent, Operation};
use imagefactory_plugin_sdk::abi;
use imagefactory_tests::binaries;
use serde_json::{Value, json};

const TEMPLATE: &str = "<template><name>old</name></template>";

/// Manifest of each frozen plugin, all versions.
fn frozen() -> Vec<PathBuf> {
    let folder = binaries::workspace().join("tests/old-plugins");
    let below = |folder: PathBuf| {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let versions = below(folder).into_iter().filter(|path| path.is_dir());
    let files = versions.flat_map(below);
    files.filter(|path| path.extension().is_some_and(|e| e == "json")).collect()
}

fn manifest(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn frozen_plugins_are_small_and_are_the_files_that_their_manifests_name() {
    let frozen = frozen();
    assert!(frozen.len() >= 3, "{frozen:?}");
    for path in frozen {
        let manifest = manifest(&path);
        let name = manifest["library"]["path"].as_str().unwrap();
        let library = path.with_file_name(name);
        let bytes = std::fs::metadata(&library).unwrap().len();
        assert!(bytes <= 64 << 10, "{name} has {bytes} bytes");
        let sum = std::process::Command::new("sha256sum").arg(&library).output().unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        assert!(sum.starts_with(manifest["library"]["sha256"].as_str().unwrap()), "{name}");
        assert!(path.with_file_name("MADE.md").is_file(), "nobody knows how {name} was made");
    }
}

#[test]
fn todays_plugins_fit_the_oldest_host_of_their_major() {
    let c = ["CMockOS", "CMockCloud", "CxxMockOS"].map(abi_build::library);
    let rust = ["mock_os", "mock_cloud"].map(binaries::plugin_library);
    for library in c.into_iter().chain(rust) {
        // Plugin::load offers exactly 1.0 to 1.0 and insists on an answer.
        let plugin = Plugin::load(&library);
        assert!(!plugin.id().is_empty());
    }
}

#[test]
fn new_plugins_run_on_old_hosts() {
    let c = ["CMockOS", "CMockCloud", "CxxMockOS"].map(abi_build::library);
    let rust = ["mock_os", "mock_cloud"].map(binaries::plugin_library);
    let plugins: Vec<PathBuf> = c.into_iter().chain(rust).collect();
    let released = abi_build::released_abis();
    assert!(!released.is_empty());
    for abi in released {
        let host = abi_build::old_host(&abi);
        for plugin in &plugins {
            check_old_host(&abi, &host, plugin);
        }
    }
}

/// Runs one stage of a plugin in an old host and judges what both left and said.
fn check_old_host(abi: &str, host: &Path, plugin: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let token = "1f0c3a5e-0000-4000-8000-000000000001";
    let mut run = std::process::Command::new(host);
    let ran = run.args([plugin, folder.path(), Path::new(token)]).output().unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    let complaint = String::from_utf8(ran.stderr).unwrap();
    let what = format!("{} on a host of {abi}:\n{said}{complaint}", plugin.display());
    assert!(ran.status.success(), "{what}");
    let has = |line: &str| said.lines().any(|l| l.starts_with(line));
    if folder.path().join("output").exists() {
        let bytes = std::fs::metadata(folder.path().join("output")).unwrap().len();
        assert!(bytes >= 64 << 10, "{what}");
        assert!(has("result format \"raw\""), "{what}");
    } else {
        let ledger = std::fs::read_to_string(folder.path().join("ledger")).unwrap();
        assert!(ledger.starts_with(&format!("create {token} ")), "{ledger}\n{what}");
        assert!(has(&format!("journal will_create mock-image {token}")), "{what}");
        assert!(has("result identifier_on_provider "), "{what}");
    }
    assert!(has("status 0"), "{what}");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn old_plugins_run_on_this_host() {
    for path in frozen() {
        let factory = Factory::new(&path);
        let facts = factory.describe();
        let manifest = manifest(&path);
        assert_eq!(facts.id, manifest["id"]);
        assert_eq!(facts.abi_chosen, "1.0");
        let capabilities = manifest["capabilities"].as_array().unwrap();
        for capability in capabilities {
            let operations = Operation::ALL.into_iter();
            let operation = operations.clone().find(|o| capability == o.name()).unwrap();
            let offered = facts.operations.iter().any(|name| name == operation.name());
            assert!(offered, "{}: {operation}", path.display());
            check_runs(&factory, operation);
        }
    }
}

/// Runs one operation as a stage and judges what it brought back.
#[cfg(target_arch = "x86_64")]
fn check_runs(factory: &Factory, operation: Operation) {
    if operation == Operation::Cleanup {
        let left = factory.run(Operation::PushImageToProvider, TEMPLATE);
        assert!(left.outcome.is_ok());
    }
    let ran = factory.run(operation, TEMPLATE);
    let what = format!("{} {operation}", factory.plugin_id());
    let outcome = ran.outcome.as_ref().unwrap_or_else(|e| panic!("{what}: {e:?}"));
    let output = outcome.output.as_ref().map(|output| output.bytes);
    match operation {
        Operation::CreateBaseImage => assert!(output >= Some(64 << 10), "{what}"),
        Operation::CreateTargetImage => {
            let bytes = INPUT.len() + TARGET_CONTENT.len() + "\n".len();
            assert_eq!(output, Some(bytes as u64), "{what}");
        }
        Operation::VerifyImage => {
            assert_eq!(outcome.results["verified"]["ok"], json!(false), "{what}");
        }
        Operation::ResolveInputs => {
            assert_eq!(outcome.results["input_digest"], json!("CMockOS 1.0.0"), "{what}");
        }
        Operation::BuilderShouldCreateTargetImage => {
            assert_eq!(outcome.should_create_target_image, Some(true), "{what}");
        }
        Operation::BuilderWillCreateTargetImage => {
            assert_eq!(outcome.target_contents.len(), 1, "{what}");
        }
        Operation::BuilderDidCreateTargetImage => assert_eq!(output, None, "{what}"),
        Operation::PushImageToProvider | Operation::SnapshotImageOnProvider => {
            let events = [JournalEvent::WillCreate, JournalEvent::Created];
            assert_eq!(ran.journal_events(), events, "{what}");
            let identifier = outcome.results["identifier_on_provider"].as_str().unwrap();
            let line = format!("create {} {identifier}\n", ran.stage_id);
            assert!(factory.ledger().contains(&line), "{what}: {}", factory.ledger());
        }
        Operation::DeleteFromProvider | Operation::Cleanup => {
            let lines: Vec<String> = factory.ledger().lines().map(String::from).collect();
            let [.., created, removed] = lines.as_slice() else { panic!("{what}: {lines:?}") };
            assert_eq!(*removed, created.replace("create", "remove"), "{what}");
            let recorded = if operation == Operation::Cleanup { 1 } else { 0 };
            assert_eq!(ran.journal_events(), vec![JournalEvent::Removed; recorded], "{what}");
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn an_old_plugin_that_fails_fails_with_its_own_words() {
    for path in frozen().iter().filter(|path| path.ends_with("CMockOS.json")) {
        let factory = Factory::new(path);
        let wish = json!({"mock_fail": "the old way"});
        let ran = factory.run_with(Operation::CreateBaseImage, TEMPLATE, wish);
        let failure = ran.outcome.unwrap_err();
        assert!(failure.message.contains("the old way"), "{failure:?}");
    }
}

/// The image that MockOS's twins make, whatever they are written in and compiled with.
fn image_of(library: &Path) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let host = RecordingHost::new(folder.path());
    let instance = Plugin::load(library).create(&host);
    let status = instance.call(instance.os().create_base_image, &Stage::with_template(TEMPLATE));
    assert_eq!(status, abi::IMGF_OK, "{:?}", instance.recorded().errors);
    std::fs::read(host.output()).unwrap()
}

#[test]
fn the_rust_mock_and_the_c_mock_make_the_same_image() {
    let c = image_of(&abi_build::library("CMockOS"));
    assert!(c.starts_with(b"mock image "));
    assert!(c == image_of(&binaries::plugin_library("mock_os")), "the images differ");
}

#[test]
fn mock_os_built_by_the_distributions_own_old_rustc_makes_the_same_image() {
    let rustc = Path::new("/usr/bin/rustc");
    if !rustc.exists() {
        // Continuous integration installs it: an absent compiler there is a defect of the recipe.
        assert!(std::env::var_os("CI").is_none(), "install the distribution's rustc (apt: rustc)");
        eprintln!("SKIPPED, NOTHING WAS PROVED: /usr/bin/rustc is absent; install package rustc");
        return;
    }
    let library = abi_build::mock_os_by_plain_rustc(rustc);
    let exported = abi_build::exported_symbols(&library);
    assert_eq!(exported, [abi::IMGF_ENTRY_SYMBOL]);
    assert!(image_of(&library) == image_of(&abi_build::library("CMockOS")), "the images differ");
    check_runs_as_mock_os(&library);
}

/// The library with MockOS's own manifest, through supervisor and runner.
fn check_runs_as_mock_os(library: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("MockOS.json");
    std::fs::copy(binaries::workspace().join("plugin-manifests/MockOS.json"), &manifest).unwrap();
    std::fs::copy(library, folder.path().join("MockOS.so")).unwrap();
    let factory = Factory::new(&manifest);
    assert_eq!(factory.describe().abi_compiled, "1.0");
    let built = factory.run(Operation::CreateBaseImage, TEMPLATE).outcome.unwrap();
    assert_eq!(built.output.unwrap().format, "raw");
}
