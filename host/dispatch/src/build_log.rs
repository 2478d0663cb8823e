//! The log of one image while it is worked on: supervisor's events become lines of its `build.log`.
//!
//! Lines read `2026-11-21T22:07:13.123Z info create_base_image: text`. Writing is file work: a
//! thread of its own does it, fed through a bounded channel, so that a slow disk slows the log and
//! not the stage.

use imagefactory_model::stage::{LogLevel, LogLine, LogSource};
use imagefactory_store::logs::{LogFiles, LogWriter};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc;
use uuid::Uuid;

/// Lines that may wait for the disk. The supervisor bounds a stage's lines; beyond this they are
/// lost.
const LINES_WAITING_MAX: usize = 4096;

/// Appends to the log of one image. Cheap to clone; the file is closed with the last clone.
#[derive(Debug, Clone)]
pub(crate) struct BuildLog {
    lines: mpsc::Sender<String>,
}

impl BuildLog {
    /// Opens the log of `image`. A log that cannot be written is a warning, not a failed build.
    pub(crate) fn open(files: &LogFiles, image: Uuid) -> BuildLog {
        let (lines, waiting) = mpsc::channel(LINES_WAITING_MAX);
        let files = files.clone();
        tokio::task::spawn_blocking(move || match files.writer(image) {
            Ok(writer) => write_lines(writer, waiting, image),
            Err(error) => tracing::warn!(%image, "no build log: {error}"),
        });
        BuildLog { lines }
    }

    /// Of an image that is gone: kept nowhere.
    pub(crate) fn of_nobody() -> BuildLog {
        BuildLog { lines: mpsc::channel(1).0 }
    }

    /// A line of a stage.
    pub(crate) fn stage_line(&self, step: &str, line: &LogLine) {
        let fields = match &line.fields {
            Some(fields) => format!(" {fields}"),
            None => String::new(),
        };
        let source = match line.source {
            LogSource::Plugin => "",
            LogSource::Stdout => " out|",
            LogSource::Stderr => " err|",
            LogSource::Host => " host|",
        };
        self.write(level_name(line.level), &format!("{step}:{source} {}{fields}", line.message));
    }

    /// A line of the factory itself.
    pub(crate) fn note(&self, text: &str) {
        self.write("info", text);
    }

    fn write(&self, level: &str, text: &str) {
        let now = OffsetDateTime::now_utc();
        let now = now.replace_nanosecond(now.nanosecond() / 1_000_000 * 1_000_000).unwrap_or(now);
        let now = now.format(&Rfc3339).unwrap_or_default();
        // Full or closed: the line is lost, as the head comment says.
        self.lines.try_send(format!("{now} {level} {text}")).ok();
    }
}

fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

fn write_lines(mut writer: LogWriter, mut waiting: mpsc::Receiver<String>, image: Uuid) {
    while let Some(line) = waiting.blocking_recv() {
        if let Err(error) = writer.line(&line) {
            tracing::warn!(%image, "the build log ends here: {error}");
            return;
        }
    }
}
