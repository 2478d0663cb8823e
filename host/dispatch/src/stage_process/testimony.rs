//! What a runner has said so far, each frame checked against where the conversation stands.
//!
//! ```text
//! hello sent ──Ready──▶ loaded ──(Start sent)──▶ running ──End──▶ ended
//!       └──Refused──▶ refused
//! ```
//!
//! Everything is hostile: a frame that does not belong to the state, a result of the wrong type, an
//! END with a foreign nonce is a breach, told as a sentence without the plugin's name. What is only
//! seen (log, progress) goes out as events, bounded.

use std::collections::BTreeMap;

use imagefactory_model::frames::{
    PROTOCOL, PluginErrorReport, PluginLibrary, Ready, Refused, RunnerFrame,
};
use imagefactory_model::stage::{Operation, Progress};
use imagefactory_plugin_sdk::payload::target_content::TargetContent;
use serde_json::Value;
use tokio::time::{Duration, Instant};

use super::calls::Calls;
use super::events::{EventSink, StageEvent};
use super::results::check_result;
use super::scrubber::Scrubber;
use super::stage_log::{StageLog, cut, visible};

/// Texts of a plugin's error in the failure, in bytes; rest-contract.md shows them in one line.
const MESSAGE_BYTES_MAX: usize = 4096;
/// Hints and provider codes.
const SHORT_BYTES_MAX: usize = 1024;
/// A plugin's progress is for eyes: 20 a second are more than any of them can follow.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);
/// TargetContent documents of one stage.
const TARGET_CONTENTS_MAX: usize = 1000;
/// And their bytes in all: they travel to the OS plugin within one Start frame.
const TARGET_CONTENT_BYTES_MAX: usize = 8 << 20;

/// Where the conversation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Hello was sent.
    Greeted,
    /// Ready came.
    Loaded,
    /// Start was sent.
    Running,
    /// Refused or End came.
    Ended,
}

/// What was said.
pub(super) struct Testimony<'a> {
    plugin: &'a PluginLibrary,
    operation: Option<Operation>,
    nonce: String,
    log: StageLog,
    events: EventSink,
    scrubber: Scrubber,
    pub(super) standing: Standing,
    pub(super) ready: Option<Ready>,
    pub(super) refused: Option<Refused>,
    pub(super) results: BTreeMap<String, Value>,
    pub(super) error: Option<PluginErrorReport>,
    pub(super) target_contents: Vec<Value>,
    target_content_bytes: usize,
    /// Code and answer of END.
    pub(super) end: Option<(i32, Option<bool>)>,
    progress_sent: Option<Instant>,
    progress_waiting: Option<Progress>,
}

impl<'a> Testimony<'a> {
    pub(super) fn new(
        plugin: &'a PluginLibrary,
        operation: Option<Operation>,
        nonce: String,
        log: StageLog,
        events: EventSink,
        scrubber: Scrubber,
    ) -> Self {
        Testimony {
            plugin,
            operation,
            nonce,
            log,
            events,
            scrubber,
            standing: Standing::Greeted,
            ready: None,
            refused: None,
            results: BTreeMap::new(),
            error: None,
            target_contents: Vec::new(),
            target_content_bytes: 0,
            end: None,
            progress_sent: None,
            progress_waiting: None,
        }
    }

    /// Hears one frame. The error is a breach of the protocol.
    pub(super) fn hear(&mut self, frame: RunnerFrame, calls: &mut Calls) -> Result<(), String> {
        match frame {
            RunnerFrame::Heartbeat => Ok(()),
            RunnerFrame::Log { level, message, fields } => {
                self.log.plugin(level, message, fields);
                Ok(())
            }
            RunnerFrame::Ready(ready) => self.hear_ready(*ready),
            RunnerFrame::Refused(refused) => {
                // A missing operation is found out when Start names it.
                let early = matches!(self.standing, Standing::Greeted | Standing::Running);
                self.require(early, "Refused")?;
                self.refused = Some(Refused {
                    why: refused.why,
                    message: self.text(refused.message, MESSAGE_BYTES_MAX),
                    hint: self.text(refused.hint, SHORT_BYTES_MAX),
                });
                self.standing = Standing::Ended;
                Ok(())
            }
            RunnerFrame::Progress(progress) => {
                self.require_running("Progress")?;
                self.hear_progress(progress)
            }
            RunnerFrame::Result { key, value } => {
                let operation = self.require_running("Result")?;
                check_result(operation, &key, &value)?;
                self.results.insert(key, self.scrubber.result(value));
                Ok(())
            }
            RunnerFrame::Error(report) => {
                self.require_running("Error")?;
                self.error = Some(self.clean_report(*report));
                Ok(())
            }
            RunnerFrame::TargetContent { content } => {
                let operation = self.require_running("TargetContent")?;
                self.hear_target_content(operation, content)
            }
            RunnerFrame::Call { id, call } => {
                self.require_running("Call")?;
                calls.ask(id, call)
            }
            RunnerFrame::End { code, should, nonce } => self.hear_end(code, should, &nonce),
        }
    }

