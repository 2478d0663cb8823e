//! One attempt from spawn to verdict: puts the conversation together and judges what came of it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use imagefactory_model::frames::{
    Hello, HostFrame, PROTOCOL, PluginLibrary, Ready, RunnerTask, SandboxOrder,
};
use imagefactory_model::stage::{
    FailureCode, JournalEntry, LogLevel, LogSource, Operation, OutputFile, StageFailure,
    StageOutcome,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::artifacts;
use super::calls::{CallContext, Calls};
use super::cgroup::{CgroupPlaces, StageCgroup};
use super::conversation::{Clocks, Conversation, Recording, State};
use super::events::{EventSink, StageEvent};
use super::ladder::Patience;
use super::output::{Promise, check_output};
use super::process_table;
use super::reservations::Reservations;
use super::results::missing_results;
use super::scrubber::Scrubber;
use super::services::{Grants, ServiceError, ServiceFuture, SpawnedAttempt, StageServices};
use super::spawn::{LeafOrder, RunnerProcess, SpawnOrder, Spawner};
use super::stage_log::StageLog;
use super::supervisor::{StageSpec, SupervisorConfig};
use super::testimony::Testimony;
use super::verdict::{Observed, judge};
use super::wire;

/// A store that does not record an attempt in this time will not do better on the journal.
const RECORDING_PATIENCE: Duration = Duration::from_secs(30);

/// After everything of the stage is dead its pipes are at their end; a process in the kernel's
/// hands may hold them open.
const PIPES_PATIENCE: Duration = Duration::from_millis(500);

/// What all attempts share.
#[derive(Clone, Copy)]
pub(super) struct Tools<'a> {
    pub(super) spawner: &'a Spawner,
    pub(super) cgroups: &'a Arc<CgroupPlaces>,
    pub(super) reservations: &'a Arc<Reservations>,
}

/// One runner to be.
pub(super) struct Attempt<'a> {
    pub(super) config: &'a SupervisorConfig,
    pub(super) plugin: &'a PluginLibrary,
    pub(super) sandbox: &'a SandboxOrder,
    pub(super) events: EventSink,
}

/// What is left when the process is gone.
struct Remains<'a> {
    status: Option<ExitStatus>,
    oom_kills: u64,
    state: State,
    testimony: Testimony<'a>,
    calls: Calls,
    log: StageLog,
}

impl<'a> Attempt<'a> {
    pub(super) async fn run_stage(
        &'a self,
        tools: Tools<'_>,
        spec: &'a StageSpec,
        services: Arc<dyn StageServices>,
        cancel: &CancellationToken,
    ) -> Result<StageOutcome, StageFailure> {
        let operation = spec.order.operation;
        if cancel.is_cancelled() {
            let plugin = &self.plugin.id;
            let message = format!("{operation} of plugin {plugin} was cancelled before it began");
            return Err(StageFailure::new(FailureCode::Cancelled, message));
        }
        let work_dir = &spec.order.paths.work_dir;
        // Named as its work folder, which no other attempt has: a cleanup goes by the id of the
        // stage that it cleans up after, whose own cgroup may still be there.
        let name = match work_dir.file_name().and_then(|name| name.to_str()) {
            Some(name) => name.to_owned(),
            None => format!("{}-{}", spec.order.stage_id, spec.order.attempt),
        };
        let process = self.spawn(tools, work_dir.clone(), name).await?;
        let recording = self.record(&process, spec, services.clone()).map_err(unattended)?;
        let context = CallContext {
            services,
            reservations: tools.reservations.for_stage(),
            grants: spec.grants.clone(),
            scrubber: Scrubber::default(),
            events: self.events.clone(),
            work_dir: work_dir.clone(),
        };
        let mut conversation =
            self.converse(tools, process, context, Some(operation)).map_err(unattended)?;
        conversation.conversation.order = Some(spec.order.clone());
        conversation.conversation.recording = Some(recording);
        conversation.conversation.clocks.deadline = Some(spec.deadline);
        conversation.greet(RunnerTask::Stage, Some(spec.lock_file.clone()));
        let mut remains = conversation.finish(cancel).await;
        let verdict = self.verdict(&remains, Some(operation));
        let (taken, refused) = take_artifacts(&mut remains.calls, spec, self.config).await;
        for sentence in refused {
            remains.log.host(LogLevel::Warn, sentence);
        }
        let outcome = match verdict {
            Some(failure) => Err(failure),
            None => self.outcome(&mut remains, spec).await,
        };
        match outcome {
            Ok(outcome) => Ok(StageOutcome { artifacts: taken, ..outcome }),
            Err(failure) => {
                Err(StageFailure { log_tail: remains.log.tail(), artifacts: taken, ..failure })
            }
        }
    }

