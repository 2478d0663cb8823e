//! Finds the plugin for a target, exactly as the original did.
//!
//! The original replaced the fields of (name, version, arch) by null one by one, from the last on,
//! and asked after each; it gave up before the name. So (Fedora, null, x86_64) in a manifest is
//! never found, and a cloud is found by its exact name only. New is the last resort: a plugin may
//! serve
//! [null, null, null], which the original accepted and never asked for.

use std::collections::BTreeMap;

use imagefactory_plugin_sdk::payload::manifest::{PluginKind, Target};

/// Which entry (by index) serves which target. A target has one server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TargetTable {
    os: BTreeMap<Vec<Option<String>>, usize>,
    cloud: BTreeMap<String, usize>,
}

impl TargetTable {
    /// Gives a target to an entry, or says who has it. Targets that no lookup can reach are
    /// nobody's.
    pub(crate) fn claim(
        &mut self,
        kind: PluginKind,
        target: &Target,
        entry: usize,
    ) -> Result<(), Unclaimed> {
        let row = match target {
            Target::Row(row) if target.can_match() => row,
            _ => return Err(Unclaimed::NeverFound),
        };
        let holder = match (kind, row.as_slice()) {
            (PluginKind::Os, _) => *self.os.entry(row.clone()).or_insert(entry),
            (PluginKind::Cloud, [Some(name)]) => *self.cloud.entry(name.clone()).or_insert(entry),
            (PluginKind::Cloud, _) => return Err(Unclaimed::NeverFound),
        };
        if holder == entry { Ok(()) } else { Err(Unclaimed::HeldBy(holder)) }
    }

    /// The entry for an operating system.
    pub(crate) fn os(&self, name: &str, version: &str, arch: &str) -> Option<usize> {
        let given = [Some(name.to_owned()), Some(version.to_owned()), Some(arch.to_owned())];
        (0..=given.len()).find_map(|nulls| {
            let mut key = given.to_vec();
            let kept = given.len() - nulls;
            key[kept..].fill(None);
            self.os.get(&key).copied()
        })
    }

    /// The entry for a cloud.
    pub(crate) fn cloud(&self, target: &str) -> Option<usize> {
        self.cloud.get(target).copied()
    }

    /// All operating systems served, in order.
    pub(crate) fn os_rows(&self) -> impl Iterator<Item = (&[Option<String>], usize)> {
        self.os.iter().map(|(row, entry)| (row.as_slice(), *entry))
    }

    /// All clouds served, in order.
    pub(crate) fn clouds(&self) -> impl Iterator<Item = (&str, usize)> {
        self.cloud.iter().map(|(name, entry)| (name.as_str(), *entry))
    }
}

/// Why a target was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unclaimed {
    /// No lookup arrives at it.
    NeverFound,
    /// This entry has it.
    HeldBy(usize),
}
