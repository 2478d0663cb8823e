//! The frames between supervisor and stage runner: u32 little-endian length, then JSON.
//!
//! Both ends come from one package, but they may meet half-upgraded, so [`Hello`] carries
//! [`PROTOCOL`]. The order is Hello → Ready → Start → … → End; a runner that cannot go on sends
//! Refused and exits. Everything that comes from a runner is hostile input to the supervisor: sizes
//! are capped, keys are closed, and End counts only with the nonce of its Hello.

mod decoder;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::stage::{JournalEntry, LogLevel, Progress, StageOrder};

pub use self::decoder::{
    FrameDecoder, FrameError, LENGTH_BYTES, STRUCTURE_MAX, announced_length, encode, parse,
};
// The manifest's own nouns: what it asks for and what a runner is told are of one type.
pub use imagefactory_plugin_sdk::payload::manifest::{PluginKind, SandboxProfile};

/// Changes whenever a frame changes; runner and daemon must agree.
pub const PROTOCOL: u32 = 2;

/// Longest frame. A template (1 MiB by default), its JSON and an ICICLE fit many times.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// Supervisor → runner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HostFrame {
    /// First: which library, in which sandbox. Nothing was loaded before it.
    Hello(Box<Hello>),
    /// The stage to run; sent after Ready.
    Start(Box<StageOrder>),
    /// The answer to the runner's Call of this id.
    Reply {
        /// Of the Call.
        id: u64,
        /// Its outcome.
        reply: CallReply,
    },
    /// End early: flag, event fd, `abort()`.
    Cancel,
}

/// What a runner must know before it loads anything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Random, new for each process; End must repeat it.
    pub nonce: String,
    /// Describe only, or run a stage.
    pub task: RunnerTask,
    /// The library, as its manifest describes it.
    pub plugin: PluginLibrary,
    /// How to confine it.
    pub sandbox: SandboxOrder,
    /// The runner opens this file before it gives up any right, locks it (`flock`, exclusive) and
    /// keeps the descriptor in all its processes until they end; it is locked before Ready. So
    /// recovery can tell that nothing of an attempt lives. `None` for Describe.
    pub lock_file: Option<PathBuf>,
}

/// What the runner is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunnerTask {
    /// Load, negotiate with DESCRIBE_ONLY, report [`Ready`], End with code 0. Never calls `create`.
    Describe,
    /// Wait for Start and run it.
    Stage,
    /// Put the sandbox up and report it with [`Ready`], End with code 0. Loads nothing; `plugin`
    /// stands for the runner itself.
    Probe,
}

/// Which file to load and what to expect in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginLibrary {
    /// The manifest's `id`.
    pub id: String,
    /// The manifest's `version`.
    pub version: String,
    /// The manifest's `type`.
    pub kind: PluginKind,
    /// Absolute.
    pub path: PathBuf,
    /// Lower-case hex; `None` where the manifest has none.
    pub sha256: Option<String>,
    /// Who may own the file and its folders besides root.
    pub trusted_uid: Option<u32>,
}

/// How to confine the plugin. The manifest asks, the host's configuration grants; this is the
/// grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxOrder {
    /// Which set of layers.
    pub profile: SandboxProfile,
    /// A layer that cannot be had is fatal instead of reported.
    pub strict: bool,
    /// May it use the network?
    pub network: bool,
    /// Where the daemon is root: the unprivileged ids that the plugin runs under.
    pub identity: Option<StageIdentity>,
    /// Readable, never writable: input image, plugin data, library folder.
    pub read_only: Vec<PathBuf>,
    /// Writable: work, state, cache, output folder.
    pub writable: Vec<PathBuf>,
    /// `os-root`: the capabilities that stay (`CAP_SYS_ADMIN`, …).
    pub capabilities: Vec<String>,
    /// Hard limits.
    pub limits: ResourceLimits,
    /// Milliseconds between `abort()` and SIGTERM.
    pub cancel_grace_ms: u64,
}

/// The ids of a stage process when the daemon is root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageIdentity {
    /// First host uid of the stage; it owns the stage's folders.
    pub uid: u32,
    /// The group that may read image bodies.
    pub gid: u32,
    /// How many ids from `uid` on belong to the stage (65536 for `os-userns`, else 1).
    pub count: u32,
}

/// Limits on one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceLimits {
    /// Largest file it may write; 0 = no limit.
    pub file_bytes_max: u64,
    /// Open files.
    pub open_files_max: u64,
    /// Memory of the whole stage; 0 = no limit. To a runner: what each process may have, and 0
    /// where the supervisor's cgroup holds the whole.
    pub memory_bytes_max: u64,
    /// Processes and threads of the whole stage.
    pub processes_max: u64,
}