    /// A runner that gets no order: it describes a plugin, or only its walls.
    pub(super) async fn look(
        &'a self,
        tools: Tools<'_>,
        task: RunnerTask,
    ) -> Result<Ready, StageFailure> {
        let name = format!("describe-{}", Uuid::new_v4());
        let process = self.spawn(tools, PathBuf::from("/"), name).await?;
        let context = CallContext {
            services: Arc::new(NoServices),
            reservations: tools.reservations.for_stage(),
            grants: Grants::default(),
            scrubber: Scrubber::default(),
            events: self.events.clone(),
            work_dir: PathBuf::from("/"),
        };
        let conversation = self.converse(tools, process, context, None).map_err(unattended)?;
        conversation.greet(task, None);
        let remains = conversation.finish(&CancellationToken::new()).await;
        let failure = match (self.verdict(&remains, None), remains.testimony.ready) {
            (None, Some(ready)) => return Ok(ready),
            (Some(failure), _) => failure,
            // END is believed only after Ready, so this is a defect of ours.
            (None, None) => StageFailure::new(FailureCode::Host, "described without Ready"),
        };
        Err(StageFailure { log_tail: remains.log.tail(), ..failure })
    }

    async fn spawn(
        &self,
        tools: Tools<'_>,
        cwd: PathBuf,
        name: String,
    ) -> Result<RunnerProcess, StageFailure> {
        let config = self.config;
        let order = SpawnOrder {
            runner: config.runner.clone(),
            cwd,
            path: config.path.clone(),
            proxies: if self.sandbox.network { config.proxies.clone() } else { Vec::new() },
            leaf: LeafOrder {
                places: tools.cgroups.clone(),
                name: format!("imagefactory-{name}"),
                limits: self.sandbox.limits,
            },
            marker: name,
            adopts_orphans: config.subreaper,
        };
        tools.spawner.spawn(order).await.map_err(|error| {
            let runner = config.runner.display();
            let message = format!("the stage runner {runner} cannot be started: {error}");
            let hint = "check that the package is whole and the work folder exists".to_owned();
            StageFailure { hint, ..StageFailure::new(FailureCode::Host, message) }
        })
    }

    /// Begins to record the attempt while the runner loads the plugin.
    fn record(
        &self,
        process: &RunnerProcess,
        spec: &StageSpec,
        services: Arc<dyn StageServices>,
    ) -> io::Result<Recording> {
        let pid = process.id();
        let facts = i32::try_from(pid).ok().and_then(process_table::facts);
        let start_time = facts
            .map(|facts| facts.start_time)
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat cannot be read")))?;
        let boot_id = process_table::boot_id()?;
        let cgroup = process.cgroup.as_ref().map(StageCgroup::dirs).unwrap_or_default();
        let lock_file = spec.lock_file.clone();
        let attempt = SpawnedAttempt { pid, start_time, boot_id, cgroup, lock_file };
        let events = self.events.clone();
        Ok(Box::pin(async move {
            let recorded = timeout(RECORDING_PATIENCE, services.spawned(&attempt)).await;
            recorded.unwrap_or_else(|_| {
                let message = format!("the store did not answer within {RECORDING_PATIENCE:?}");
                Err(ServiceError { code: 10, message })
            })?;
            events.send(StageEvent::Spawned(attempt));
            Ok(())
        }))
    }

