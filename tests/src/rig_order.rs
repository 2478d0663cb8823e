//! The language between a test and its stage driver.
//!
//! A test writes one [`RigOrder`] as JSON to the driver's standard input and reads one
//! [`RigReport`] from its standard output. Both are plain values; `stage_rig.rs` makes and judges
//! them, the driver (`src/bin/stage-driver.rs`) carries them out.

use std::collections::BTreeMap;
use std::path::PathBuf;

use imagefactory_model::frames::{PluginLibrary, SandboxOrder, SandboxReport};
use imagefactory_model::stage::FailureCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a driver is to do: run `stage` while the steady plugin works beside it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RigOrder {
    /// `imagefactory-stage-runner`.
    pub runner: PathBuf,
    /// The factory's store; exists.
    pub storage: PathBuf,
    /// The factory's scratch; exists.
    pub tmp: PathBuf,
    /// Milliseconds that loading and negotiating may take.
    pub ready_timeout_ms: u64,
    /// Milliseconds without a heartbeat after which the runner counts as dead.
    pub heartbeat_timeout_ms: u64,
    /// Milliseconds between SIGTERM and SIGKILL.
    pub term_grace_ms: u64,
    /// The text of a secret that the daemon holds and that no stage is granted.
    pub daemon_secret: String,
    /// The stage in question.
    pub stage: StageOnRig,
    /// A lawful stage that runs until the other is over; its plugin is the fixture `steady`.
    pub beside: Option<StageOnRig>,
}

/// One stage; folders and ids are the driver's business.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StageOnRig {
    /// What to load.
    pub plugin: PluginLibrary,
    /// How to confine it; the driver adds the stage's folders to `writable`.
    pub sandbox: SandboxOrder,
    /// The stage's parameters.
    pub parameters: Map<String, Value>,
    /// Milliseconds until it is ended.
    pub deadline_ms: u64,
    /// Ask it to end once it has logged a line with this text.
    pub cancel_on_line: Option<String>,
}

/// What a driver saw.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RigReport {
    /// The stage in question.
    pub stage: Ended,
    /// The lawful one.
    pub beside: Option<Ended>,
    /// The driver's own descriptors before and after, by kind.
    pub descriptors_before: BTreeMap<String, usize>,
    /// After.
    pub descriptors_after: BTreeMap<String, usize>,
    /// The driver's children when both stages were over.
    pub children_after: Vec<String>,
    /// The most memory that the driver ever had resident.
    pub peak_memory_bytes: u64,
    /// What the supervisor says it cannot contain, as an operator reads it.
    pub gaps: Vec<String>,
    /// Connections that anybody made to the driver's listening sockets.
    pub connections: u32,
}

/// How a stage ended and what was seen of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ended {
    /// The results, or why there are none.
    pub end: Result<Product, Failure>,
    /// Log lines and progress messages in order; at most 20000, since a test only searches them.
    pub lines: Vec<String>,
    /// Content of the artefacts that the host took, by name.
    pub artifacts: BTreeMap<String, String>,
    /// What confined it, if it came so far.
    pub sandbox: Option<SandboxReport>,
    /// From the call to its answer.
    pub milliseconds: u64,
    /// Everything of the outcome or failure in its debug form: what a leaked secret is searched in.
    pub everything: String,
}

/// What a stage that succeeded made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Product {
    /// As the outcome has them.
    pub results: BTreeMap<String, Value>,
    /// The host's own finding of the output's format.
    pub format: Option<String>,
    /// Size and sum of the output file, as the driver found it.
    pub output_bytes: Option<u64>,
    /// Does it hold nothing but the letter that its plugin writes?
    pub output_is_pure: Option<bool>,
}

/// `StageFailure`, as far as tests judge it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure {
    /// Its row in plugin-abi.md 3.3.
    pub code: FailureCode,
    /// The sentence for people.
    pub message: String,
    /// The way out.
    pub hint: String,
    /// The last lines of its log.
    pub log_tail: Vec<String>,
    /// Worth another try?
    pub retryable: bool,
}