    fn hear_ready(&mut self, mut ready: Ready) -> Result<(), String> {
        self.require(self.standing == Standing::Greeted, "Ready")?;
        if ready.protocol != PROTOCOL {
            return Err(format!(
                "its runner speaks frame protocol {}, this daemon {PROTOCOL}; restart imagefactoryd \
                 after an upgrade",
                ready.protocol
            ));
        }
        let (facts, wanted) = (&ready.facts, self.plugin);
        if facts.id != wanted.id || facts.version != wanted.version || facts.kind != wanted.kind {
            return Err(format!(
                "it says that it is {} {}, and its manifest {} {}",
                visible(cut(&facts.id, 100)),
                visible(cut(&facts.version, 100)),
                wanted.id,
                wanted.version
            ));
        }
        let lists = [
            &mut ready.facts.warnings,
            &mut ready.facts.interfaces,
            &mut ready.facts.operations,
            &mut ready.sandbox.active,
            &mut ready.sandbox.missing,
        ];
        for list in lists {
            list.truncate(64);
            for text in list.iter_mut() {
                *text = visible(cut(text, SHORT_BYTES_MAX));
            }
        }
        self.ready = Some(ready);
        self.standing = Standing::Loaded;
        Ok(())
    }

    fn hear_progress(&mut self, progress: Progress) -> Result<(), String> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let phase = &progress.phase;
        if phase.is_empty() || phase.len() > 64 || !phase.bytes().all(letter) {
            return Err(format!(
                "its progress phase {:?} is not 1 to 64 of a-z 0-9 -",
                cut(phase, 100)
            ));
        }
        let total = progress.total;
        let done = if total > 0 { progress.done.min(total) } else { progress.done };
        let message = self.text(progress.message, SHORT_BYTES_MAX);
        self.progress_waiting = Some(Progress { phase: progress.phase, message, done, total });
        self.pass_progress(false);
        Ok(())
    }

    /// Sends the last progress on, if it is time (or `at_once`).
    pub(super) fn pass_progress(&mut self, at_once: bool) {
        let due = self.progress_sent.is_none_or(|sent| sent.elapsed() >= PROGRESS_INTERVAL);
        if (due || at_once)
            && let Some(progress) = self.progress_waiting.take()
        {
            self.progress_sent = Some(Instant::now());
            self.events.send(StageEvent::Progress(progress));
        }
    }

    fn hear_target_content(&mut self, operation: Operation, content: Value) -> Result<(), String> {
        if operation != Operation::BuilderWillCreateTargetImage {
            return Err(format!("{operation} may not add target content"));
        }
        let text = content.to_string();
        self.target_content_bytes = self.target_content_bytes.saturating_add(text.len());
        if self.target_contents.len() >= TARGET_CONTENTS_MAX
            || self.target_content_bytes > TARGET_CONTENT_BYTES_MAX
        {
            return Err(format!(
                "its target content passes {TARGET_CONTENTS_MAX} documents or \
                 {TARGET_CONTENT_BYTES_MAX} bytes"
            ));
        }
        TargetContent::from_json(&text)
            .map_err(|error| format!("its target content is refused: {}", self.short(&error)))?;
        self.events.send(StageEvent::TargetContent(content.clone()));
        self.target_contents.push(content);
        Ok(())
    }

    fn hear_end(&mut self, code: i32, should: Option<bool>, nonce: &str) -> Result<(), String> {
        if nonce != self.nonce {
            return Err("its END carries a foreign nonce".to_owned());
        }
        if self.standing == Standing::Ended {
            return Err("it sent END twice".to_owned());
        }
        let described = self.operation.is_none() && self.standing == Standing::Loaded;
        self.require(described || self.standing == Standing::Running, "END")?;
        let asks = self.operation == Some(Operation::BuilderShouldCreateTargetImage);
        if code == 0 && should.is_some() != asks {
            return Err(if asks {
                "it ended without its answer (out_yes)".to_owned()
            } else {
                "it ended with an answer that nobody asked for".to_owned()
            });
        }
        self.end = Some((code, should));
        self.standing = Standing::Ended;
        Ok(())
    }

    fn require_running(&self, frame: &str) -> Result<Operation, String> {
        match self.operation {
            Some(operation) if self.standing == Standing::Running => Ok(operation),
            _ => Err(self.misplaced(frame)),
        }
    }

    fn require(&self, allowed: bool, frame: &str) -> Result<(), String> {
        if allowed { Ok(()) } else { Err(self.misplaced(frame)) }
    }

    fn misplaced(&self, frame: &str) -> String {
        let when = match self.standing {
            Standing::Greeted => "before Ready",
            Standing::Loaded => "before Start",
            Standing::Running => "while it was running",
            Standing::Ended => "after END",
        };
        format!("it sent {frame} {when}")
    }

    fn clean_report(&self, report: PluginErrorReport) -> PluginErrorReport {
        if let Some(details) = &report.details {
            let details = self.scrubber.json(details.clone());
            tracing::debug!(plugin = %self.plugin.id, %details);
        }
        PluginErrorReport {
            message: self.text(report.message, MESSAGE_BYTES_MAX),
            hint: self.text(report.hint, SHORT_BYTES_MAX),
            vendor_code: self.text(report.vendor_code, SHORT_BYTES_MAX),
            details: None,
            ..report
        }
    }

    /// A text of the plugin as it may be shown.
    fn text(&self, text: String, bytes_max: usize) -> String {
        let looked_at = cut(&text, bytes_max * 2).to_owned();
        visible(cut(&self.scrubber.text(looked_at), bytes_max))
    }

    fn short(&self, error: &dyn std::error::Error) -> String {
        self.text(error.to_string(), SHORT_BYTES_MAX)
    }
}
