//! Runs one stage of an order to its end: attempt after attempt, each recorded before it exists.
//!
//! ```text
//!   begin_attempt ─▶ folders ─▶ supervisor ─▶ outcome recorded ─▶ done
//!        ▲   └ succeeded before: its outcome                │
//!        │                                                  ├─ interrupted from outside ─┐
//!        │                                                  ├─ retryable, tries left ────┤
//!        └── scratch cleaned up ◀───────────────────────────┴────────────────────────────┘
//!                                                           └─ else: failed for good
//! ```
//!
//! Which stages there are is the pipeline's business; what a process is, the supervisor's. The
//! rules of what counts as a try are plugin-abi.md 3.4.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use imagefactory_model::frames::SandboxOrder;
use imagefactory_model::order::{CredentialSource, Order};
use imagefactory_model::stage::{
    FailureCode, JournalEntry, JournalEvent, Operation, StageFailure, StageOrder, StageOutcome,
    StagePaths,
};
use imagefactory_store::StoreError;
use imagefactory_store::stages::{AttemptEnd, StageRecord, StageState};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::engine::Engine;
use crate::leftovers::Why;
use crate::plugins::ChosenPlugin;
use crate::stage_process::{Grants, IdentityLease, StageEvent, StageFolders, StageSpec};
use crate::stage_records::{CREDENTIALS, StoredServices};
use crate::stage_watch;
use crate::stage_work::{OrderContext, StageWork};
use crate::stages::outcome::RecordedOutcome;

/// Tries of a stage whose plugin says that trying again may help (plugin-abi.md 3.4, 5).
const TRIES_MAX: u32 = 3;

/// Interruptions from outside in a row, without progress between, after which an order is given up.
pub(crate) const INTERRUPTIONS_MAX: u32 = 5;

/// First pause before a retry; it doubles. A plugin may ask for more.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Longest pause, whatever a plugin asks for: an operator sees something happen.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(300);

/// Events that may wait for the watcher before the supervisor drops some.
const EVENTS_WAITING_MAX: usize = 1024;

/// Why a stage brought nothing.
#[derive(Debug)]
pub(crate) enum StageEnd {
    /// It failed for good: so does the image.
    Failed(StageFailure),
    /// The factory shuts down: the order stays open and is resumed.
    Stopped,
}

impl From<StoreError> for StageEnd {
    fn from(error: StoreError) -> Self {
        StageEnd::Failed(host_failure(error))
    }
}

/// Why leftovers are still there.
#[derive(Debug)]
pub(crate) enum CleanUpEnd {
    /// The factory shuts down: resumed.
    Stopped,
    /// Nothing can be recorded: tried again.
    Store(StoreError),
}

impl From<StoreError> for CleanUpEnd {
    fn from(error: StoreError) -> Self {
        CleanUpEnd::Store(error)
    }
}

impl From<CleanUpEnd> for StageEnd {
    fn from(end: CleanUpEnd) -> Self {
        match end {
            CleanUpEnd::Stopped => StageEnd::Stopped,
            CleanUpEnd::Store(error) => error.into(),
        }
    }
}

impl Engine {
    /// Runs a stage until it has an outcome or fails for good.
    pub(crate) async fn run_stage(
        &self,
        context: &OrderContext,
        work: &StageWork,
    ) -> Result<RecordedOutcome, StageEnd> {
        loop {
            let record = self
                .store
                .begin_attempt(context.order.id, context.image.id, &work.step, &work.plugin.id)
                .await?;
            if record.state == StageState::Succeeded {
                return decode(&record);
            }
            if record.attempt > 1 {
                self.clean_up(context, work, &record, Leftover::Scratch).await?;
            }
            let failure = match self.attempt(context, work, &record, record.id, Vec::new()).await {
                Ok(outcome) => {
                    let outcome = RecordedOutcome::from(outcome);
                    let recorded = serde_json::to_value(&outcome).unwrap_or_default();
                    self.store.end_attempt(record.id, AttemptEnd::Succeeded(recorded)).await?;
                    self.store.release(record.id).await?;
                    self.made_progress(context).await?;
                    return Ok(outcome);
                }
                Err(failure) => failure,
            };
            self.store.release(record.id).await?;
            self.judge(context, &record, failure).await?;
        }
    }

