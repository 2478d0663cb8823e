//! How this factory works: everything that the engine is told, whoever tells it (the daemon's file,
//! the command line's flags, a test). Pure values with the packaged defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use imagefactory_registry::SearchPath;
use imagefactory_registry::grant::SandboxPolicy;
use serde_json::{Map, Value};

use crate::places::PlaceLimits;
use crate::stage_process::SupervisorConfig;

/// How this factory works.
#[derive(Debug, Clone)]
pub struct FactoryConfiguration {
    /// Bodies, records and everything else that must outlive the process.
    pub storage_path: PathBuf,
    /// Scratch of stages.
    pub tmp_dir: PathBuf,
    /// Caches of plugins (packages, root file systems); may be removed at any time.
    pub cache_dir: PathBuf,
    /// How many orders are worked on at once.
    pub places: PlaceLimits,
    /// A template without a root password is refused.
    pub tdl_require_root_pw: bool,
    /// Credentials by `@name`, as their plugins read them.
    pub credentials: NamedCredentials,
    /// A plugin's own settings by its id: what `config_get` answers.
    pub plugin_settings: BTreeMap<String, Map<String, Value>>,
    /// Settings that every plugin may read (`mirrors`, `openstack_image_format`, …). No secrets.
    pub public_settings: Map<String, Value>,
    /// Folders that a plugin may write besides its own, by its id: where LocalCloud puts images. A
    /// folder must be writable for the group of the stages, where the daemon is root.
    pub plugin_folders: BTreeMap<String, Vec<PathBuf>>,
    /// `target_content.xml`: what is added for a target; it need not exist.
    pub target_content: PathBuf,
    /// Where plugins are looked for, and whose files are trusted.
    pub plugins: SearchPath,
    /// What plugins are granted.
    pub sandbox: SandboxPolicy,
    /// Unprivileged ids for stages, where the daemon is root.
    pub stage_ids: StageIds,
    /// The runner and its limits.
    pub supervisor: SupervisorConfig,
}

/// Ids for stages, used only by a daemon that is root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageIds {
    /// First of them.
    pub uid_first: u32,
    /// Slots of 65536 ids.
    pub slots: u32,
    /// The group that may read image bodies.
    pub gid: u32,
}

impl Default for StageIds {
    fn default() -> Self {
        // Far above /etc/subuid's usual start (100000) and below systemd-nspawn's range
        // (1879048192, systemd's UIDS-GIDS document); the group is the first id of the range.
        StageIds { uid_first: 1_610_612_736, slots: 256, gid: 1_610_612_735 }
    }
}

/// Credentials of the configuration, by name (without the `@`). Debug shows the names only.
#[derive(Clone, Default)]
pub struct NamedCredentials(BTreeMap<String, String>);

impl NamedCredentials {
    /// From names and texts.
    pub fn new(by_name: BTreeMap<String, String>) -> NamedCredentials {
        NamedCredentials(by_name)
    }

    /// The credentials that `@name` stands for. `name` with or without the `@`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name.strip_prefix('@').unwrap_or(name)).map(String::as_str)
    }
}

impl fmt::Debug for NamedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
