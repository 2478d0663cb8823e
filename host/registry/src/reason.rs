//! Why an entry is not active: a sentence, the place it is about, and the way out.
//!
//! The sentence names no folder of this machine, so it may be told to any client; place and hint
//! are for the log and the command line, whose reader can act on them. Everything that judges an
//! entry makes these.

use std::fmt;
use std::path::PathBuf;

/// A fact about an entry, for clients and for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The fact with its values; no path of this machine.
    pub message: String,
    /// The file or folder it is about.
    pub place: Option<PathBuf>,
    /// What to do about it; empty = nothing known.
    pub hint: String,
}

impl Reason {
    /// A sentence; no place, no hint.
    pub fn new(message: impl Into<String>) -> Self {
        Reason { message: message.into(), place: None, hint: String::new() }
    }

    /// With the place it is about.
    pub fn at(mut self, place: impl Into<PathBuf>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// With the way out.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match (&self.place, self.hint.as_str()) {
            (None, "") => Ok(()),
            (None, hint) => write!(f, " ({hint})"),
            (Some(place), "") => write!(f, " ({})", place.display()),
            (Some(place), hint) => write!(f, " ({}; {hint})", place.display()),
        }
    }
}
