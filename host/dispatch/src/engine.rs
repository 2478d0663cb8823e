//! What all parts of the engine share, and the small file work around a stage: identity, folders,
//! caches, artefacts. Made by `dispatcher.rs`; no decisions here.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use imagefactory_model::frames::{SandboxProfile, StageIdentity};
use imagefactory_model::order::OrderKind;
use imagefactory_model::stage::{FailureCode, StageFailure, StageOutcome};
use imagefactory_notifications::events::Changes;
use imagefactory_registry::RegistryHandle;
use imagefactory_store::ImageStore;
use imagefactory_store::artifacts::{ArtifactFiles, is_artifact_name};
use imagefactory_store::bodies::Bodies;
use imagefactory_store::half_written::HalfWritten;
use imagefactory_store::layout::StoreLayout;
use imagefactory_store::logs::LogFiles;
use imagefactory_store::owner::Owner;
use imagefactory_store::stages::StageRecord;
use imagefactory_store::vault::Vault;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::attempts::{StageEnd, host_failure};
use crate::configuration::{FactoryConfiguration, NamedCredentials};
use crate::places::Places;
use crate::plugins::ChosenPlugin;
use crate::progress::ProgressRecorder;
use crate::stage_process::{
    IdentityLease, StageFolders, StageIdentities, StageSupervisor, remove_tree,
};
use crate::stage_work::{OrderContext, StageWork};

/// Everything that work on orders needs. One for each process that builds.
pub(crate) struct Engine {
    pub(crate) configuration: FactoryConfiguration,
    pub(crate) named_credentials: Arc<NamedCredentials>,
    pub(crate) store: Arc<dyn ImageStore>,
    pub(crate) layout: StoreLayout,
    pub(crate) bodies: Bodies,
    pub(crate) artifacts: ArtifactFiles,
    pub(crate) logs: LogFiles,
    pub(crate) vault: Vault,
    pub(crate) owner: Owner,
    pub(crate) registry: Arc<RegistryHandle>,
    pub(crate) supervisor: StageSupervisor,
    pub(crate) identities: Option<Arc<StageIdentities>>,
    pub(crate) places: Places,
    pub(crate) progress: ProgressRecorder,
    pub(crate) changes: Changes,
    /// What lay half written before this process began to work. Taken by the first recovery.
    pub(crate) left_by_the_dead: Mutex<Option<HalfWritten>>,
    /// Told whenever an order of this process was closed.
    pub(crate) order_closed: tokio::sync::Notify,
    /// Cancelled when the factory shuts down: stages end, their orders stay open.
    pub(crate) stopping: CancellationToken,
}

impl Engine {
    /// Ids for a stage, where the daemon is root; profiles that run as root by design need none.
    pub(crate) fn lease_identity(
        &self,
        plugin: &ChosenPlugin,
    ) -> Result<Option<IdentityLease>, StageFailure> {
        let profile = plugin.sandbox.profile;
        let unprivileged = !matches!(profile, SandboxProfile::OsRoot | SandboxProfile::None);
        let Some(identities) = self.identities.as_ref().filter(|_| unprivileged) else {
            return Ok(None);
        };
        identities.lease(profile).map(Some).ok_or_else(|| {
            let message =
                "more stages run than this factory has ids for them: raise stage_ids.slots";
            StageFailure::new(FailureCode::Host, message)
        })
    }

    /// The folders of an attempt.
    pub(crate) async fn make_folders(
        &self,
        record: &StageRecord,
        lease: Option<&IdentityLease>,
    ) -> Result<StageFolders, StageFailure> {
        let (root, tmp) = (self.layout.root().to_owned(), self.configuration.tmp_dir.clone());
        let (stage, attempt) = (record.id, record.attempt);
        let identity = lease.map(IdentityLease::identity);
        file_work(move || StageFolders::create(&root, &tmp, stage, attempt, identity)).await
    }

    /// The plugin's cache folder. It belongs to the ids of the stage that uses it.
    pub(crate) async fn make_cache(
        &self,
        plugin: &ChosenPlugin,
        lease: Option<&IdentityLease>,
    ) -> Result<PathBuf, StageFailure> {
        // Each slot of ids has a cache of its own: files of one slot are another slot's strangers.
        let name = match lease.map(IdentityLease::identity) {
            Some(StageIdentity { uid, .. }) => format!("{}-{uid}", plugin.id),
            None => plugin.id.clone(),
        };
        let dir = self.configuration.cache_dir.join(name);
        let identity = lease.map(IdentityLease::identity);
        file_work(move || make_cache_folder(&dir, identity).map(|()| dir)).await
    }

