//! What the inner process of a probe tells: one JSON object a line on a descriptor of its own.
//!
//! Lines are written whole and at once, because the next instruction may be the plugin's crash.
//! Nothing is buffered and nothing is held back; the command line makes a verdict of it.

use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::PoisonError;

use imagefactory_model::stage::JournalEntry;
use imagefactory_model::validation::{Finding, PROBE_LINE_BYTES_MAX, ProbeLine};

/// A finding's text is cut here; the rest of a line is small.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// The writing end.
pub(super) struct Report {
    to: Mutex<OwnedFd>,
    phase: Mutex<String>,
}

impl Report {
    /// Writes to `to` from now on.
    pub(super) fn new(to: OwnedFd) -> Report {
        Report { to: Mutex::new(to), phase: Mutex::default() }
    }

    /// Says what is called next; a crash is told with it.
    pub(super) fn phase(&self, text: impl Into<String>) {
        let text = cut(text.into());
        self.phase.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&text);
        self.write(&ProbeLine::Phase(text));
    }

    /// The same for `name`, unless a longer phase that begins with it has just been told.
    pub(super) fn phase_of(&self, name: &str) {
        let told = self.phase.lock().unwrap_or_else(PoisonError::into_inner).starts_with(name);
        if !told {
            self.phase(name);
        }
    }

    /// The rule is broken.
    pub(super) fn failed(&self, message: impl Into<String>) {
        self.write(&ProbeLine::Finding(Finding { advice: false, message: cut(message.into()) }));
    }

    /// An advice is not followed.
    pub(super) fn advise(&self, message: impl Into<String>) {
        self.write(&ProbeLine::Finding(Finding { advice: true, message: cut(message.into()) }));
    }

    /// Worth telling whatever the verdict.
    pub(super) fn note(&self, message: impl Into<String>) {
        self.write(&ProbeLine::Note(cut(message.into())));
    }

    /// The rule cannot be tried on this plugin or this machine.
    pub(super) fn skip(&self, reason: impl Into<String>) {
        self.write(&ProbeLine::Skip(cut(reason.into())));
    }

    /// A resource was journalled.
    pub(super) fn journal(&self, entry: &JournalEntry) {
        self.write(&ProbeLine::Journal(entry.clone()));
    }

    /// The probe came to its end.
    pub(super) fn done(&self) {
        self.write(&ProbeLine::Done);
    }

    fn write(&self, line: &ProbeLine) {
        let Ok(mut bytes) = serde_json::to_vec(line) else { return };
        bytes.push(b'\n');
        if bytes.len() > PROBE_LINE_BYTES_MAX {
            return; // only a journal entry can be that long; the reader would refuse it
        }
        let to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match rustix::io::write(&*to, rest) {
                Ok(written) => rest = &rest[written..],
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return, // the outer process is gone; it was the only reader
            }
        }
    }
}

/// At most [`MESSAGE_BYTES_MAX`] bytes, whole characters.
fn cut(mut text: String) -> String {
    if text.len() > MESSAGE_BYTES_MAX {
        let end = (0..=MESSAGE_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