    /// What a failed attempt means: `Ok` = once more.
    async fn judge(
        &self,
        context: &OrderContext,
        record: &StageRecord,
        failure: StageFailure,
    ) -> Result<(), StageEnd> {
        if self.stopping.is_cancelled() {
            self.store.end_attempt(record.id, AttemptEnd::Interrupted).await?;
            return Err(StageEnd::Stopped);
        }
        let name = &record.step;
        if failure.code == FailureCode::Interrupted {
            self.store.end_attempt(record.id, AttemptEnd::Interrupted).await?;
            let row = self.store.count_interruption(context.order.id, Some(1)).await?;
            context.log.note(&format!("{name} was interrupted: {failure}"));
            return if row < INTERRUPTIONS_MAX { Ok(()) } else { Err(given_up(failure, row)) };
        }
        let tried = record.failures + 1;
        if failure.retryable && tried < TRIES_MAX && failure.code != FailureCode::Cancelled {
            self.store.end_attempt(record.id, AttemptEnd::Retryable).await?;
            let pause = retry_pause(tried, failure.retry_after_ms);
            context.log.note(&format!(
                "{name}: {failure}; trying again in {} s (try {} of {TRIES_MAX})",
                pause.as_secs(),
                tried + 1
            ));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = context.cancel.cancelled() => {}
            }
            return Ok(());
        }
        self.store.end_attempt(record.id, AttemptEnd::Failed).await?;
        Err(StageEnd::Failed(failure))
    }

    /// One process. `stage` is whose token, journal and checkpoints it works with: the record's
    /// own, or the one that it cleans up after.
    pub(crate) async fn attempt(
        &self,
        context: &OrderContext,
        work: &StageWork,
        record: &StageRecord,
        stage: Uuid,
        journal: Vec<JournalEntry>,
    ) -> Result<StageOutcome, StageFailure> {
        self.check_tools(work)?;
        if work.reserve_bytes > 0 {
            let root = self.layout.root();
            self.store
                .reserve(root, record.id, self.owner.id(), work.reserve_bytes)
                .await
                .map_err(host_failure)?;
        }
        let lease = self.lease_identity(&work.plugin)?;
        let folders = self.make_folders(record, lease.as_ref()).await?;
        let cache_dir = self.make_cache(&work.plugin, lease.as_ref()).await?;
        let checkpoints = self.store.checkpoints(stage).await.map_err(host_failure)?;
        let deadline = work.plugin.timeout;
        let paths = StagePaths {
            work_dir: folders.work_dir.clone(),
            input_image: work.input_image.clone(),
            output_image: work.operation.may_write_output().then(|| folders.output_image()),
            plugin_data: work.plugin.data_dir.clone(),
            state_dir: folders.state_dir.clone(),
            cache_dir: Some(cache_dir.clone()),
        };
        let order = StageOrder {
            operation: work.operation,
            stage_id: stage,
            image_id: context.image.id,
            attempt: record.attempt,
            deadline_unix_ms: unix_ms(SystemTime::now() + deadline),
            target: work.target.clone(),
            provider: work.provider.clone(),
            template_xml: work.template.as_ref().map(|(xml, _)| xml.clone()),
            template_json: work.template.as_ref().map(|(_, json)| json.clone()),
            parameters: context.image.parameters.clone().unwrap_or_default(),
            images: work.images.clone(),
            resources: self.resources(&work.plugin, work.reserve_bytes),
            credential_name: (work.credentials && has_credentials(&context.order))
                .then(|| CREDENTIALS.to_owned()),
            config: self.plugin_config(&work.plugin.id),
            target_contents: work.target_contents.clone(),
            checkpoints,
            journal,
            paths,
        };
        let grants = grants(&order);
        let spec = StageSpec {
            plugin: work.plugin.library.clone(),
            sandbox: self.sandbox(work, &folders, cache_dir, lease.as_ref()),
            deadline,
            grants,
            artifacts_dir: folders.artifacts_dir.clone(),
            lock_file: folders.lock_file.clone(),
            order,
        };
        let outcome = self.supervise(context, work, record, stage, spec).await;
        self.keep_artifacts(context, &outcome).await;
        self.remove_attempt(folders, outcome.is_ok(), lease).await;
        outcome
    }

    /// Runs the process while a watcher turns its events into log lines and progress.
    async fn supervise(
        &self,
        context: &OrderContext,
        work: &StageWork,
        record: &StageRecord,
        stage: Uuid,
        spec: StageSpec,
    ) -> Result<StageOutcome, StageFailure> {
        let services = StoredServices {
            store: Arc::clone(&self.store),
            record: record.id,
            stage,
            order: context.order.id,
            credentials: context.order.credentials.clone(),
            named: Arc::clone(&self.named_credentials),
            vault: self.vault.clone(),
        };
        let (events, seen) = mpsc::channel::<StageEvent>(EVENTS_WAITING_MAX);
        let watcher = stage_watch::watch(self, context, work, seen);
        let running = self.supervisor.run(spec, Arc::new(services), events, context.cancel.clone());
        // The supervisor holds the only sender: the watcher ends with it.
        let (outcome, ()) = tokio::join!(running, watcher);
        outcome
    }

    /// Undoes what earlier attempts of a stage left outside, by a fresh process of its plugin.
    pub(crate) async fn clean_up(
        &self,
        context: &OrderContext,
        work: &StageWork,
        record: &StageRecord,
        leftover: Leftover,
    ) -> Result<(), CleanUpEnd> {
        let entries: Vec<JournalEntry> = self
            .store
            .outstanding(record.id)
            .await?
            .into_iter()
            .filter(|entry| entry.scratch || leftover == Leftover::Everything)
            .collect();
        if entries.is_empty() {
            return Ok(());
        }
        if !work.plugin.can(Operation::Cleanup) {
            let kinds: Vec<&str> = entries.iter().map(|entry| entry.kind.as_str()).collect();
            let error = format!(
                "{} cannot clean up what it left outside ({}): look for it by the token {}",
                work.plugin.id,
                kinds.join(", "),
                record.id
            );
            context.log.note(&error);
            return self.leave_for_good(context, record, leftover, (error, true)).await;
        }
        // A record of its own: it is fenced like any other process.
        let step = format!("cleanup of {} {}", record.step, Uuid::new_v4());
        let cleanup = StageWork {
            step,
            operation: Operation::Cleanup,
            input_image: None,
            reserve_bytes: 0,
            percent: 0..0,
            ..work.clone()
        };
        // A cancelled order is cleaned up all the same; only a shutdown stops it.
        let context = OrderContext { cancel: self.stopping.child_token(), ..context.clone() };
        // What interrupted the build does not count against its cleanup.
        self.made_progress(&context).await?;
        loop {
            let (order, image) = (context.order.id, context.image.id);
            let own =
                self.store.begin_attempt(order, image, &cleanup.step, &cleanup.plugin.id).await?;
            let failure =
                match self.attempt(&context, &cleanup, &own, record.id, entries.clone()).await {
                    Ok(_) => {
                        self.record_removed(record.id, entries).await?;
                        self.store.end_attempt(own.id, AttemptEnd::Succeeded(Value::Null)).await?;
                        return Ok(());
                    }
                    Err(failure) => failure,
                };
            match self.judge(&context, &own, failure).await {
                Ok(()) => {}
                Err(StageEnd::Stopped) => return Err(CleanUpEnd::Stopped),
                Err(StageEnd::Failed(failure)) => {
                    let step = &record.step;
                    context.log.note(&format!("cleaning up after {step} failed: {failure}"));
                    let error = failure.to_string();
                    return self.leave_for_good(&context, record, leftover, (error, false)).await;
                }
            }
        }
    }

    /// A stage that runs again takes its helpers over, and its end is the time to speak of them.
    async fn leave_for_good(
        &self,
        context: &OrderContext,
        record: &StageRecord,
        leftover: Leftover,
        (error, given_up): (String, bool),
    ) -> Result<(), CleanUpEnd> {
        if leftover == Leftover::Everything {
            let why = Why { error, scratch: false, given_up };
            self.leave(&context.order, &context.image, record, why).await?;
        }
        Ok(())
    }

    pub(crate) async fn record_removed(
        &self,
        stage: Uuid,
        entries: Vec<JournalEntry>,
    ) -> Result<(), StoreError> {
        for entry in entries {
            let removed = JournalEntry { event: JournalEvent::Removed, details: None, ..entry };
            self.store.journal(stage, removed).await?;
        }
        Ok(())
    }

    /// Progress of any durable kind: interruptions before it no longer count.
    async fn made_progress(&self, context: &OrderContext) -> Result<(), StoreError> {
        self.store.count_interruption(context.order.id, None).await?;
        Ok(())
    }

    fn sandbox(
        &self,
        work: &StageWork,
        folders: &StageFolders,
        cache_dir: PathBuf,
        lease: Option<&IdentityLease>,
    ) -> SandboxOrder {
        let mut sandbox = work.plugin.sandbox.clone();
        sandbox.identity = lease.map(IdentityLease::identity);
        sandbox.read_only.extend(work.input_image.clone());
        sandbox.read_only.extend(work.plugin.data_dir.clone());
        sandbox.writable = vec![
            folders.work_dir.clone(),
            folders.state_dir.clone(),
            folders.output_dir.clone(),
            cache_dir,
        ];
        let granted = self.configuration.plugin_folders.get(&work.plugin.id);
        sandbox.writable.extend(granted.into_iter().flatten().cloned());
        sandbox
    }

    fn resources(&self, plugin: &ChosenPlugin, reserved: u64) -> Map<String, Value> {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut granted = Map::new();
        granted.insert("cpus".into(), json!(cpus));
        let memory = plugin.sandbox.limits.memory_bytes_max;
        granted.insert("memory_bytes".into(), json!((memory > 0).then_some(memory)));
        granted.insert("work_bytes".into(), json!((reserved > 0).then_some(reserved)));
        granted.insert("bandwidth_bytes_per_s".into(), Value::Null);
        granted
    }
}

