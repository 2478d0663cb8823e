//! One stage: what is ordered, what a runner reports, how it ends.
//!
//! A stage is exactly one call of one plugin. These types are the language on both sides of it: the
//! pipeline hands a [`StageOrder`] to the supervisor (`host/dispatch`), which carries it to an
//! `imagefactory-stage-runner` process in the frames of [`crate::frames`] and brings a
//! [`StageOutcome`] or a [`StageFailure`] back. Nothing here does I/O.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// The one plugin function that a stage calls, named as in the C headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// OS plugin: template → base image.
    CreateBaseImage,
    /// OS plugin: base image + what the cloud plugin asked for → target image.
    CreateTargetImage,
    /// OS plugin, optional: what the build depends on that the template does not say.
    ResolveInputs,
    /// OS plugin, optional: prove that an image works (boot it).
    VerifyImage,
    /// Cloud plugin: may make the whole target image itself and answer "no more to do".
    BuilderShouldCreateTargetImage,
    /// Cloud plugin: says what the OS plugin is to add for this cloud.
    BuilderWillCreateTargetImage,
    /// Cloud plugin: transforms the target image that the OS plugin made.
    BuilderDidCreateTargetImage,
    /// Cloud plugin: target image → provider image.
    PushImageToProvider,
    /// Cloud plugin: provider image by a snapshot on the provider, without a target image.
    SnapshotImageOnProvider,
    /// Cloud plugin: removes a provider image.
    DeleteFromProvider,
    /// Either kind, optional: undoes what a crashed, cancelled or failed stage left outside.
    Cleanup,
}

impl Operation {
    /// All operations, in the order of a build.
    pub const ALL: [Operation; 11] = [
        Operation::ResolveInputs,
        Operation::CreateBaseImage,
        Operation::BuilderShouldCreateTargetImage,
        Operation::BuilderWillCreateTargetImage,
        Operation::CreateTargetImage,
        Operation::BuilderDidCreateTargetImage,
        Operation::VerifyImage,
        Operation::PushImageToProvider,
        Operation::SnapshotImageOnProvider,
        Operation::DeleteFromProvider,
        Operation::Cleanup,
    ];

    /// The name as in the C header, the manifest's `capabilities` and the logs.
    pub fn name(self) -> &'static str {
        match self {
            Operation::CreateBaseImage => "create_base_image",
            Operation::CreateTargetImage => "create_target_image",
            Operation::ResolveInputs => "resolve_inputs",
            Operation::VerifyImage => "verify_image",
            Operation::BuilderShouldCreateTargetImage => "builder_should_create_target_image",
            Operation::BuilderWillCreateTargetImage => "builder_will_create_target_image",
            Operation::BuilderDidCreateTargetImage => "builder_did_create_target_image",
            Operation::PushImageToProvider => "push_image_to_provider",
            Operation::SnapshotImageOnProvider => "snapshot_image_on_provider",
            Operation::DeleteFromProvider => "delete_from_provider",
            Operation::Cleanup => "cleanup",
        }
    }

    /// May this operation write OUTPUT_IMAGE?
    pub fn may_write_output(self) -> bool {
        matches!(
            self,
            Operation::CreateBaseImage
                | Operation::CreateTargetImage
                | Operation::BuilderShouldCreateTargetImage
                | Operation::BuilderDidCreateTargetImage
        )
    }

    /// The result keys that this operation may set; anything else is refused (plugin-abi.md 2.9).
    pub fn result_keys(self) -> &'static [&'static str] {
        match self {
            Operation::CreateBaseImage
            | Operation::CreateTargetImage
            | Operation::BuilderShouldCreateTargetImage
            | Operation::BuilderDidCreateTargetImage => {
                &["format", "icicle", "properties", "effective_parameters"]
            }
            Operation::PushImageToProvider | Operation::SnapshotImageOnProvider => &[
                "identifier_on_provider",
                "provider_account_identifier",
                "icicle",
                "properties",
                "effective_parameters",
            ],
            Operation::ResolveInputs => &["input_digest", "properties", "effective_parameters"],
            Operation::VerifyImage => &["verified", "properties", "effective_parameters"],
            Operation::BuilderWillCreateTargetImage
            | Operation::DeleteFromProvider
            | Operation::Cleanup => &["properties", "effective_parameters"],
        }
    }

    /// The result keys without which success is not believed.
    pub fn required_results(self) -> &'static [&'static str] {
        match self {
            Operation::PushImageToProvider | Operation::SnapshotImageOnProvider => {
                &["identifier_on_provider"]
            }
            Operation::ResolveInputs => &["input_digest"],
            Operation::VerifyImage => &["verified"],
            _ => &[],
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Everything that one plugin call is given, except secrets (those are asked for one by one).
///
/// The text fields are the ones of `imgf_stage` (plugin-sdk/include/imagefactory/stage.h); `None`
/// there is an absent string, which a plugin can tell from an empty one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageOrder {
    /// The function to call.
    pub operation: Operation,
    /// The same in every attempt: the idempotency token at the provider.
    pub stage_id: Uuid,
    /// The image that this stage fills or deletes.
    pub image_id: Uuid,
    /// 1, 2, …
    pub attempt: u32,
    /// Milliseconds since 1970 after which the host ends the stage; 0 = none.
    pub deadline_unix_ms: u64,
    /// `ec2`; `None` for a base image.
    pub target: Option<String>,
    /// The provider's definition, as the client sent it.
    pub provider: Option<String>,
    /// TDL as the client sent it.
    pub template_xml: Option<String>,
    /// The same, parsed by the host.
    pub template_json: Option<String>,
    /// The effective parameters for this plugin.
    pub parameters: Map<String, Value>,
    /// `{"self","base","target","provider","jeos"}`: those that exist, as stage.h describes.
    pub images: Map<String, Value>,
    /// Granted: `{"cpus","memory_bytes","work_bytes","bandwidth_bytes_per_s"}`.
    pub resources: Map<String, Value>,
    /// The name for `secret_get`; `None` = this stage has no credentials.
    pub credential_name: Option<String>,
    /// The plugin's own section of the configuration and the public keys (`config_get`).
    pub config: Map<String, Value>,
    /// What cloud plugins asked for, in order: each goes through `add_cloud_plugin_content` right
    /// before `create_target_image`. TargetContent documents.
    pub target_contents: Vec<Value>,
    /// What earlier attempts of this stage put (`checkpoint.get`).
    pub checkpoints: BTreeMap<String, String>,
    /// For [`Operation::Cleanup`]: the entries to undo.
    pub journal: Vec<JournalEntry>,
    /// Where things lie.
    pub paths: StagePaths,
}

/// The paths that `path_get` answers. All absolute; made and owned by the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagePaths {
    /// Private scratch of this attempt; removed by the host after it.
    pub work_dir: PathBuf,
    /// Read-only input, where the operation has one.
    pub input_image: Option<PathBuf>,
    /// Does not exist yet; on the store's file system; `None` where nothing may be written.
    pub output_image: Option<PathBuf>,
    /// Read-only data that the plugin's package installed.
    pub plugin_data: Option<PathBuf>,
    /// Survives the attempts of this stage.
    pub state_dir: PathBuf,
    /// Of this plugin, shared between stages; contents may vanish between stages.
    pub cache_dir: Option<PathBuf>,
}

