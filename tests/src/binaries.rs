//! Our own programs and plugin libraries, built when a test asks for them.
//!
//! `cargo test -p imagefactory-tests` builds neither the runner nor the mock plugins, because
//! nothing links to them. So the first question for one of them in a test process runs `cargo
//! build` (0.3 s when nothing changed); cargo's own lock makes others wait. Never builds in another
//! profile or folder than the test's own. With `IMAGEFACTORY_TEST_PREBUILT` set, nothing is built:
//! `make test` has done it for all.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The stage runner's program.
pub fn stage_runner() -> PathBuf {
    built("imagefactory-stage-runner").join("imagefactory-stage-runner")
}

/// The daemon's program.
pub fn daemon() -> PathBuf {
    built("imagefactoryd").join("imagefactoryd")
}

/// The command line's program.
pub fn imagefactory() -> PathBuf {
    built("imagefactory").join("imagefactory")
}

/// The library of a plugin crate: `plugin_library("mock_os")` is MockOS.
pub fn plugin_library(plugin: &str) -> PathBuf {
    let package = format!("imagefactory-plugin-{}", plugin.replace('_', "-"));
    built(&package).join(format!("libimagefactory_plugin_{plugin}.so"))
}

/// The workspace's root folder.
pub fn workspace() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests crate lies in the workspace").to_owned()
}

/// The folder of this build's results: `target/debug` in most cases.
pub fn build_folder() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let folder = test.parent().expect("a program lies in a folder");
    match folder.file_name() {
        Some(name) if name == "deps" => folder.parent().expect("deps lies in a folder").to_owned(),
        _ => folder.to_owned(),
    }
}

/// Builds the package once in this process, then answers the folder.
fn built(package: &str) -> PathBuf {
    static BUILT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let folder = build_folder();
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    // `make test` has built the whole workspace a moment ago.
    if std::env::var_os("IMAGEFACTORY_TEST_PREBUILT").is_some() || built.contains(package) {
        return folder;
    }
    // cargo calls the folder of the profile "dev" by another name.
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.current_dir(workspace()).args(["build", "--quiet", "--profile", profile]);
    build.arg("--target-dir").arg(folder.parent().expect("a profile's folder has a parent"));
    let output = build.args(["--package", package]).output().expect("cargo can be started");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo build of {package} failed:\n{complaints}");
    built.insert(package.to_owned());
    folder
}
