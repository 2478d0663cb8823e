//! What a check of a document found, and why a manifest is refused.
//!
//! A [`JsonFinding`] is one sentence and the JSON pointer (RFC 6901) of the place it is about. The
//! manifest reader collects them here within bounds; the host uses the same type for parameters.

use std::error::Error;
use std::fmt;

/// Findings kept of each sort. A manifest of 1 MiB can hold 100,000 unknown keys; nobody reads more
/// than a screenful, and the listing must stay small.
pub(super) const FINDINGS_MAX: usize = 50;

/// One thing that is wrong or odd in a JSON document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonFinding {
    /// Where: `/library/path`; empty = the whole document.
    pub pointer: String,
    /// What, with the values and the way out.
    pub message: String,
}

impl JsonFinding {
    /// A sentence about a place.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        JsonFinding { pointer: pointer.into(), message: message.into() }
    }
}

impl fmt::Display for JsonFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.pointer, self.message)
        }
    }
}

/// Why a document is no manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestError {
    /// More than [`super::MANIFEST_BYTES_MAX`].
    TooLarge {
        /// Bytes it has.
        bytes: usize,
    },
    /// Not JSON, cut off, not UTF-8, nested too deeply, a key twice.
    Unreadable {
        /// What the reader met and where.
        message: String,
    },
    /// JSON, but no manifest. Never empty.
    Invalid {
        /// Everything that must be mended.
        problems: Vec<JsonFinding>,
    },
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ManifestError::TooLarge { bytes } => write!(
                f,
                "the manifest has {} bytes; at most {} are read",
                bytes,
                super::MANIFEST_BYTES_MAX
            ),
            ManifestError::Unreadable { message } => {
                write!(f, "the manifest is not readable JSON: {}", message)
            }
            ManifestError::Invalid { problems } => {
                for (index, problem) in problems.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    write!(f, "{}{}", separator, problem)?;
                }
                Ok(())
            }
        }
    }
}

impl Error for ManifestError {}

/// Collects findings while a document is read.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: Vec<JsonFinding>,
    warnings: Vec<JsonFinding>,
}

impl Report {
    /// Something that makes the document unusable.
    pub(super) fn problem(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        push_bounded(&mut self.problems, JsonFinding::new(pointer, message));
    }

    /// Something odd that the reader gets over.
    pub(super) fn warning(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        push_bounded(&mut self.warnings, JsonFinding::new(pointer, message));
    }

    /// The warnings, or the reason why there is nothing to warn about.
    pub(super) fn finish(self) -> Result<Vec<JsonFinding>, ManifestError> {
        if self.problems.is_empty() {
            Ok(self.warnings)
        } else {
            Err(ManifestError::Invalid { problems: self.problems })
        }
    }
}

fn push_bounded(findings: &mut Vec<JsonFinding>, finding: JsonFinding) {
    if findings.len() < FINDINGS_MAX {
        findings.push(finding);
    } else if findings.len() == FINDINGS_MAX {
        findings.push(JsonFinding::new("", "there is more; mend these first"));
    }
}

/// `pointer/key` with the escapes of RFC 6901.
pub(super) fn child(pointer: &str, key: &str) -> String {
    format!("{}/{}", pointer, key.replace('~', "~0").replace('/', "~1"))
}