    fn converse(
        &'a self,
        tools: Tools<'_>,
        mut process: RunnerProcess,
        context: CallContext,
        operation: Option<Operation>,
    ) -> io::Result<Talk<'a>> {
        let (socket, stdout, stderr) = process.register()?;
        let log = StageLog::new(self.config.log, context.scrubber.clone(), self.events.clone());
        let mut pipes = JoinSet::new();
        pipes.spawn(log.clone().drain(stdout, LogSource::Stdout));
        pipes.spawn(log.clone().drain(stderr, LogSource::Stderr));
        let (reader, sender) = wire::open(socket);
        let nonce = Uuid::new_v4().simple().to_string();
        let testimony = Testimony::new(
            self.plugin,
            operation,
            nonce.clone(),
            log.clone(),
            self.events.clone(),
            context.scrubber.clone(),
        );
        let conversation = Conversation {
            process,
            reader,
            sender,
            testimony,
            calls: Calls::new(context),
            log,
            events: self.events.clone(),
            clocks: self.clocks(),
            begun: Instant::now(),
            recording: None,
            order: None,
            strict: self.sandbox.strict,
            own_layers: (tools.cgroups.active(), tools.cgroups.missing.clone()),
            state: State::default(),
        };
        Ok(Talk { attempt: self, nonce, pipes, conversation })
    }

    fn clocks(&self) -> Clocks {
        let config = self.config;
        Clocks {
            ready: config.ready_timeout,
            deadline: None,
            heartbeat: config.heartbeat_timeout,
            patience: Patience {
                cancel: Duration::from_millis(self.sandbox.cancel_grace_ms),
                terminate: config.term_grace,
                kill: config.reap_timeout,
            },
        }
    }

    fn verdict(&self, remains: &Remains<'_>, operation: Option<Operation>) -> Option<StageFailure> {
        judge(&Observed {
            plugin: self.plugin,
            operation,
            loaded: remains.testimony.ready.is_some(),
            refused: remains.testimony.refused.clone(),
            error: remains.testimony.error.clone(),
            end: remains.testimony.end.map(|(code, _)| code),
            violation: remains.state.violation.clone(),
            stopped: remains.state.stopped.clone(),
            signalled: remains.state.signalled,
            status: remains.status,
            oom_kills: remains.oom_kills,
            memory_bytes_max: self.sandbox.limits.memory_bytes_max,
        })
    }

    /// The last third of success: what was promised is there.
    async fn outcome(
        &self,
        remains: &mut Remains<'_>,
        spec: &StageSpec,
    ) -> Result<StageOutcome, StageFailure> {
        let operation = spec.order.operation;
        let unfounded = |said: String| {
            let (id, version) = (&self.plugin.id, &self.plugin.version);
            let message =
                format!("plugin {id} {version} reported success in {operation}, but {said}");
            StageFailure::new(FailureCode::PluginOutput, message)
        };
        let results = std::mem::take(&mut remains.testimony.results);
        let missing = missing_results(operation, &results);
        if !missing.is_empty() {
            return Err(unfounded(format!("it did not set {}", missing.join(", "))));
        }
        let should = remains.testimony.end.and_then(|(_, should)| should);
        let format = results.get("format").and_then(|format| format.as_str()).map(str::to_owned);
        let output = check_in_background(spec, should, format).await.map_err(unfounded)?;
        Ok(StageOutcome {
            results,
            should_create_target_image: should,
            target_contents: std::mem::take(&mut remains.testimony.target_contents),
            artifacts: Vec::new(),
            output,
        })
    }
}

/// The host could not do its part for a runner that it had started.
fn unattended(error: io::Error) -> StageFailure {
    StageFailure::new(FailureCode::Host, format!("the runner cannot be looked after: {error}"))
}

async fn check_in_background(
    spec: &StageSpec,
    should: Option<bool>,
    format: Option<String>,
) -> Result<Option<OutputFile>, String> {
    let operation = spec.order.operation;
    let path = spec.order.paths.output_image.clone();
    let identity = spec.sandbox.identity;
    let check = move || {
        let promise = Promise { operation, should, format: format.as_deref(), identity };
        check_output(path.as_deref(), &promise)
    };
    let checked = tokio::task::spawn_blocking(check).await;
    checked.unwrap_or_else(|error| Err(format!("the image could not be checked: {error}")))
}