/// What exists outside the process because of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalEntry {
    /// What happened to the resource.
    pub event: JournalEvent,
    /// A helper (VM, mount) that goes before the stage runs again; otherwise part of the product.
    pub scratch: bool,
    /// Chosen by the plugin, the same in all events of one resource.
    pub token: String,
    /// `libvirt-domain`, `ebs-snapshot`, …
    pub kind: String,
    /// As the outside names it; `None` while not known.
    pub resource_id: Option<String>,
    /// Whatever cleanup needs (region, endpoint). No secrets.
    pub details: Option<Value>,
}

/// The life of an outside resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JournalEvent {
    /// Durable before the resource can exist.
    WillCreate,
    /// It exists.
    Created,
    /// It is gone.
    Removed,
}

/// How far a stage is, in the plugin's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Stable id of the phase: `install`, `upload`.
    pub phase: String,
    /// One line for people; becomes `status_detail.activity`.
    pub message: String,
    /// Units done in this phase (bytes where bytes are moved).
    pub done: u64,
    /// Units in all; 0 = unknown.
    pub total: u64,
}

/// Severities of plugin log lines (log.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// The operation fails because of this.
    Error,
    /// Odd, but it went on.
    Warn,
    /// One line per thing worth knowing.
    Info,
    /// For the plugin's developers.
    Debug,
    /// Everything.
    Trace,
}

/// One line of a stage's log, whoever wrote it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLine {
    /// Severity.
    pub level: LogLevel,
    /// Where it came from.
    pub source: LogSource,
    /// The line, valid UTF-8, without its end.
    pub message: String,
    /// Structured fields, where the plugin gave any.
    pub fields: Option<Value>,
}

/// Where a log line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogSource {
    /// `host->log`.
    Plugin,
    /// The plugin's (or a tool's) standard output.
    Stdout,
    /// The plugin's (or a tool's) standard error.
    Stderr,
    /// The runner or the supervisor.
    Host,
}

/// A file that a plugin handed over beside the image: SBOM, serial log, screenshot, OVF.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`.
    pub name: String,
    /// `application/spdx+json`.
    pub media_type: String,
    /// Below the stage's WORK_DIR until the host has taken it.
    pub path: PathBuf,
}

/// The image file that a stage wrote, as the *host* found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFile {
    /// Where it lies: the attempt's OUTPUT_IMAGE.
    pub path: PathBuf,
    /// Apparent size.
    pub bytes: u64,
    /// As the plugin declared it (`raw`, `qcow2`, …) and, where it has a magic number, as probed.
    pub format: String,
}

