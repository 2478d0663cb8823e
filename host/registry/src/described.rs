//! What is known of libraries that were loaded once: their facts, or why they are in quarantine.
//!
//! Keyed by path and [`LibraryStamp`]: a library that was replaced is unknown again. Kept in a
//! file, so that a restart describes nothing twice and does not meet the same crash again. A
//! failure that is not the plugin's (no room, no sandbox) is remembered in memory only. Filled by
//! `Registry::with_description`; loaded and saved by the daemon.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use imagefactory_model::frames::PluginFacts;
use imagefactory_model::stage::{FailureCode, StageFailure};
use serde::{Deserialize, Serialize};

use crate::error::RegistryError;
use crate::library::{LibraryFile, LibraryStamp};
use crate::versions::HOST;

/// Largest cache file: a few KiB a plugin, a thousand plugins, and room.
const CACHE_BYTES_MAX: u64 = 16 << 20;

/// Longest reason kept: it stands in listings, and plugins can be talkative.
const REASON_CHARS_MAX: usize = 1000;

/// Descriptions by library path.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DescribedPlugins {
    by_path: BTreeMap<PathBuf, Described>,
}

/// One library's description.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    stamp: LibraryStamp,
    outcome: DescribedAs,
    /// The plugin is to blame: holds until the file changes.
    #[serde(skip, default = "kept")]
    is_kept: bool,
}

fn kept() -> bool {
    true
}

/// What describing a library gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DescribedAs {
    /// The plugin's own word.
    Facts(Box<PluginFacts>),
    /// It crashed, hung or was refused: it is not loaded again until its file changes.
    Quarantined(String),
}

/// The cache file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CacheFile {
    /// Another host may judge differently: its descriptions are not believed.
    host: String,
    libraries: BTreeMap<PathBuf, Described>,
}

impl DescribedPlugins {
    /// What is known of this very file.
    pub fn of(&self, library: &LibraryFile) -> Option<&DescribedAs> {
        let described = self.by_path.get(&library.path)?;
        (described.stamp == library.stamp).then_some(&described.outcome)
    }

    /// Remembers what describing it gave.
    pub(crate) fn remember(
        &mut self,
        library: &LibraryFile,
        outcome: Result<PluginFacts, StageFailure>,
    ) {
        let (outcome, is_kept) = match outcome {
            Ok(facts) => (DescribedAs::Facts(Box::new(facts)), true),
            Err(failure) => {
                let reason = failure.message.chars().take(REASON_CHARS_MAX).collect();
                (DescribedAs::Quarantined(reason), blames_the_plugin(failure.code))
            }
        };
        let described = Described { stamp: library.stamp, outcome, is_kept };
        self.by_path.insert(library.path.clone(), described);
    }

    /// Only what is known of these files, and of the faults only the plugins' own: after a reload
    /// the host's are tried again.
    pub(crate) fn only<'l>(&self, libraries: impl Iterator<Item = &'l LibraryFile>) -> Self {
        let known = libraries.filter_map(|library| {
            let described = self.by_path.get(&library.path)?;
            let holds = described.stamp == library.stamp && described.is_kept;
            holds.then(|| (library.path.clone(), described.clone()))
        });
        DescribedPlugins { by_path: known.collect() }
    }

    /// Reads the cache. A missing, damaged or foreign one is empty: everything is described anew.
    pub fn load(path: &Path) -> Self {
        match read_cache(path) {
            Ok(cache) if cache.host == HOST => DescribedPlugins { by_path: cache.libraries },
            _ => DescribedPlugins::default(),
        }
    }

    /// Writes the cache in one step: a reader sees the old or the new one, also after a crash.
    pub fn save(&self, path: &Path) -> Result<(), RegistryError> {
        let kept = self.by_path.iter().filter(|(_, described)| described.is_kept);
        let libraries = kept.map(|(path, described)| (path.clone(), described.clone())).collect();
        let cache = CacheFile { host: HOST.to_owned(), libraries };
        write_cache(path, &cache)
            .map_err(|source| RegistryError::SaveDescriptions { path: path.to_owned(), source })
    }
}

/// Is the failure the plugin's own, so that trying again would only repeat it?
fn blames_the_plugin(code: FailureCode) -> bool {
    match code {
        FailureCode::PluginError
        | FailureCode::PluginPanic
        | FailureCode::PluginCrash
        | FailureCode::PluginAbort
        | FailureCode::PluginProtocol
        | FailureCode::PluginOutput
        | FailureCode::PluginTimeout
        | FailureCode::PluginOom
        | FailureCode::PluginLoad
        | FailureCode::PluginFile
        | FailureCode::PluginAbi
        | FailureCode::PluginLayout => true,
        FailureCode::Sandbox
        | FailureCode::Cancelled
        | FailureCode::Interrupted
        | FailureCode::UserTemplate
        | FailureCode::UserRequest
        | FailureCode::NoSpace
        | FailureCode::Host => false,
    }
}

fn read_cache(path: &Path) -> io::Result<CacheFile> {
    let mut text = Vec::new();
    let read = File::open(path)?.take(CACHE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if read as u64 > CACHE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the cache file is too large"));
    }
    Ok(serde_json::from_slice(&text)?)
}

fn write_cache(path: &Path, cache: &CacheFile) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(cache)?;
    // Two writers, in one process or two, must not share it.
    static WRITERS: AtomicU64 = AtomicU64::new(0);
    let writer = WRITERS.fetch_add(1, Ordering::Relaxed);
    let fresh = path.with_extension(format!("new-{}-{writer}", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    let written = file.write_all(&text).and_then(|()| file.sync_all());
    match written.and_then(|()| fs::rename(&fresh, path)) {
        Ok(()) => Ok(()),
        Err(error) => {
            // What could not become the cache is rubbish; that it may stay changes nothing.
            fs::remove_file(&fresh).unwrap_or_default();
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(inode: u64) -> LibraryFile {
        let stamp = LibraryStamp { device: 1, inode, bytes: 2, modified_ns: 3, changed_ns: 4 };
        LibraryFile { path: "/p/X.so".into(), stamp }
    }

    fn failure(code: FailureCode) -> StageFailure {
        StageFailure::new(code, "it crashed (SIGSEGV)")
    }

    #[test]
    fn a_quarantine_survives_a_restart_and_ends_when_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("described.json");
        let mut described = DescribedPlugins::default();
        described.remember(&library(1), Err(failure(FailureCode::PluginCrash)));
        described.save(&cache).unwrap();
        let loaded = DescribedPlugins::load(&cache);
        assert_eq!(
            loaded.of(&library(1)),
            Some(&DescribedAs::Quarantined("it crashed (SIGSEGV)".into()))
        );
        assert_eq!(loaded.of(&library(2)), None);
    }

    #[test]
    fn a_fault_of_the_host_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("described.json");
        let mut described = DescribedPlugins::default();
        described.remember(&library(1), Err(failure(FailureCode::NoSpace)));
        assert!(described.of(&library(1)).is_some(), "until the next reload it is told");
        assert_eq!(described.only([library(1)].iter()).of(&library(1)), None);
        described.save(&cache).unwrap();
        assert_eq!(DescribedPlugins::load(&cache), DescribedPlugins::default());
    }

    #[test]
    fn a_damaged_or_foreign_cache_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("described.json");
        for text in ["", "{", "[]", r#"{"host":"0.0.1","libraries":{}}"#] {
            fs::write(&cache, text).unwrap();
            assert_eq!(DescribedPlugins::load(&cache), DescribedPlugins::default());
        }
        assert_eq!(DescribedPlugins::load(folder.path()), DescribedPlugins::default());
    }
}
