//! What a stage may ask of its host while it runs: the port that the pipeline implements.
//!
//! One implementation object stands for one attempt of one stage, so no call names the stage. The
//! supervisor checks names against [`Grants`] before it asks, and keeps locks and ports to itself
//! (`reservations.rs`), because those must end with the process and not with a database row.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::pin::Pin;

use imagefactory_model::stage::JournalEntry;
use serde::{Deserialize, Serialize};

/// The answer to one service call.
pub type ServiceFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, ServiceError>> + Send + 'a>>;

/// What must be durable or looked up for one attempt of one stage.
///
/// Every call is awaited while the plugin waits in it; a plugin with threads may have several under
/// way, each thread's own in order. A call whose stage ends meanwhile is dropped. A failed call is
/// reported to the plugin, which decides what it means; only [`Self::spawned`] ends the stage when
/// it fails.
pub trait StageServices: Send + Sync {
    /// The runner is there and nothing of the plugin's operation ran yet: record it, durably, so
    /// that recovery can [`fence`](super::fence()) it. Called once, before Start is sent.
    fn spawned(&self, attempt: &SpawnedAttempt) -> ServiceFuture<'_, ()>;

    /// Makes a journal entry durable before it returns.
    fn journal(&self, entry: JournalEntry) -> ServiceFuture<'_, ()>;

    /// Makes a checkpoint durable before it returns. `value` is JSON text.
    fn checkpoint_put(&self, key: String, value: String) -> ServiceFuture<'_, ()>;

    /// The text of a secret; asked only for names in [`Grants::secrets`].
    fn secret_get(&self, name: String) -> ServiceFuture<'_, String>;

    /// An image as JSON text; asked only for ids in [`Grants::images`].
    fn image_get(&self, id: String) -> ServiceFuture<'_, String>;
}

/// What this stage may ask for; everything else is refused without asking the services.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Names for `secret_get`.
    pub secrets: BTreeSet<String>,
    /// Image ids (UUID text, lower case) for `image_get`.
    pub images: BTreeSet<String>,
    /// May it take factory-wide locks and ports (`imagefactory.host.reserve/1`)?
    pub reserve: bool,
}

/// A service that refused or failed, as the plugin will read it from `last_error`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ServiceError {
    /// IMGF_E_*.
    pub code: i32,
    /// One sentence; goes to the plugin, so it holds no secret and no path of others.
    pub message: String,
}

/// All that recovery needs to find what is left of an attempt. Stored by
/// [`StageServices::spawned`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpawnedAttempt {
    /// The runner's process id; also its process group.
    pub pid: u32,
    /// `starttime` of `/proc/PID/stat`, clock ticks after boot: with the pid it names one process.
    pub start_time: u64,
    /// `/proc/sys/kernel/random/boot_id`: another boot means that nothing can be left.
    pub boot_id: String,
    /// Its cgroup folders, one for each hierarchy in use; empty = none was to be had.
    pub cgroup: Vec<PathBuf>,
    /// Held locked by the runner as long as any of its processes lives.
    pub lock_file: PathBuf,
}
