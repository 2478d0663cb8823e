//! The supervisor's door: configuration, what a stage is given, and the two things one can ask.
//!
//! `run` carries one order through one runner process; `describe` only loads a plugin and reports what
//! it says of itself. Both own the process from spawn to reaping; dropping their futures ends the
//! process as well. Retries and what an outcome means are the pipeline's business.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use imagefactory_model::frames::{PluginLibrary, Ready, SandboxOrder};
use imagefactory_model::stage::{StageFailure, StageOrder, StageOutcome};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::events::StageEvent;
use super::reservations::Reservations;
use super::services::{Grants, StageServices};

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
    /// Adopt orphans of stages (`PR_SET_CHILD_SUBREAPER`), to see and kill what fled from its group.
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

/// Runs stages, each in a process of its own. Cheap to share: `Arc<StageSupervisor>`.
#[derive(Debug)]
pub struct StageSupervisor {
    config: SupervisorConfig,
    reservations: Arc<Reservations>,
}

impl StageSupervisor {
    /// A supervisor with this configuration. Detects what the machine offers, once.
    pub fn new(config: SupervisorConfig) -> Self {
        let reservations = Reservations::new(config.listen_ports.clone());
        StageSupervisor { config, reservations }
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
        todo!()
    }

    /// Loads a plugin and says what it is, without creating an instance.
    pub async fn describe(
        &self,
        plugin: PluginLibrary,
        sandbox: SandboxOrder,
    ) -> Result<Ready, StageFailure> {
        todo!()
    }
}
