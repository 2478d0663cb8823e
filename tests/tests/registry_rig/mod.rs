//! A machine's plugin folders in a temporary place, for the tests of the registry.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use imagefactory_registry::{DescribedPlugins, Entry, Registry, SearchPath};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Two folders, the administrator's and the packages', both empty at first.
pub(crate) struct Machine {
    root: TempDir,
}

impl Machine {
    pub(crate) fn new() -> Self {
        // By its real name: the registry tells libraries by theirs.
        let temporary = fs::canonicalize(std::env::temp_dir()).unwrap();
        let machine = Machine { root: tempfile::tempdir_in(temporary).unwrap() };
        for folder in [machine.etc(), machine.lib()] {
            fs::create_dir(&folder).unwrap();
            set_mode(&folder, 0o755);
        }
        machine
    }

    /// The override folder.
    pub(crate) fn etc(&self) -> PathBuf {
        self.root.path().join("etc")
    }

    /// The packages' folder.
    pub(crate) fn lib(&self) -> PathBuf {
        self.root.path().join("lib")
    }

    pub(crate) fn search_path(&self) -> SearchPath {
        SearchPath::new()
            .with_override(self.etc())
            .with_folder(self.lib())
            .trusting(rustix::process::geteuid().as_raw())
    }

    pub(crate) fn scan(&self) -> Registry {
        Registry::scan(&self.search_path(), &DescribedPlugins::default())
    }

    /// A sound plugin in the packages' folder.
    pub(crate) fn install(&self, manifest: &Value) {
        install_into(&self.lib(), manifest);
    }

    /// A sound plugin in the override folder.
    pub(crate) fn override_with(&self, manifest: &Value) {
        install_into(&self.etc(), manifest);
    }

    /// A drop-in for an id.
    pub(crate) fn drop_in(&self, id: &str, name: &str, text: &str) {
        let folder = self.etc().join(format!("{id}.d"));
        fs::create_dir_all(&folder).unwrap();
        set_mode(&folder, 0o755);
        write(&folder.join(name), text.as_bytes());
    }
}

fn install_into(folder: &Path, manifest: &Value) {
    let id = manifest["id"].as_str().unwrap();
    write(&folder.join(format!("{id}.json")), manifest.to_string().as_bytes());
    // Nothing is loaded here: any bytes will do.
    write(&folder.join(format!("{id}.so")), b"not loaded");
}

/// Writes a file as a package would, whatever the umask is.
pub(crate) fn write(path: &Path, text: &[u8]) {
    fs::write(path, text).unwrap();
    set_mode(path, 0o644);
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A manifest without a finding.
pub(crate) fn cloud(id: &str, targets: &[&str]) -> Value {
    let rows: Vec<[&str; 1]> = targets.iter().map(|target| [*target]).collect();
    manifest(id, "cloud", json!(rows), "push_image_to_provider")
}

/// As [`cloud`], with rows of three.
pub(crate) fn os(id: &str, rows: Value) -> Value {
    manifest(id, "os", rows, "create_base_image")
}

fn manifest(id: &str, kind: &str, targets: Value, capability: &str) -> Value {
    json!({
        "schema_version": "1.0", "id": id, "type": kind, "targets": targets,
        "description": "for a test", "maintainer": {"name": "N"}, "version": "1.0.0",
        "license": "Apache-2.0", "library": {"path": format!("{id}.so")},
        "abi": {"req": "^1.0"}, "capabilities": [capability]
    })
}

/// The sentence of an entry, with state and place.
pub(crate) fn sentence(entry: &Entry) -> String {
    let reason = entry.state.reason().map(ToString::to_string).unwrap_or_default();
    format!("{}: {reason}", entry.state.name())
}