/// Runner → supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RunnerFrame {
    /// The library is loaded and negotiated with.
    Ready(Box<Ready>),
    /// It will not go on; exit follows.
    Refused(Refused),
    /// Every 5 s while the stage thread lives.
    Heartbeat,
    /// `host->log`.
    Log {
        /// Severity.
        level: LogLevel,
        /// One line.
        message: String,
        /// JSON object, where given.
        fields: Option<Value>,
    },
    /// `host->progress`.
    Progress(Progress),
    /// `host->set_result`; last write wins.
    Result {
        /// In `Operation::result_keys`.
        key: String,
        /// Any JSON.
        value: Value,
    },
    /// `host->report_error`.
    Error(Box<PluginErrorReport>),
    /// `host->add_cloud_plugin_content`.
    TargetContent {
        /// A TargetContent document.
        content: Value,
    },
    /// A host service that must answer before the plugin goes on.
    Call {
        /// Chosen by the runner, not reused.
        id: u64,
        /// Which service.
        call: HostCall,
    },
    /// The operation returned.
    End {
        /// What it returned: IMGF_OK or IMGF_E_*.
        code: i32,
        /// `*out_yes` of `builder_should_create_target_image`.
        should: Option<bool>,
        /// Of Hello.
        nonce: String,
    },
}

/// What the runner found in the library.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// The plugin's own word about itself.
    pub facts: PluginFacts,
    /// What confines it.
    pub sandbox: SandboxReport,
}

/// A described plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginFacts {
    /// Descriptor id.
    pub id: String,
    /// Descriptor version.
    pub version: String,
    /// Descriptor kind.
    pub kind: PluginKind,
    /// ABI it was compiled against, `1.0`.
    pub abi_compiled: String,
    /// ABI that both sides speak, `1.0`.
    pub abi_chosen: String,
    /// Interface ids that it answered, in our order: `imagefactory.os/1`, …
    pub interfaces: Vec<String>,
    /// Non-null slots by operation name.
    pub operations: Vec<String>,
    /// abi_stable side-car: checked, absent, or of another abi_stable version.
    pub layout: LayoutCheck,
    /// Lower-case hex of the file that was loaded.
    pub sha256: String,
    /// Odd, but not refused.
    pub warnings: Vec<String>,
}

/// Outcome of the Rust layout check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayoutCheck {
    /// The side-car is there and agrees.
    Checked,
    /// No side-car (C and other languages): structural checks only.
    Absent,
    /// A side-car of another abi_stable minor: structural checks only.
    OtherVersion,
    /// This runner was built without the check.
    NotBuilt,
}

/// Which layers confine the plugin, for the log and `GET /plugins`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxReport {
    /// The profile in force.
    pub profile: SandboxProfile,
    /// `pid-namespace`, `landlock 6`, `seccomp`, …
    pub active: Vec<String>,
    /// Layers that could not be had, each with its reason and how to get it.
    pub missing: Vec<String>,
}

/// Why a runner will not load or call the plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Which kind of refusal.
    pub why: RefusalKind,
    /// One sentence for people.
    pub message: String,
    /// What to do about it; empty = nothing known.
    pub hint: String,
}

/// Kinds of refusal; each has a `FailureCode` of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// The frames disagree: daemon and runner are of different versions.
    Protocol,
    /// Owner, mode, place, checksum, not ELF.
    File,
    /// The sandbox could not be had.
    Sandbox,
    /// `dlopen` failed or the entry symbol is missing.
    Load,
    /// No common ABI, or not the plugin of the manifest.
    Abi,
    /// abi_stable found a difference.
    Layout,
    /// The plugin does not offer the operation.
    Unsupported,
}

/// `imgf_error`, copied.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginErrorReport {
    /// IMGF_E_* or a vendor code ≥ 1000.
    pub code: i32,
    /// The plugin says that trying again may help.
    pub retryable: bool,
    /// The plugin says that the request is at fault.
    pub user_fault: bool,
    /// 0 = none.
    pub os_errno: i32,
    /// 0 = unknown.
    pub retry_after_ms: u64,
    /// One line for people.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// The provider's own code.
    pub vendor_code: String,
    /// JSON object.
    pub details: Option<Value>,
}

/// Host services that are answered by the supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HostCall {
    /// Durable before the reply.
    Journal(JournalEntry),
    /// Durable before the reply. `value` is JSON text.
    CheckpointPut {
        /// Chosen by the plugin.
        key: String,
        /// JSON text.
        value: String,
    },
    /// Only names granted to this stage.
    SecretGet {
        /// Of the secret.
        name: String,
    },
    /// Only ids in this stage's parameters or lineage.
    ImageGet {
        /// UUID.
        id: String,
    },
    /// A file below WORK_DIR; the host takes it at the end of the stage, however it ends.
    ArtifactAdd(crate::stage::Artifact),
    /// Factory-wide; released by the host when the stage ends.
    Lock {
        /// Chosen by plugins.
        name: String,
        /// How long to wait for it.
        timeout_ms: u64,
    },
    /// Gives a lock back early.
    Unlock {
        /// Of the lock.
        name: String,
    },
    /// A TCP port that no other stage was given.
    NextListenPort,
}

/// What the supervisor answers to a [`HostCall`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CallReply {
    /// Done; nothing to tell.
    Done,
    /// A secret's text, an image as JSON text.
    Text(String),
    /// A port.
    Port(u16),
    /// Refused or failed.
    Failed {
        /// IMGF_E_*.
        code: i32,
        /// For `last_error`.
        message: String,
    },
}