/// What a stage that succeeded brought back. Every value was checked by the host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StageOutcome {
    /// By key, each in [`Operation::result_keys`].
    pub results: BTreeMap<String, Value>,
    /// The answer of `builder_should_create_target_image`.
    pub should_create_target_image: Option<bool>,
    /// What the cloud plugin asks the OS plugin to add, in order.
    pub target_contents: Vec<Value>,
    /// Files handed over.
    pub artifacts: Vec<Artifact>,
    /// The image file, where one was written.
    pub output: Option<OutputFile>,
}

/// Why a stage did not succeed. The codes are part of the REST contract
/// (`status_detail.error_code`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureCode {
    /// The plugin returned an error of its own.
    PluginError,
    /// The plugin panicked (or an exception stopped at the boundary).
    PluginPanic,
    /// SIGSEGV, SIGBUS, SIGILL, SIGFPE, or a kill that came from inside.
    PluginCrash,
    /// SIGABRT: `abort()`, a failed assertion, corrupted heap.
    PluginAbort,
    /// It broke the protocol: exit without END, END twice, exit status after END, unknown keys.
    PluginProtocol,
    /// It said success and the host did not find what it promised.
    PluginOutput,
    /// Deadline passed, or the runner fell silent.
    PluginTimeout,
    /// The kernel ended it for memory.
    PluginOom,
    /// The library could not be loaded.
    PluginLoad,
    /// The library's file was refused: owner, mode, place, checksum, not ELF.
    PluginFile,
    /// No common ABI version, or it is not the plugin that the manifest describes.
    PluginAbi,
    /// Its Rust layout differs from ours.
    PluginLayout,
    /// The sandbox that was asked for could not be had, or hindered the stage.
    Sandbox,
    /// Somebody asked for it to end.
    Cancelled,
    /// Ended from outside (daemon death, reboot, foreign SIGKILL): no failure of the plugin.
    Interrupted,
    /// The template is at fault.
    UserTemplate,
    /// The request is at fault (parameters, provider, credentials).
    UserRequest,
    /// No room.
    NoSpace,
    /// The host could not do its part (spawn, store).
    Host,
}

impl FailureCode {
    /// As in `status_detail.error_code`.
    pub fn name(self) -> &'static str {
        match self {
            FailureCode::PluginError => "plugin-error",
            FailureCode::PluginPanic => "plugin-panic",
            FailureCode::PluginCrash => "plugin-crash",
            FailureCode::PluginAbort => "plugin-abort",
            FailureCode::PluginProtocol => "plugin-protocol",
            FailureCode::PluginOutput => "plugin-output",
            FailureCode::PluginTimeout => "plugin-timeout",
            FailureCode::PluginOom => "plugin-oom",
            FailureCode::PluginLoad => "plugin-load",
            FailureCode::PluginFile => "plugin-file",
            FailureCode::PluginAbi => "plugin-abi",
            FailureCode::PluginLayout => "plugin-layout",
            FailureCode::Sandbox => "sandbox",
            FailureCode::Cancelled => "cancelled",
            FailureCode::Interrupted => "interrupted",
            FailureCode::UserTemplate => "user-template",
            FailureCode::UserRequest => "user-request",
            FailureCode::NoSpace => "no-space",
            FailureCode::Host => "host",
        }
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A stage that did not succeed, as a value.
#[derive(Debug, Clone, PartialEq)]
pub struct StageFailure {
    /// The row of plugin-abi.md 3.3 that it falls into.
    pub code: FailureCode,
    /// One sentence: plugin, what happened (signal, status), the plugin's own message.
    pub message: String,
    /// What a person can do; empty = nothing known.
    pub hint: String,
    /// May the same stage be tried again, by the plugin's own word or by its kind?
    pub retryable: bool,
    /// Not before this many milliseconds; 0 = unknown.
    pub retry_after_ms: u64,
    /// Does the plugin blame the request?
    pub user_fault: bool,
    /// The provider's own code, e.g. `InvalidAMIID.NotFound`; empty = none.
    pub vendor_code: String,
    /// What the operation returned (IMGF_E_*), where it returned.
    pub plugin_status: Option<i32>,
    /// The last lines of the stage's log, oldest first.
    pub log_tail: Vec<String>,
    /// Files handed over before it failed: serial log, screenshot.
    pub artifacts: Vec<Artifact>,
}

impl StageFailure {
    /// A failure with a code and a sentence; everything else empty.
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        StageFailure {
            code,
            message: message.into(),
            hint: String::new(),
            retryable: false,
            retry_after_ms: 0,
            user_fault: false,
            vendor_code: String::new(),
            plugin_status: None,
            log_tail: Vec::new(),
            artifacts: Vec::new(),
        }
    }
}

impl fmt::Display for StageFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for StageFailure {}
