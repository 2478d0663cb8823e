//! What this factory offers, as one immutable snapshot.
//!
//! A scan reads manifests and looks at libraries; it never loads one. Whoever wants a plugin
//! described takes the jobs from [`Registry::undescribed`], runs them in a stage runner and hands
//! the outcome back: each gives a new snapshot. Stages keep the snapshot that they began with, so a
//! reload disturbs nobody. Asked by the REST handlers, the dispatcher and the command line.

use std::collections::BTreeMap;
use std::sync::Arc;

use imagefactory_model::frames::{PluginFacts, PluginLibrary};
use imagefactory_model::stage::StageFailure;

use crate::contest;
use crate::described::DescribedPlugins;
use crate::entry::{Entry, TargetFate};
use crate::judge::{Judged, judge};
use crate::library::LibraryFile;
use crate::manifest_file::{DropInFile, FolderContent, read_folder};
use crate::matching::TargetTable;
use crate::no_plugin::{NoPlugin, Offer};
use crate::reason::Reason;
use crate::search_path::SearchPath;

/// A snapshot of all plugins, those that cannot be used included.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    judged: Vec<Arc<Judged>>,
    described: DescribedPlugins,
    entries: Vec<Entry>,
    table: TargetTable,
    notices: Vec<Reason>,
    trusted_uid: Option<u32>,
}

/// One library that is to be described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeJob {
    /// For the runner's Hello.
    pub plugin: PluginLibrary,
    library: LibraryFile,
}

impl Registry {
    /// Reads all folders. Blocks on the file system; never fails: what is wrong is an entry's
    /// reason.
    pub fn scan(path: &SearchPath, described: &DescribedPlugins) -> Registry {
        let folders = path.folders().iter().enumerate();
        let contents = folders.map(|(rank, folder)| read_folder(folder, rank, path.trust()));
        Registry::of_contents(contents.collect(), path, described)
    }

    fn of_contents(
        contents: Vec<FolderContent>,
        path: &SearchPath,
        described: &DescribedPlugins,
    ) -> Registry {
        let mut notices = Vec::new();
        let mut drop_ins: BTreeMap<String, Vec<DropInFile>> = BTreeMap::new();
        let mut files = Vec::new();
        for content in contents {
            notices.extend(content.notices);
            files.extend(content.manifests);
            for (id, of_folder) in content.drop_ins {
                // Stronger folders were read first and must have the last word.
                drop_ins.entry(id).or_default().splice(0..0, of_folder);
            }
        }
        notices.extend(orphans(&drop_ins, &files));
        let none = Vec::new();
        let judged: Vec<Arc<Judged>> = files
            .into_iter()
            .map(|file| {
                let drop_ins = drop_ins.get(&file.stem).unwrap_or(&none);
                Arc::new(judge(file, drop_ins, path.trust()))
            })
            .collect();
        let described = described.only(judged.iter().filter_map(|file| file.library.as_ref()));
        Registry::decided(judged, described, notices, path.trust().uid)
    }

    fn decided(
        judged: Vec<Arc<Judged>>,
        described: DescribedPlugins,
        notices: Vec<Reason>,
        trusted_uid: Option<u32>,
    ) -> Registry {
        let (entries, table) = contest::decide(&judged, &described);
        Registry { judged, described, entries, table, notices, trusted_uid }
    }

    /// All entries in the order of ids; of one id, the file that counts comes first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry that counts for an id.
    pub fn entry(&self, id: &str) -> Option<&Entry> {
        let first = self.entries.partition_point(|entry| entry.id() < id);
        self.entries.get(first).filter(|entry| entry.id() == id)
    }

    /// What an operator should hear besides the entries: unreadable or untrusted folders, …
    pub fn notices(&self) -> &[Reason] {
        &self.notices
    }

    /// The plugin that builds an operating system.
    pub fn os_plugin(&self, name: &str, version: &str, arch: &str) -> Result<&Entry, NoPlugin> {
        match self.table.os(name, version, arch) {
            Some(index) => Ok(&self.entries[index]),
            None => Err(self.no_os_plugin(name, version, arch)),
        }
    }

    /// The plugin that serves a cloud.
    pub fn cloud_plugin(&self, target: &str) -> Result<&Entry, NoPlugin> {
        match self.table.cloud(target) {
            Some(index) => Ok(&self.entries[index]),
            None => Err(self.no_cloud_plugin(target)),
        }
    }

    /// Each cloud target with the plugin that serves it, in the order of targets.
    pub fn cloud_targets(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.table.clouds().map(|(target, index)| (target, &self.entries[index]))
    }

    /// Each (name, version, arch) with the plugin that serves it, in order; None is any.
    pub fn os_targets(&self) -> impl Iterator<Item = (&[Option<String>], &Entry)> {
        self.table.os_rows().map(|(row, index)| (row, &self.entries[index]))
    }

