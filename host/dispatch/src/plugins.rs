//! A plugin as a stage needs it: chosen from a registry snapshot, with what the operator grants it.
//!
//! The choice is made when a stage's order is worked on, not when it was placed: a plugin that was
//! upgraded in between is the one that runs. A running stage keeps its library open.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use imagefactory_model::frames::{PluginLibrary, SandboxOrder};
use imagefactory_model::stage::{FailureCode, Operation, StageFailure};
use imagefactory_registry::grant::{Grant, SandboxPolicy, grant};
use imagefactory_registry::requirements::missing;
use imagefactory_registry::{Entry, Reason, Registry};

use crate::configuration::FactoryConfiguration;

/// One plugin with its grant.
#[derive(Debug, Clone)]
pub(crate) struct ChosenPlugin {
    /// Its id.
    pub(crate) id: String,
    /// Its version.
    pub(crate) version: String,
    /// Digest of the library's file, once it was described.
    pub(crate) sha256: Option<String>,
    /// What a runner loads.
    pub(crate) library: PluginLibrary,
    /// Identity and folders are added by each attempt.
    pub(crate) sandbox: SandboxOrder,
    /// Longest time for one stage.
    pub(crate) timeout: Duration,
    /// Read-only data that its package installed.
    pub(crate) data_dir: Option<PathBuf>,
    /// Tools and devices that it needs and that are not here.
    pub(crate) missing: Vec<String>,
    operations: BTreeSet<String>,
}

impl ChosenPlugin {
    /// The plugin of an entry, or why it cannot be used here.
    pub(crate) fn choose(
        registry: &Registry,
        entry: &Entry,
        configuration: &FactoryConfiguration,
    ) -> Result<ChosenPlugin, StageFailure> {
        let unusable = |reason: &Reason| StageFailure {
            hint: reason.hint.clone(),
            ..StageFailure::new(
                FailureCode::PluginLoad,
                format!("{}: {}", entry.id(), reason.message),
            )
        };
        let no_library = || Reason::new("it has no library that could be loaded");
        let (Some(manifest), Some(library)) = (entry.manifest(), registry.plugin_library(entry))
        else {
            return Err(unusable(entry.state.reason().unwrap_or(&no_library())));
        };
        let granted = grant(manifest, &configuration.sandbox)
            .map_err(|reason| StageFailure { code: FailureCode::Sandbox, ..unusable(&reason) })?;
        // The facts of a described plugin win; an undescribed one is taken by its manifest's word.
        let operations = match &entry.facts {
            Some(facts) => facts.operations.iter().cloned().collect(),
            None => manifest.capabilities.iter().cloned().collect(),
        };
        let data_dir = library.path.with_extension("data");
        Ok(ChosenPlugin {
            id: manifest.id.clone(),
            version: manifest.version.clone(),
            sha256: entry.facts.as_ref().map(|facts| facts.sha256.clone()),
            sandbox: sandbox_order(&granted, &library),
            timeout: Duration::from_secs(granted.timeout_s),
            data_dir: Some(data_dir).filter(|dir| dir.is_dir()),
            missing: missing(&manifest.requires, &programs(configuration)),
            library,
            operations,
        })
    }

    /// Does it offer the operation?
    pub(crate) fn can(&self, operation: Operation) -> bool {
        self.operations.contains(operation.name())
    }
}

/// How a plugin is confined while it is only described: it needs nothing.
pub(crate) fn describe_sandbox(
    manifest: &imagefactory_plugin_sdk::payload::manifest::Manifest,
    library: &PluginLibrary,
    policy: &SandboxPolicy,
) -> Result<SandboxOrder, Reason> {
    let granted = grant(manifest, policy)?;
    Ok(SandboxOrder { network: false, ..sandbox_order(&granted, library) })
}

/// Where stages find programs.
fn programs(configuration: &FactoryConfiguration) -> Vec<PathBuf> {
    std::env::split_paths(&configuration.supervisor.path).collect()
}

fn sandbox_order(granted: &Grant, library: &PluginLibrary) -> SandboxOrder {
    // Where a plugin's own libraries lie beside it, it may load them.
    let folder = library.path.parent().map(PathBuf::from);
    SandboxOrder {
        profile: granted.profile,
        strict: granted.strict,
        network: granted.network,
        identity: None,
        read_only: granted.read_only.iter().cloned().chain(folder).collect(),
        writable: Vec::new(),
        capabilities: granted.capabilities.clone(),
        limits: granted.limits,
        cancel_grace_ms: granted.cancel_grace_ms,
    }
}
