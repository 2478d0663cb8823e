//! The supervisor's door: configuration, what a stage is given, and the two things one can ask.
//!
//! `run` carries one order through one runner process; `describe` only loads a plugin and reports
//! what it says of itself. Both own the process from spawn to reaping; dropping their futures ends
//! the process as well. Retries and what an outcome means are the pipeline's business.

use std::ffi::OsString;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use imagefactory_model::frames::{PluginKind, PluginLibrary, Ready, RunnerTask, SandboxOrder};
use imagefactory_model::stage::{StageFailure, StageOrder, StageOutcome};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::attempt::{Attempt, Tools};
use super::cgroup::CgroupPlaces;
use super::containment::Containment;
use super::events::{EventSink, StageEvent};
use super::reservations::Reservations;
use super::services::{Grants, StageServices};
use super::spawn::Spawner;

/// How this factory runs stages. [`SupervisorConfig::new`] has the packaged values.
#[derive(Debug, Clone)]
pub struct SupervisorConfig {
    /// Absolute path of `imagefactory-stage-runner`.
    pub runner: PathBuf,
    /// `PATH` of the runner and of all tools that plugins start.
    pub path: OsString,
    /// Variables that stages with a network get besides `PATH`, `LANG` and `TZ`: the proxies.
    pub proxies: Vec<(OsString, OsString)>,
    /// Between spawn and Ready: sandbox, checksum, `dlopen`, negotiation.
    pub ready_timeout: Duration,
    /// Longest silence of the runner; it says something every 5 s while the stage thread lives.
    pub heartbeat_timeout: Duration,
    /// Between SIGTERM and the end of everything.
    pub term_grace: Duration,
    /// How long a killed runner may take to go before it is left on the watch list.
    pub reap_timeout: Duration,
    /// How much log a stage may make.
    pub log: LogLimits,
    /// Largest artefact that is taken.
    pub artifact_bytes_max: u64,
    /// Ports that stages may reserve.
    pub listen_ports: RangeInclusive<u16>,
    /// Put each stage into a cgroup where one can be had.
    pub cgroups: bool,
    /// Adopt orphans of stages (`PR_SET_CHILD_SUBREAPER`), to see and kill what fled from its
    /// group.
    pub subreaper: bool,
}

/// Bounds on the log of one stage. What passes them is lost and counted, never an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// A longer line is cut.
    pub line_bytes_max: usize,
    /// Lines a second, sustained.
    pub lines_per_second: u32,
    /// Lines at once.
    pub burst_lines: u32,
    /// Text of all lines of a stage.
    pub stage_bytes_max: u64,
    /// Lines kept for a failure's `log_tail`.
    pub tail_lines: usize,
}

/// One attempt of one stage.
#[derive(Debug, Clone)]
pub struct StageSpec {
    /// What to call, with everything it is given. Its folders exist.
    pub order: StageOrder,
    /// Which library.
    pub plugin: PluginLibrary,
    /// How to confine it.
    pub sandbox: SandboxOrder,
    /// From now on; after it the stage is ended. Measured on a clock that nobody sets.
    pub deadline: Duration,
    /// What it may ask for.
    pub grants: Grants,
    /// Where artefacts are copied to; owned by the host and not visible to the plugin.
    pub artifacts_dir: PathBuf,
    /// The attempt's lock file; exists, outside of everything the plugin can write.
    pub lock_file: PathBuf,
}

impl SupervisorConfig {
    /// The packaged values, for a runner at this absolute path.
    pub fn new(runner: impl Into<PathBuf>) -> Self {
        let proxies = ["http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY"];
        let proxies = proxies.iter().map(|name| ((*name).into(), std::env::var_os(name)));
        SupervisorConfig {
            runner: runner.into(),
            path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
            proxies: proxies.filter_map(|(name, value)| Some((name, value?))).collect(),
            // Reading and hashing a 100 MB library on a slow disk takes seconds.
            ready_timeout: Duration::from_secs(30),
            // Six heartbeats: a machine that swaps may miss some.
            heartbeat_timeout: Duration::from_secs(30),
            term_grace: Duration::from_secs(5),
            reap_timeout: Duration::from_secs(5),
            log: LogLimits::default(),
            // A serial log or an SBOM is below 100 MB; a disk image is no artefact.
            artifact_bytes_max: 1 << 30,
            // The original's default (listen_port_min, listen_port_max).
            listen_ports: 1025..=1125,
            cgroups: true,
            subreaper: true,
        }
    }
}