/// What of a stage's leftovers is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leftover {
    /// Helpers only: the stage runs again and takes its product over.
    Scratch,
    /// The product too: the order ends without it.
    Everything,
}

fn decode(record: &StageRecord) -> Result<RecordedOutcome, StageEnd> {
    let outcome = record.outcome.clone().unwrap_or_default();
    serde_json::from_value(outcome).map_err(|cause| {
        let message = format!("the record of {} is damaged: {cause}", record.step);
        StageEnd::Failed(StageFailure::new(FailureCode::Host, message))
    })
}

fn has_credentials(order: &Order) -> bool {
    order.credentials != CredentialSource::None
}

/// Secrets: the order's credentials. Images: its lineage, and ids that stand in its parameters.
fn grants(order: &StageOrder) -> Grants {
    let lineage = order.images.values().filter_map(|image| image.get("id"));
    let mut images: std::collections::BTreeSet<String> =
        lineage.filter_map(Value::as_str).map(str::to_owned).collect();
    let named = order.parameters.values().filter_map(Value::as_str);
    images.extend(named.filter_map(|text| Uuid::parse_str(text).ok()).map(|id| id.to_string()));
    Grants { secrets: order.credential_name.iter().cloned().collect(), images, reserve: true }
}

fn retry_pause(tried: u32, asked_ms: u64) -> Duration {
    let doubled = RETRY_PAUSE * 2_u32.saturating_pow(tried.saturating_sub(1));
    doubled.max(Duration::from_millis(asked_ms)).min(RETRY_PAUSE_MAX)
}

