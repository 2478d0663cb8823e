//! What the tests of `imagefactory plugin validate` share: a plugin folder of its own for each
//! plugin, one run of the program, its JSON.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use imagefactory_tests::{binaries, fixture_plugins};
use serde_json::Value;

/// A folder with one plugin in it.
pub(crate) struct PluginFolder {
    folder: tempfile::TempDir,
    id: String,
}

impl PluginFolder {
    /// Library, manifest and fixtures under the names that a plugin folder has.
    pub(crate) fn new(id: &str, library: &Path, manifest: &Path, fixtures: Option<&Path>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let this = PluginFolder { folder, id: id.to_owned() };
        this.put(&this.library(), &fs::read(library).expect("the library"));
        this.put(&this.manifest(), &fs::read(manifest).expect("the manifest"));
        if let Some(fixtures) = fixtures {
            let path = this.folder.path().join(format!("{id}.validate.json"));
            this.put(&path, &fs::read(fixtures).expect("the fixtures"));
        }
        this
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn library(&self) -> PathBuf {
        self.folder.path().join(format!("{}.so", self.id))
    }

    pub(crate) fn manifest(&self) -> PathBuf {
        self.folder.path().join(format!("{}.json", self.id))
    }

    /// Changes the manifest.
    pub(crate) fn edit_manifest(&self, edit: impl Fn(&mut Value)) {
        let text = fs::read(self.manifest()).expect("the manifest");
        let mut manifest = serde_json::from_slice(&text).expect("the manifest is JSON");
        edit(&mut manifest);
        self.put(&self.manifest(), manifest.to_string().as_bytes());
    }

    /// Changes the library's bytes.
    pub(crate) fn edit_library(&self, edit: impl Fn(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.library()).expect("the library");
        edit(&mut bytes);
        self.put(&self.library(), &bytes);
    }

    fn put(&self, path: &Path, bytes: &[u8]) {
        fs::write(path, bytes).expect("a file of the plugin folder");
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("its mode");
    }
}

/// One run of the program.
pub(crate) struct Answer {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}{}", self.stdout, self.stderr))
    }
}

/// `imagefactory plugin ARGUMENTS`, with the runner of this build.
pub(crate) fn imagefactory_plugin(arguments: &[&str]) -> Answer {
    let output = Command::new(binaries::imagefactory())
        .arg("plugin")
        .args(arguments)
        .env_remove("IMAGEFACTORY_PLUGIN_PATH")
        .output()
        .expect("imagefactory can be started");
    Answer {
        status: output.status.code().expect("imagefactory is not killed"),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Rules that were not met or not advised, as `(number, outcome, messages)`.
pub(crate) fn broken_rules(report: &Value) -> Vec<(u16, String, String)> {
    let rules = report["rules"].as_array().expect("rules");
    let broken =
        rules.iter().filter(|rule| rule["outcome"] != "success" && rule["outcome"] != "skipped");
    broken
        .map(|rule| {
            let id = rule["id"].as_str().expect("an id");
            let number = id.trim_start_matches("IMGF-P-").parse().expect("a number");
            let outcome = rule["outcome"].as_str().expect("an outcome").to_owned();
            (number, outcome, rule["messages"].to_string())
        })
        .collect()
}

/// The broken fixture, compiled with these arguments; hardened as a plugin should be.
pub(crate) fn broken_library(arguments: &[String]) -> PathBuf {
    let mut all: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if !all.iter().any(|argument| argument.starts_with("-Wl,-z")) {
        all.extend(["-Wl,-z,relro", "-Wl,-z,now"]);
    }
    fixture_plugins::c_library_with("broken", &all)
}