impl Default for LogLimits {
    fn default() -> Self {
        LogLimits {
            // What a terminal or a journal shows of one line and still makes sense.
            line_bytes_max: 8 << 10,
            // An installer prints some thousand lines in minutes; bursts while unpacking packages.
            lines_per_second: 200,
            burst_lines: 2000,
            // A base image's log is below 5 MB.
            stage_bytes_max: 64 << 20,
            // Fits a REST answer.
            tail_lines: 20,
        }
    }
}

/// Runs stages, each in a process of its own. Cheap to share: `Arc<StageSupervisor>`.
#[derive(Debug)]
pub struct StageSupervisor {
    config: SupervisorConfig,
    reservations: Arc<Reservations>,
    cgroups: Arc<CgroupPlaces>,
    spawner: Spawner,
}

impl StageSupervisor {
    /// A supervisor with this configuration. Detects what the machine offers, once, and starts the
    /// spawning thread. Fails where no thread can be had.
    pub fn new(config: SupervisorConfig) -> io::Result<Self> {
        let cgroups = if config.cgroups {
            CgroupPlaces::detect()
        } else {
            CgroupPlaces::none("cgroup: switched off in the configuration")
        };
        if config.subreaper {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        }
        Ok(StageSupervisor {
            reservations: Reservations::new(config.listen_ports.clone()),
            cgroups: Arc::new(cgroups),
            spawner: Spawner::start()?,
            config,
        })
    }

    /// What stands around stages that are confined like this, and what does not: puts the walls
    /// up once, around nothing. For the log at start and `sandbox.strict`. Takes as long as an
    /// empty stage.
    pub async fn containment(&self, sandbox: SandboxOrder) -> Result<Containment, StageFailure> {
        // Whoever insists is refused by the runner, and the report is what is wanted here.
        let sandbox = SandboxOrder { strict: false, ..sandbox };
        let runner = PluginLibrary {
            id: "imagefactory-stage-runner".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kind: PluginKind::Cloud,
            path: self.config.runner.clone(),
            sha256: None,
            trusted_uid: None,
        };
        let ready = self.look(RunnerTask::Probe, runner, sandbox).await?;
        Ok(Containment::new(ready.sandbox))
    }

    /// Runs one stage to its end. `cancel` ends it early; so does dropping the future (at once and
    /// without grace). Never waits longer than deadline + grace + the two kill bounds.
    pub async fn run(
        &self,
        spec: StageSpec,
        services: Arc<dyn StageServices>,
        events: mpsc::Sender<StageEvent>,
        cancel: CancellationToken,
    ) -> Result<StageOutcome, StageFailure> {
        let attempt = Attempt {
            config: &self.config,
            plugin: &spec.plugin,
            sandbox: &spec.sandbox,
            events: EventSink::new(events),
        };
        attempt.run_stage(self.tools(), &spec, services, &cancel).await
    }

    /// Loads a plugin and says what it is, without creating an instance.
    pub async fn describe(
        &self,
        plugin: PluginLibrary,
        sandbox: SandboxOrder,
    ) -> Result<Ready, StageFailure> {
        self.look(RunnerTask::Describe, plugin, sandbox).await
    }

    async fn look(
        &self,
        task: RunnerTask,
        plugin: PluginLibrary,
        sandbox: SandboxOrder,
    ) -> Result<Ready, StageFailure> {
        let (events, _nobody) = mpsc::channel(1);
        let attempt = Attempt {
            config: &self.config,
            plugin: &plugin,
            sandbox: &sandbox,
            events: EventSink::new(events),
        };
        attempt.look(self.tools(), task).await
    }

    fn tools(&self) -> Tools<'_> {
        Tools { spawner: &self.spawner, cgroups: &self.cgroups, reservations: &self.reservations }
    }
}