pub(crate) fn given_up(failure: StageFailure, row: u32) -> StageEnd {
    let message = format!(
        "given up after {row} interruptions in a row without progress; the last one: {}",
        failure.message
    );
    StageEnd::Failed(StageFailure { message, ..failure })
}

/// A failure of ours; a full disk is told as such.
pub(crate) fn host_failure(error: impl std::error::Error + 'static) -> StageFailure {
    let mut message = error.to_string();
    let mut no_space = is_no_space(&error);
    let mut cause = error.source();
    while let Some(next) = cause {
        message = format!("{message}: {next}");
        no_space |= is_no_space(next);
        cause = next.source();
    }
    let code = if no_space { FailureCode::NoSpace } else { FailureCode::Host };
    StageFailure::new(code, message)
}

fn is_no_space(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let io = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    matches!(io, Some(StorageFull | QuotaExceeded))
        || error.downcast_ref::<StoreError>().is_some_and(StoreError::is_no_space)
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_obey_the_plugin_and_stay_bounded() {
        assert_eq!(retry_pause(1, 0), Duration::from_secs(2));
        assert_eq!(retry_pause(2, 0), Duration::from_secs(4));
        assert_eq!(retry_pause(1, 30_000), Duration::from_secs(30));
        assert_eq!(retry_pause(1, u64::MAX), RETRY_PAUSE_MAX);
        assert_eq!(retry_pause(40, 0), RETRY_PAUSE_MAX);
    }
}
