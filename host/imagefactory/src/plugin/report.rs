//! The report of a validation as values; serialized it is the stable JSON of `--json`.
//!
//! Fields are added, never renamed or removed; `schema` says which edition it is
//! (docs/guides/validator.md). How people read it stands in `report_text.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use imagefactory_model::frames::PluginKind;
use imagefactory_model::validation::Outcome;
use serde::Serialize;

use super::rules::Rule;
use super::subject::Subject;
use super::validate::ValidateOptions;

/// Edition of the JSON.
const SCHEMA: &str = "1.0";
/// The ABI that this validator knows.
const ABI: &str = "1.0";

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema: &'static str,
    tool: Tool,
    plugin: PluginNamed,
    options: OptionsUsed,
    /// Worst first: failed, warning, success.
    pub(crate) verdict: Verdict,
    /// How many rules had which outcome.
    pub(crate) counts: BTreeMap<&'static str, usize>,
    duration_ms: u64,
    /// In the order of their numbers.
    pub(crate) rules: Vec<RuleReport>,
}

/// The whole plugin's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Every duty that was tried is met.
    Passed,
    /// So it is, but some advice is not followed.
    PassedWithWarnings,
    /// A duty is broken.
    Failed,
}

#[derive(Debug, Serialize)]
struct Tool {
    name: &'static str,
    version: &'static str,
    abi: &'static str,
    kernel: String,
    machine: &'static str,
}

#[derive(Debug, Serialize)]
struct PluginNamed {
    id: String,
    version: String,
    kind: PluginKind,
    manifest: String,
    library: Option<String>,
}

#[derive(Debug, Serialize)]
struct OptionsUsed {
    level: u8,
    only: Option<String>,
    seed: u64,
    timeout_s: u64,
    rounds: u32,
    points: u32,
}

/// One rule's.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RuleReport {
    /// `IMGF-P-101`
    pub(crate) id: String,
    pub(crate) level: u8,
    pub(crate) group: char,
    pub(crate) title: &'static str,
    pub(crate) outcome: Outcome,
    /// What was found, then why it was skipped, then notes.
    pub(crate) messages: Vec<String>,
    pub(crate) duration_ms: u64,
}

impl RuleReport {
    pub(crate) fn new(
        rule: &Rule,
        outcome: Outcome,
        messages: Vec<String>,
        took: Duration,
    ) -> RuleReport {
        RuleReport {
            id: rule.id(),
            level: rule.level,
            group: rule.group().0,
            title: rule.title,
            outcome,
            messages,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl Report {
    pub(crate) fn new(
        options: &ValidateOptions,
        subject: &Subject,
        rules: Vec<RuleReport>,
        took: Duration,
    ) -> Report {
        let mut counts = BTreeMap::new();
        for rule in &rules {
            *counts.entry(rule.outcome.name()).or_insert(0) += 1;
        }
        let verdict = if rules.iter().any(|rule| rule.outcome.is_failure()) {
            Verdict::Failed
        } else if counts.contains_key(Outcome::Warning.name()) {
            Verdict::PassedWithWarnings
        } else {
            Verdict::Passed
        };
        let kernel = rustix::system::uname();
        Report {
            schema: SCHEMA,
            tool: Tool {
                name: "imagefactory",
                version: env!("CARGO_PKG_VERSION"),
                abi: ABI,
                kernel: kernel.release().to_string_lossy().into_owned(),
                machine: std::env::consts::ARCH,
            },
            plugin: PluginNamed {
                id: subject.text("/id").to_owned(),
                version: subject.text("/version").to_owned(),
                kind: subject.kind(),
                manifest: subject.manifest_path.display().to_string(),
                library: subject.library.as_ref().map(|path| path.display().to_string()),
            },
            options: OptionsUsed {
                level: options.level,
                only: options.only.clone(),
                seed: options.seed,
                timeout_s: options.timeout.as_secs(),
                rounds: options.rounds,
                points: options.points,
            },
            verdict,
            counts,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            rules,
        }
    }

    /// The plugin's id, for headings.
    pub(crate) fn plugin_id(&self) -> &str {
        &self.plugin.id
    }

    /// How long it all took.
    pub(crate) fn duration_ms(&self) -> u64 {
        self.duration_ms
    }

    /// The seed, to run it again.
    pub(crate) fn seed(&self) -> u64 {
        self.options.seed
    }
}