async fn take_artifacts(
    calls: &mut Calls,
    spec: &StageSpec,
    config: &SupervisorConfig,
) -> (Vec<imagefactory_model::stage::Artifact>, Vec<String>) {
    let announced = calls.take_artifacts();
    if announced.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let work_dir = spec.order.paths.work_dir.clone();
    let into = spec.artifacts_dir.clone();
    let bytes_max = config.artifact_bytes_max;
    let take = move || artifacts::take(announced, Path::new(&work_dir), &into, bytes_max);
    let taken = tokio::task::spawn_blocking(take).await;
    taken.unwrap_or_else(|error| (Vec::new(), vec![format!("artefacts were not taken: {error}")]))
}

/// A conversation with what belongs to it.
struct Talk<'a> {
    attempt: &'a Attempt<'a>,
    nonce: String,
    pipes: JoinSet<()>,
    conversation: Conversation<'a>,
}

impl<'a> Talk<'a> {
    fn greet(&self, task: RunnerTask, lock_file: Option<PathBuf>) {
        let mut sandbox = self.attempt.sandbox.clone();
        if self.conversation.process.cgroup.as_ref().is_some_and(StageCgroup::holds_memory) {
            // What the cgroup holds for the stage as a whole, the runner need not hold by process.
            sandbox.limits.memory_bytes_max = 0;
        }
        let hello = HostFrame::Hello(Box::new(Hello {
            protocol: PROTOCOL,
            nonce: self.nonce.clone(),
            task,
            plugin: self.attempt.plugin.clone(),
            sandbox,
            lock_file,
        }));
        if let Err(error) = self.conversation.sender.send(&hello) {
            // The first frame of an empty queue: only a sandbox order of 16 MiB gets here. The
            // runner then waits in vain and the ready clock ends it.
            tracing::error!(%error, plugin = %self.attempt.plugin.id, "Hello cannot be sent");
        }
    }

    /// Talks to the end, and clears away what is left of the process.
    async fn finish(mut self, cancel: &CancellationToken) -> Remains<'a> {
        let status = self.conversation.run(cancel).await;
        let Conversation { mut process, testimony, calls, log, state, .. } = self.conversation;
        let oom_kills = process.cgroup.as_ref().map_or(0, StageCgroup::oom_kills);
        let drained = async { while self.pipes.join_next().await.is_some() {} };
        if timeout(PIPES_PATIENCE, drained).await.is_err() {
            log.host(LogLevel::Warn, "something still holds the stage's output open".to_owned());
        }
        log.tell_losses();
        if !process.clear_away(self.attempt.config.reap_timeout).await {
            log.host(LogLevel::Error, "killed processes of the stage do not die".to_owned());
        }
        if status.is_none() && state.stopped.is_some() {
            tracing::warn!(pid = process.id(), "a killed runner hangs in the kernel; watching it");
        }
        Remains { status, oom_kills, state, testimony, calls, log }
    }
}

/// For a runner that only describes: it cannot ask, since no call is heard before Start.
struct NoServices;

impl NoServices {
    fn refuse<T: Send + 'static>() -> ServiceFuture<'static, T> {
        let message = "a plugin that is only described has no services".to_owned();
        Box::pin(std::future::ready(Err(ServiceError { code: 4, message })))
    }
}

impl StageServices for NoServices {
    fn spawned(&self, _attempt: &SpawnedAttempt) -> ServiceFuture<'_, ()> {
        NoServices::refuse()
    }
    fn journal(&self, _entry: JournalEntry) -> ServiceFuture<'_, ()> {
        NoServices::refuse()
    }
    fn checkpoint_put(&self, _key: String, _value: String) -> ServiceFuture<'_, ()> {
        NoServices::refuse()
    }
    fn secret_get(&self, _name: String) -> ServiceFuture<'_, String> {
        NoServices::refuse()
    }
    fn image_get(&self, _id: String) -> ServiceFuture<'_, String> {
        NoServices::refuse()
    }
}
