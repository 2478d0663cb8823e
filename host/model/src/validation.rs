//! The language between `imagefactory plugin validate` and the runner's validating half.
//!
//! The command line hands one [`ProbeOrder`] to `imagefactory-stage-runner --validate` on standard
//! input (then closes it) and reads [`ProbeLine`]s, one JSON object a line, from its standard
//! output until the process ends. One order is one rule on one plugin in one process. Both ends
//! come from one package; keys are closed all the same. Nothing here does I/O.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::frames::PluginKind;
use crate::stage::{JournalEntry, Operation};

/// Longest line that a validating runner writes; longer texts are cut by it.
pub const PROBE_LINE_BYTES_MAX: usize = 256 << 10;

/// One rule to try on one plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeOrder {
    /// Number of the rule: 101 for `IMGF-P-101`.
    pub rule: u16,
    /// What the manifest says of the plugin.
    pub plugin: ProbedPlugin,
    /// An empty folder of this probe alone; the runner makes everything else below it.
    pub folder: PathBuf,
    /// The inner process is killed with all its descendants after this many milliseconds.
    pub timeout_ms: u64,
    /// How long a cancelled operation may take to return, in milliseconds.
    pub cancel_grace_ms: u64,
    /// How often `create`/`destroy` are repeated where leaks are looked for.
    pub rounds: u32,
    /// How many points (nth host call) are tried where an operation is disturbed in its middle.
    pub points: u32,
    /// Chooses those points and the odd bytes.
    pub seed: u64,
    /// What to run.
    pub scenario: Scenario,
}

/// The plugin as its manifest describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbedPlugin {
    /// The manifest's `id`.
    pub id: String,
    /// The manifest's `version`.
    pub version: String,
    /// The manifest's `type`.
    pub kind: PluginKind,
    /// The manifest's `abi.req`.
    pub abi_req: String,
    /// The manifest's `capabilities`; `None` where it lists none.
    pub capabilities: Option<Vec<String>>,
    /// Absolute path of the library.
    pub library: PathBuf,
}

/// What the operations of a probe are given: defaults, or `<Id>.validate.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Which operations to run, in this order.
    pub operations: Vec<Operation>,
    /// TDL text.
    pub template_xml: String,
    /// The same, parsed.
    pub template_json: String,
    /// Of every operation.
    pub parameters: Map<String, Value>,
    /// Laid over `parameters` where an operation is cancelled or killed: makes it last.
    pub slow_parameters: Map<String, Value>,
    /// `ec2`, …
    pub target: Option<String>,
    /// The provider's definition.
    pub provider: Option<String>,
    /// The text that `secret_get` answers; `None` = no credentials.
    pub credentials: Option<String>,
    /// What `config_get` answers.
    pub config: Map<String, Value>,
    /// Bytes of the input image of those operations that have one.
    pub input_image_bytes: u64,
    /// `identifier_on_provider` given to `delete_from_provider`; `None` = what push answered.
    pub delete_identifier: Option<String>,
    /// A fixture's word that `provider` speaks plain HTTP to `${ENDPOINT}`.
    pub uses_endpoint: bool,
    /// Expected status classes of 410 by HTTP status, where the usual ones do not fit.
    pub endpoint_codes: BTreeMap<String, Vec<i32>>,
}

/// Placeholder in `provider`, `parameters` and `config`: an empty folder in which the plugin keeps
/// what stands for outside resources, one file each. It outlives the operations of one run, and
/// its files are counted.
pub const LEDGER_PLACEHOLDER: &str = "${LEDGER}";
/// Placeholder in `provider` and `parameters`: `http://127.0.0.1:PORT` of the validator's own
/// misbehaving provider.
pub const ENDPOINT_PLACEHOLDER: &str = "${ENDPOINT}";

/// One line of a validating runner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ProbeLine {
    /// What is being called now; the last one tells where a crash happened.
    Phase(String),
    /// A resource was journalled; kept for the cleanup after a kill.
    Journal(JournalEntry),
    /// Something that the rule forbids (or advises against) was seen.
    Finding(Finding),
    /// Worth telling, whatever the verdict: the highest glibc version, the load time.
    Note(String),
    /// The rule does not apply to this plugin or cannot be tried here.
    Skip(String),
    /// The inner process came to its end by itself.
    Done,
    /// Last line, by the outer process: how the inner one ended and what it left behind.
    Ended(Ended),
}

/// Something that the rule forbids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// Only advised against: the result is a warning.
    pub advice: bool,
    /// Fact and values.
    pub message: String,
}

/// How the inner process of a probe ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// Exit status, where it exited.
    pub status: Option<i32>,
    /// Signal, where one ended it.
    pub signal: Option<i32>,
    /// It had to be killed at the deadline.
    pub timed_out: bool,
    /// Processes that outlived it (name and pid); they were killed.
    pub leaked_processes: Vec<String>,
    /// The last bytes of what it printed, lossily decoded.
    pub printed: String,
}

/// Outcome of one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The duty is met.
    Success,
    /// An advice is not followed.
    Warning,
    /// The duty is broken.
    Failed,
    /// The plugin ended the process.
    Crashed,
    /// It was killed at the deadline.
    TimedOut,
    /// Not tried; the message says why.
    Skipped,
}

impl Outcome {
    /// As in the JSON report.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Warning => "warning",
            Outcome::Failed => "failed",
            Outcome::Crashed => "crashed",
            Outcome::TimedOut => "timed_out",
            Outcome::Skipped => "skipped",
        }
    }

    /// Does it make the plugin fail?
    pub fn is_failure(self) -> bool {
        matches!(self, Outcome::Failed | Outcome::Crashed | Outcome::TimedOut)
    }
}
