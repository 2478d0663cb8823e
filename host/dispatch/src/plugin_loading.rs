//! Finds the plugins and has each described once, in the background, in a runner process.
//!
//! A description is kept until the library's file changes; a plugin that crashes while it is
//! described is quarantined with the reason. Orders need not wait: an undescribed plugin is taken
//! by its manifest's word.

use std::path::PathBuf;

use imagefactory_model::stage::{FailureCode, StageFailure};
use imagefactory_registry::{DescribeJob, DescribedPlugins, Registry};

use crate::dispatcher::Dispatcher;
use crate::plugins::describe_sandbox;
use crate::stage_process::IdentityLease;

/// Descriptions at once: each is a process for a few milliseconds.
const AT_ONCE: usize = 2;

impl Dispatcher {
    /// Reads the manifests anew (at start, and on SIGHUP) and describes what is new in the
    /// background. Running stages keep the plugin that they have.
    pub async fn load_plugins(&self) {
        let engine = std::sync::Arc::clone(self.engine());
        let cache = self.description_cache();
        let scanned = tokio::task::spawn_blocking(move || {
            engine.registry.update(|current| {
                let mut described = current.described().clone();
                if current.entries().is_empty() {
                    described = DescribedPlugins::load(&cache);
                }
                Registry::scan(&engine.configuration.plugins, &described)
            })
        });
        let Ok(registry) = scanned.await else { return };
        for notice in registry.notices() {
            tracing::warn!("{notice}");
        }
        let dispatcher = self.clone();
        self.tasks().spawn(async move { dispatcher.describe_all().await });
    }

    /// Waits until every plugin was described: for a command line that lists them.
    pub async fn describe_all(&self) {
        let jobs = self.registry().undescribed();
        let mut waiting = jobs.into_iter();
        let mut running = tokio::task::JoinSet::new();
        loop {
            while running.len() < AT_ONCE
                && let Some(job) = waiting.next()
            {
                let dispatcher = self.clone();
                running.spawn(async move { dispatcher.describe(job).await });
            }
            if running.join_next().await.is_none() {
                break;
            }
            if self.engine().stopping.is_cancelled() {
                return;
            }
        }
        let (registry, cache) = (self.registry(), self.description_cache());
        let saved = tokio::task::spawn_blocking(move || registry.described().save(&cache)).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!("descriptions of plugins are not kept: {error}");
        }
    }

    async fn describe(&self, job: DescribeJob) {
        let engine = self.engine();
        let policy = &engine.configuration.sandbox;
        let registry = self.registry();
        let manifest = registry.entry(&job.plugin.id).and_then(|entry| entry.manifest());
        let mut sandbox =
            match manifest.map(|manifest| describe_sandbox(manifest, &job.plugin, policy)) {
                Some(Ok(sandbox)) => sandbox,
                // Refused by policy: its stages say so; nothing is wrong with the library.
                Some(Err(_)) | None => return,
            };
        let lease = engine.identities.as_ref().and_then(|all| all.lease(sandbox.profile));
        sandbox.identity = lease.as_ref().map(IdentityLease::identity);
        let id = job.plugin.id.clone();
        let outcome = engine.supervisor.describe(job.plugin.clone(), sandbox).await;
        match &outcome {
            Ok(ready) => tracing::info!(plugin = %id, version = %ready.facts.version, "active"),
            Err(failure) => tracing::warn!(plugin = %id, "{failure}"),
        }
        if matches!(
            &outcome,
            Err(StageFailure { code: FailureCode::Host | FailureCode::Cancelled, .. })
        ) {
            return; // ours, not the plugin's: asked again at the next reload
        }
        let facts = outcome.map(|ready| ready.facts);
        engine.registry.update(|current| current.with_description(&job, facts));
    }

    fn description_cache(&self) -> PathBuf {
        self.engine().layout.root().join("plugins.described.json")
    }
}
