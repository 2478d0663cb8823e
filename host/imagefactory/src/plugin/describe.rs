//! `imagefactory plugin describe`: what a plugin says of itself when it is loaded, or why it does
//! not load.
//!
//! The library is loaded by a runner in describe mode, confined as the daemon confines it; this
//! program reads what the runner tells.

use std::fmt::Write;
use std::path::Path;

use imagefactory_dispatch::stage_process::{StageSupervisor, SupervisorConfig};
use imagefactory_model::frames::{
    LayoutCheck, PluginLibrary, Ready, ResourceLimits, SandboxOrder, SandboxProfile,
};
use imagefactory_model::stage::StageFailure;
use serde_json::json;

use super::error::PluginError;
use super::probe::find_runner;
use super::subject::Subject;

/// Describing opens the library and what it needs.
const OPEN_FILES_MAX: u64 = 1024;
/// Describing needs one thread; a constructor may start some.
const PROCESSES_MAX: u64 = 64;

/// A plugin's facts, or why there are none.
pub(crate) struct Description {
    subject: Subject,
    outcome: Result<Ready, StageFailure>,
}

/// Describes the plugin of this path or id.
pub(crate) fn describe(name: &str, runner: Option<&Path>) -> Result<Description, PluginError> {
    let subject = Subject::find(name)?;
    let fault = |message: String| PluginError::Describe { message };
    let outcome = match problems(&subject) {
        Some(failure) => Err(failure),
        None => {
            let runner = find_runner(runner)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| fault(error.to_string()))?;
            runtime.block_on(async {
                let config = SupervisorConfig::new(runner);
                let supervisor = StageSupervisor::new(config).map_err(|e| fault(e.to_string()))?;
                Ok(supervisor.describe(library(&subject), sandbox(&subject)).await)
            })?
        }
    };
    Ok(Description { subject, outcome })
}

/// What makes loading pointless.
fn problems(subject: &Subject) -> Option<StageFailure> {
    use imagefactory_model::stage::FailureCode;
    if !subject.problems.is_empty() {
        let all: Vec<String> = subject.problems.iter().map(ToString::to_string).collect();
        let mut failure = StageFailure::new(FailureCode::PluginFile, all.join("; "));
        failure.hint = format!("mend {}", subject.manifest_path.display());
        return Some(failure);
    }
    if subject.library.is_none() {
        let message = "the manifest names no library; a Python plugin is never executed";
        return Some(StageFailure::new(FailureCode::PluginFile, message));
    }
    None
}

fn library(subject: &Subject) -> PluginLibrary {
    PluginLibrary {
        id: subject.text("/id").to_owned(),
        version: subject.text("/version").to_owned(),
        kind: subject.kind(),
        path: subject.library.clone().unwrap_or_default(),
        sha256: Some(subject.text("/library/sha256").to_ascii_lowercase())
            .filter(|sum| !sum.is_empty()),
        // Whoever runs this command may describe a plugin of their own.
        trusted_uid: Some(rustix::process::getuid().as_raw()),
    }
}

fn sandbox(subject: &Subject) -> SandboxOrder {
    SandboxOrder {
        profile: SandboxProfile::Cloud,
        strict: false,
        network: false,
        identity: None,
        read_only: vec![subject.folder().to_owned()],
        writable: Vec::new(),
        capabilities: Vec::new(),
        limits: ResourceLimits {
            file_bytes_max: 0,
            open_files_max: OPEN_FILES_MAX,
            memory_bytes_max: 0,
            processes_max: PROCESSES_MAX,
        },
        cancel_grace_ms: 1000,
    }
}

impl Description {
    /// Does the plugin load?
    pub(crate) fn loads(&self) -> bool {
        self.outcome.is_ok()
    }

    /// For programs; the facts are those of `GET /imagefactory/plugins`.
    pub(crate) fn json(&self) -> String {
        let answer = match &self.outcome {
            Ok(ready) => json!({"active": true, "facts": ready.facts, "sandbox": ready.sandbox}),
            Err(failure) => json!({
                "active": false,
                "error": {
                    "code": failure.code.name(), "message": failure.message, "hint": failure.hint,
                    "log": failure.log_tail,
                },
            }),
        };
        let mut answer = answer;
        answer["schema"] = "1.0".into();
        answer["id"] = self.subject.text("/id").into();
        answer["manifest"] = self.subject.manifest_path.display().to_string().into();
        answer["library"] =
            self.subject.library.as_ref().map(|path| path.display().to_string()).into();
        let warnings = self.subject.warnings.iter().map(ToString::to_string);
        answer["warnings"] = warnings.collect::<Vec<String>>().into();
        format!("{answer:#}\n")
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: &str| {
            // Texts of a plugin may hold escapes; a terminal shall not obey them.
            let value: String =
                value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            writeln!(text, "{name:<12} {value}").ok(); // a String takes everything
        };
        row("id", self.subject.text("/id"));
        row("manifest", &self.subject.manifest_path.display().to_string());
        if let Some(library) = &self.subject.library {
            row("library", &library.display().to_string());
        }
        match &self.outcome {
            Ok(ready) => {
                let facts = &ready.facts;
                row("version", &facts.version);
                row("kind", &format!("{:?}", facts.kind).to_lowercase());
                row("abi", &format!("{} (built for {})", facts.abi_chosen, facts.abi_compiled));
                row("interfaces", &facts.interfaces.join(" "));
                row("operations", &facts.operations.join(" "));
                row("layout", layout(facts.layout));
                row("sha256", &facts.sha256);
                facts.warnings.iter().for_each(|warning| row("warning", warning));
            }
            Err(failure) => {
                row("not active", &format!("{} ({})", failure.message, failure.code));
                if !failure.hint.is_empty() {
                    row("hint", &failure.hint);
                }
                failure.log_tail.iter().for_each(|line| row("log", line));
            }
        }
        self.subject.warnings.iter().for_each(|warning| row("warning", &warning.to_string()));
        text
    }
}

fn layout(check: LayoutCheck) -> &'static str {
    match check {
        LayoutCheck::Checked => "checked: the abi_stable side-car agrees",
        LayoutCheck::Absent => "no side-car: structural checks only",
        LayoutCheck::OtherVersion => "side-car of another abi_stable: structural checks only",
        LayoutCheck::NotBuilt => "not checked: this runner was built without it",
    }
}