    /// The libraries that nobody knows yet, in the order of ids.
    pub fn undescribed(&self) -> Vec<DescribeJob> {
        self.entries
            .iter()
            .filter(|entry| entry.facts.is_none())
            .filter_map(|entry| self.describe_job(entry))
            .filter(|job| self.described.of(&job.library).is_none())
            .collect()
    }

    /// The library of an entry, as a runner is told of it. None: there is none to load.
    pub fn plugin_library(&self, entry: &Entry) -> Option<PluginLibrary> {
        let manifest = entry.manifest()?;
        let library = entry.library()?;
        Some(PluginLibrary {
            id: manifest.id.clone(),
            version: manifest.version.clone(),
            kind: manifest.kind,
            path: library.path.clone(),
            sha256: manifest.library.as_ref().and_then(|library| library.sha256.clone()),
            trusted_uid: self.trusted_uid,
        })
    }

    fn describe_job(&self, entry: &Entry) -> Option<DescribeJob> {
        use crate::entry::EntryState;
        // Inactive ones too: the listing says of each whether it would load. Shadowed, masked and
        // broken ones were decided against; they are not run.
        let wanted = entry.state.serves() || matches!(entry.state, EntryState::Inactive(_));
        let library = entry.library()?.clone();
        let plugin = self.plugin_library(entry)?;
        wanted.then_some(DescribeJob { plugin, library })
    }

    /// The snapshot in which this library is described. An outcome for a file that has changed in
    /// the meantime changes nothing: the new file is still undescribed.
    pub fn with_description(
        &self,
        job: &DescribeJob,
        outcome: Result<PluginFacts, StageFailure>,
    ) -> Registry {
        let is_current = self.judged.iter().any(|file| file.library.as_ref() == Some(&job.library));
        if !is_current {
            return self.clone();
        }
        let mut described = self.described.clone();
        described.remember(&job.library, outcome);
        Registry::decided(self.judged.clone(), described, self.notices.clone(), self.trusted_uid)
    }

    /// What is known of the libraries; the daemon saves it.
    pub fn described(&self) -> &DescribedPlugins {
        &self.described
    }

    fn no_os_plugin(&self, name: &str, version: &str, arch: &str) -> NoPlugin {
        let offers = self.table.os_rows().map(|(row, index)| Offer {
            sentence: format!("{} serves {}", self.entries[index].id(), os_words(row)),
            is_near: row.first() == Some(&Some(name.to_owned())),
        });
        let asks = |table: &TargetTable| table.os(name, version, arch).is_some();
        let asked = format!("OS plugin serves {} {} {}", plain(name), plain(version), plain(arch));
        NoPlugin::new(asked, offers, self.hindered(asks))
    }

    fn no_cloud_plugin(&self, target: &str) -> NoPlugin {
        let offers = self.table.clouds().map(|(name, index)| Offer {
            sentence: format!("{} serves {name}", self.entries[index].id()),
            is_near: name.eq_ignore_ascii_case(target),
        });
        let asks = |table: &TargetTable| table.cloud(target).is_some();
        NoPlugin::new(format!("cloud plugin serves {}", plain(target)), offers, self.hindered(asks))
    }

    /// The plugins that would be found if nothing spoke against them.
    fn hindered(&self, asks: impl Fn(&TargetTable) -> bool) -> Vec<String> {
        const HINDERED_MAX: usize = 3;
        let would_serve = |entry: &&Entry| {
            let Some(manifest) = entry.manifest() else { return false };
            let mut table = TargetTable::default();
            for row in &entry.targets {
                // Whether it is granted does not matter: the question is whether it is found.
                if row.fate == TargetFate::PluginUnused {
                    let _unclaimed = table.claim(manifest.kind, &row.target, 0);
                }
            }
            asks(&table)
        };
        let sentence = |entry: &Entry| {
            let reason = entry.state.reason()?;
            Some(format!("{} is {}: {}", entry.id(), entry.state.name(), reason.message))
        };
        self.entries.iter().filter(would_serve).filter_map(sentence).take(HINDERED_MAX).collect()
    }
}

/// Drop-ins for plugins that are not there: a mistyped folder would otherwise go unnoticed.
fn orphans(
    drop_ins: &BTreeMap<String, Vec<DropInFile>>,
    files: &[crate::manifest_file::ManifestFile],
) -> Vec<Reason> {
    let is_orphan = |id: &&String| !files.iter().any(|file| file.stem == **id);
    let notice = |id: &String| {
        Reason::new(format!("there are drop-ins for {id:?}, and no manifest of this id"))
    };
    drop_ins.keys().filter(is_orphan).map(notice).collect()
}

/// A client's word inside a sentence: short, and without what could break the line.
fn plain(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(80).collect()
}

fn os_words(row: &[Option<String>]) -> String {
    match row {
        [None, ..] => "everything else".to_owned(),
        [Some(name), None, _] => format!("{name} of any version"),
        [Some(name), Some(version), None] => format!("{name} {version} on any architecture"),
        [Some(name), Some(version), Some(arch)] => format!("{name} {version} on {arch}"),
        other => format!("{other:?}"),
    }
}