    /// Removes what an attempt left; its output stays until the order is final, when it succeeded.
    pub(crate) async fn remove_attempt(
        &self,
        folders: StageFolders,
        keep_output: bool,
        lease: Option<IdentityLease>,
    ) {
        let output_dir = (!keep_output).then_some(&folders.output_dir);
        for dir in [Some(&folders.work_dir), output_dir].into_iter().flatten() {
            if let Err(error) = self.remove_tree(dir).await {
                tracing::warn!("{} is left behind: {error}", dir.display());
            }
        }
        // Only now may its ids be another stage's.
        drop(lease);
    }

    /// Removes a folder of a stage with everything in it, whatever the stage did to it; one that is
    /// not there is no error.
    pub(crate) async fn remove_tree(&self, dir: &Path) -> std::io::Result<()> {
        let dir = dir.to_owned();
        let removed = tokio::task::spawn_blocking(move || remove_tree(&dir));
        removed.await.unwrap_or_else(|_| Err(std::io::ErrorKind::Interrupted.into()))
    }

    /// Removes the folders of a stage whose order is final.
    pub(crate) async fn remove_stage(&self, stage: Uuid) {
        let folders =
            StageFolders::locate(self.layout.root(), &self.configuration.tmp_dir, stage, 0);
        if !folders.stage_dir.exists() {
            return;
        }
        if let Err(error) = self.remove_tree(&folders.stage_dir).await {
            tracing::warn!("{} is left behind: {error}", folders.stage_dir.display());
        }
    }

    /// Takes the artefacts of a stage, also when it failed: a serial log is worth most then.
    pub(crate) async fn keep_artifacts(
        &self,
        context: &OrderContext,
        outcome: &Result<StageOutcome, StageFailure>,
    ) {
        if context.order.kind == OrderKind::Cleanup {
            return; // its image is final, or gone
        }
        let artifacts = match outcome {
            Ok(outcome) => &outcome.artifacts,
            Err(failure) => &failure.artifacts,
        };
        for artifact in artifacts.iter().filter(|artifact| is_artifact_name(&artifact.name)) {
            let (files, taken) = (self.artifacts.clone(), artifact.clone());
            let image = context.image.id;
            let record = tokio::task::spawn_blocking(move || files.take(image, &taken)).await;
            let kept = match record {
                Ok(Ok(record)) => self.store.put_artifact(image, record).await,
                Ok(Err(error)) => Err(error),
                Err(_) => return,
            };
            if let Err(error) = kept {
                context.log.note(&format!("artefact {} was not kept: {error}", artifact.name));
            }
        }
    }

    /// Gives an image that shares another's content its artefacts too.
    pub(crate) async fn share_artifacts(&self, from: Uuid, image: Uuid) -> Result<(), StageEnd> {
        for record in self.store.artifacts(from).await? {
            let files = self.artifacts.clone();
            let artifact = imagefactory_model::stage::Artifact {
                path: files.path(from, &record.name),
                name: record.name,
                media_type: record.media_type,
            };
            let taken = tokio::task::spawn_blocking(move || files.take(image, &artifact));
            let record = taken.await.map_err(|_| StageEnd::Stopped)??;
            self.store.put_artifact(image, record).await?;
        }
        Ok(())
    }

    /// What `config_get` answers: the public settings, and the plugin's own over them.
    pub(crate) fn plugin_config(&self, plugin: &str) -> Map<String, Value> {
        let mut config = self.configuration.public_settings.clone();
        if let Some(own) = self.configuration.plugin_settings.get(plugin) {
            config.extend(own.clone());
        }
        config
    }

    /// Says before a stage starts what it would miss in an hour.
    pub(crate) fn check_tools(&self, work: &StageWork) -> Result<(), StageFailure> {
        match work.plugin.missing.first() {
            None => Ok(()),
            Some(missing) => {
                let message = format!("{} cannot work here: {missing}", work.plugin.id);
                Err(StageFailure::new(FailureCode::Host, message))
            }
        }
    }
}

fn make_cache_folder(dir: &Path, identity: Option<StageIdentity>) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if let Some(parent) = dir.parent() {
        // Searchable for the stages, listable for nobody.
        std::fs::DirBuilder::new().recursive(true).mode(0o711).create(parent)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    match identity {
        Some(identity) => std::os::unix::fs::chown(dir, Some(identity.uid), Some(identity.gid)),
        None => Ok(()),
    }
}

async fn file_work<T, E, F>(work: F) -> Result<T, StageFailure>
where
    T: Send + 'static,
    E: std::error::Error + Send + 'static,
    F: FnOnce() -> Result<T, E> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(host_failure),
        Err(_) => Err(StageFailure::new(FailureCode::Host, "the factory is shutting down")),
    }
}
