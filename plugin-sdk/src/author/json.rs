//! Just enough JSON for a plugin without dependencies: reads members of a document, writes objects.
//!
//! With the `payload` feature serde does this better; this exists so that a plugin on the core
//! alone can read its parameters. Documents are checked as a whole before anything is read, and
//! nesting is bounded.

mod scan;
mod text;

use std::fmt;

pub use text::{quote, Object};

use scan::Scanner;
use text::unescape;

/// Deeper documents are refused, so that a hostile one cannot exhaust the stack (serde_json's own
/// bound).
const DEPTH_MAX: usize = 128;

/// One value of a document that is known to be JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<'a> {
    text: &'a str,
}

/// Why a text is not JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    /// The byte at which it ceases to be JSON.
    pub at: usize,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not JSON at byte {}", self.at)
    }
}

impl std::error::Error for JsonError {}

impl<'a> Json<'a> {
    /// Checks a whole document.
    pub fn parse(text: &'a str) -> Result<Json<'a>, JsonError> {
        let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
        scanner.blanks();
        let start = scanner.at;
        scanner.value(DEPTH_MAX).ok_or(JsonError { at: scanner.at })?;
        let end = scanner.at;
        scanner.blanks();
        if scanner.at == text.len() {
            Ok(Json { text: &text[start..end] })
        } else {
            Err(JsonError { at: scanner.at })
        }
    }

    /// The value as it stands in the document.
    pub fn raw(&self) -> &'a str {
        self.text
    }

    /// Is it an object?
    pub fn is_object(&self) -> bool {
        self.text.starts_with('{')
    }

    /// Is it null?
    pub fn is_null(&self) -> bool {
        self.text == "null"
    }

    /// A member of an object; the last one of a name counts.
    pub fn member(&self, name: &str) -> Option<Json<'a>> {
        self.members().filter(|(key, _)| key == name).last().map(|(_, value)| value)
    }

    /// The members of an object in their order; nothing for any other value.
    pub fn members(&self) -> impl Iterator<Item = (String, Json<'a>)> {
        let mut items = Items::of(self.text, b'{');
        std::iter::from_fn(move || {
            let key = items.next()?.as_text()?;
            items.next().map(|value| (key, value))
        })
    }

    /// The elements of an array in their order; nothing for any other value.
    pub fn elements(&self) -> impl Iterator<Item = Json<'a>> {
        Items::of(self.text, b'[')
    }

    /// The text that it is, without its quotes and escapes.
    pub fn as_text(&self) -> Option<String> {
        self.text.strip_prefix('"')?.strip_suffix('"').map(unescape)
    }

    /// The whole number from 0 on that it is.
    pub fn as_u64(&self) -> Option<u64> {
        self.text.parse().ok()
    }

    /// The number that it is.
    pub fn as_f64(&self) -> Option<f64> {
        let is_number = self.text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        if is_number {
            self.text.parse().ok()
        } else {
            None
        }
    }

    /// True or false, if it is one of them.
    pub fn as_bool(&self) -> Option<bool> {
        self.text.parse().ok()
    }
}

/// The values between the brackets of an object (keys and values in turn) or an array.
struct Items<'a> {
    text: &'a str,
    scanner: Scanner<'a>,
}

impl<'a> Items<'a> {
    fn of(text: &'a str, bracket: u8) -> Items<'a> {
        let bytes = if text.as_bytes().first() == Some(&bracket) { text.as_bytes() } else { b"" };
        Items { text, scanner: Scanner { bytes, at: 1 } }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Json<'a>;

    fn next(&mut self) -> Option<Json<'a>> {
        self.scanner.blanks();
        while matches!(self.scanner.peek(), Some(b',') | Some(b':')) {
            self.scanner.at += 1;
            self.scanner.blanks();
        }
        let start = self.scanner.at;
        self.scanner.value(DEPTH_MAX)?;
        Some(Json { text: &self.text[start..self.scanner.at] })
    }
}
