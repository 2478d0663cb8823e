//! One plugin as the factory sees it: its manifest, its state with the reason, the targets it
//! serves.
//!
//! Entries are values inside a registry snapshot; nobody changes them. Made by `contest.rs`.

use std::path::PathBuf;
use std::sync::Arc;

use imagefactory_model::frames::PluginFacts;
use imagefactory_plugin_sdk::payload::manifest::{JsonFinding, Manifest, Target};

use crate::judge::Judged;
use crate::library::LibraryFile;
use crate::reason::Reason;
use crate::schemas::Schemas;

/// What a plugin is worth here and now.
///
/// ```text
///   manifest file ──▶ Error | Inactive | Masked | Shadowed
///        │ nothing against it
///        ▼
///   Undescribed ──described──▶ Active
///        └───crashed, or not what the manifest says──▶ Error
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryState {
    /// Loads, and is what its manifest says.
    Active,
    /// Nothing speaks against it, but it was not loaded yet. Serves orders all the same.
    Undescribed,
    /// A sound plugin that is not used: switched off, for another machine, replaced, outbid.
    Inactive(Reason),
    /// Another file of the same id is stronger.
    Shadowed(Reason),
    /// The administrator hides the id.
    Masked(Reason),
    /// Something is broken.
    Error(Reason),
}

impl EntryState {
    /// May orders go to it?
    pub fn serves(&self) -> bool {
        matches!(self, EntryState::Active | EntryState::Undescribed)
    }

    /// Why it is not used.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            EntryState::Active | EntryState::Undescribed => None,
            EntryState::Inactive(reason)
            | EntryState::Shadowed(reason)
            | EntryState::Masked(reason)
            | EntryState::Error(reason) => Some(reason),
        }
    }

    /// For logs and the command line: `active`, `error`, …
    pub fn name(&self) -> &'static str {
        match self {
            EntryState::Active => "active",
            EntryState::Undescribed => "undescribed",
            EntryState::Inactive(_) => "inactive",
            EntryState::Shadowed(_) => "shadowed",
            EntryState::Masked(_) => "masked",
            EntryState::Error(_) => "error",
        }
    }
}

/// One row of a manifest's targets and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetRow {
    /// As in the manifest.
    pub target: Target,
    /// Who serves it.
    pub fate: TargetFate,
}

/// What became of a target row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetFate {
    /// Lookups for it come here.
    Served,
    /// Another plugin serves it.
    Outbid(Reason),
    /// No lookup arrives at it.
    NeverFound,
    /// The plugin serves nothing at all.
    PluginUnused,
}

/// A plugin, or what should be one.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The state and its reason.
    pub state: EntryState,
    /// In the manifest's order.
    pub targets: Vec<TargetRow>,
    /// What the library said of itself, once it was described and not refused.
    pub facts: Option<Arc<PluginFacts>>,
    pub(crate) judged: Arc<Judged>,
}

impl Entry {
    /// The id, or the file's stem where there is no manifest.
    pub fn id(&self) -> &str {
        &self.judged.id
    }

    /// The manifest's file.
    pub fn path(&self) -> &PathBuf {
        &self.judged.path
    }

    /// Its folder's place in the search path; 0 is the strongest.
    pub fn rank(&self) -> usize {
        self.judged.rank
    }

    /// The manifest with the drop-ins laid over it.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.judged.manifest.as_ref()
    }

    /// What is odd about the manifest.
    pub fn warnings(&self) -> &[JsonFinding] {
        &self.judged.warnings
    }

    /// The drop-ins that changed the manifest, in order.
    pub fn drop_ins(&self) -> &[PathBuf] {
        &self.judged.drop_ins
    }

    /// The compiled schemas of the manifest.
    pub fn schemas(&self) -> &Schemas {
        &self.judged.schemas
    }

    /// The library, where it was found.
    pub fn library(&self) -> Option<&LibraryFile> {
        self.judged.library.as_ref()
    }
}
