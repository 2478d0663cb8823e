//! The library that a manifest names: where it is, and whether it may be there.
//!
//! Only looks; nothing is opened, read or loaded. Rules: a relative path stays inside the
//! manifest's folder, also by its links; an absolute one counts only in the override folder; the
//! file is a regular one of a trusted owner. Called by `judge.rs`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use imagefactory_plugin_sdk::payload::manifest::Library;
use serde::{Deserialize, Serialize};

use crate::reason::Reason;
use crate::search_path::PluginFolder;
use crate::trust::{Trust, last_name};

/// A library as it was found, not loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryFile {
    /// Absolute, and without links.
    pub path: PathBuf,
    /// Tells this very file from what may replace it.
    pub stamp: LibraryStamp,
}

/// What changes when a file changes. The change time is in it because, unlike the modification
/// time, it cannot be set back by whoever replaces the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LibraryStamp {
    /// File system.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// Size.
    pub bytes: u64,
    /// Modification time, nanoseconds since 1970.
    pub modified_ns: i64,
    /// Change time, nanoseconds since 1970.
    pub changed_ns: i64,
}

/// Finds the library of a manifest that lies in `folder`.
pub(crate) fn locate(
    library: &Library,
    folder: &PluginFolder,
    trust: Trust,
) -> Result<LibraryFile, Reason> {
    let named = Path::new(&library.path);
    let path = if named.is_absolute() {
        if !folder.is_override {
            return Err(Reason::new(
                "library/path is absolute, which counts only in the override folder",
            )
            .at(named)
            .hint("put the library beside its manifest and name it without a folder"));
        }
        let parent = named.parent().unwrap_or(Path::new("/"));
        trust.check_folder(parent)?;
        real(parent)?.join(named.file_name().unwrap_or_default())
    } else {
        let folder = real(&folder.path)?;
        check_way(named, &folder, trust)?;
        folder.join(named)
    };
    let found = fs::symlink_metadata(&path).map_err(|error| missing(library, &path, &error))?;
    check_sort(&path, &found)?;
    trust.check_file(&path, &found)?;
    Ok(LibraryFile { path, stamp: LibraryStamp::of(&found) })
}

/// The folder's name without links: the runner, which opens the library again, follows none. That
/// the links themselves may be believed was checked with the folder.
fn real(folder: &Path) -> Result<PathBuf, Reason> {
    fs::canonicalize(folder)
        .map_err(|error| Reason::new(format!("the folder cannot be entered: {error}")).at(folder))
}

/// Each folder between the manifest's and the library: a real one, and trusted.
fn check_way(library: &Path, folder: &Path, trust: Trust) -> Result<(), Reason> {
    let mut way = folder.to_path_buf();
    for part in library.parent().into_iter().flat_map(Path::components) {
        way.push(part);
        let found = fs::symlink_metadata(&way).map_err(|error| {
            Reason::new(format!("the library's folder {} is missing: {error}", last_name(&way)))
                .at(&way)
        })?;
        if found.is_symlink() {
            return Err(leads_elsewhere(&way));
        }
        trust.check_file(&way, &found)?;
    }
    Ok(())
}

fn check_sort(path: &Path, found: &fs::Metadata) -> Result<(), Reason> {
    if found.is_symlink() {
        return Err(leads_elsewhere(path));
    }
    if found.is_dir() {
        return Err(Reason::new(format!("the library {} is a folder", last_name(path))).at(path));
    }
    if !found.is_file() {
        let message = format!("the library {} is not a regular file", last_name(path));
        return Err(Reason::new(message).at(path));
    }
    Ok(())
}

fn leads_elsewhere(path: &Path) -> Reason {
    Reason::new(format!(
        "{} is a symbolic link, which can point outside of the manifest's folder",
        last_name(path)
    ))
    .at(path)
    .hint("install the library itself under this name")
}

fn missing(library: &Library, path: &Path, error: &std::io::Error) -> Reason {
    let message = if error.kind() == std::io::ErrorKind::NotFound {
        format!("the library {} is missing", library.path)
    } else {
        format!("the library {} cannot be looked at: {error}", library.path)
    };
    Reason::new(message).at(path).hint("install it, or remove the manifest")
}

impl LibraryStamp {
    fn of(found: &fs::Metadata) -> Self {
        let nanoseconds = |s: i64, ns: i64| s.saturating_mul(1_000_000_000).saturating_add(ns);
        LibraryStamp {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.size(),
            modified_ns: nanoseconds(found.mtime(), found.mtime_nsec()),
            changed_ns: nanoseconds(found.ctime(), found.ctime_nsec()),
        }
    }
}
