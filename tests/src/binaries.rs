//! Our own programs and plugin libraries, built when a test asks for them.
//!
//! `cargo test -p imagefactory-tests` builds neither the runner nor the mock plugins, because
//! nothing links to them. So the first question of a test process runs one `cargo build` for all of
//! them (0.3 s when nothing changed); cargo's own lock makes others wait. Never builds in another
//! profile or folder than the test's own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// All that tests start or load, apart from fixtures.
const PACKAGES: [&str; 4] = [
    "imagefactory-stage-runner",
    "imagefactory-plugin-mock-os",
    "imagefactory-plugin-mock-cloud",
    "imagefactory",
];

/// The stage runner's program.
pub fn stage_runner() -> PathBuf {
    built().join("imagefactory-stage-runner")
}

/// The command line's program.
pub fn imagefactory() -> PathBuf {
    built().join("imagefactory")
}

/// The library of a plugin crate: `plugin_library("mock_os")` is MockOS.
pub fn plugin_library(plugin: &str) -> PathBuf {
    built().join(format!("libimagefactory_plugin_{plugin}.so"))
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

/// Builds once in this process, then answers the folder.
fn built() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = build_folder();
        // cargo calls the folder of the profile "dev" by another name.
        let profile = match folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(other) => other,
        };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.current_dir(workspace()).args(["build", "--quiet", "--profile", profile]);
        build.arg("--target-dir").arg(folder.parent().expect("a profile's folder has a parent"));
        for package in PACKAGES {
            build.args(["--package", package]);
        }
        let output = build.output().expect("cargo can be started");
        assert!(
            output.status.success(),
            "cargo build of {PACKAGES:?} failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        folder
    })
}
