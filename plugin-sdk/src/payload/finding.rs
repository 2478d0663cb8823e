//! A finding: one thing that is wrong with (or odd about) a document, and where.
//! Readers collect findings instead of stopping at the first, so that a client mends a template in
//! one round. This file knows no document; `template` and `target_content` do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Findings kept of one document. A person reads tens; the rest would only make the answer long.
pub const FINDINGS_MAX: usize = 100;

/// Longest piece of a document that a finding quotes, in characters: enough to recognise it.
const QUOTE_CHARS_MAX: usize = 60;

/// One thing that is wrong, as a sentence for the person who wrote the document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Line of the document, from 1; 0 where it concerns the whole document.
    pub line: u32,
    /// Column in characters, from 1; 0 where it concerns the whole document.
    pub column: u32,
    /// Fact, value, way out. Never holds a password.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return f.write_str(&self.message);
        }
        write!(f, "line {}:{}: {}", self.line, self.column, self.message)
    }
}

/// What a reader found so far; bounded by [`FINDINGS_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Findings {
    kept: Vec<Finding>,
    beyond: usize,
}

impl Findings {
    /// No more room: further findings are only counted.
    pub(crate) fn is_full(&self) -> bool {
        self.kept.len() >= FINDINGS_MAX
    }

    /// Keeps the finding, or counts it when there is no more room.
    pub(crate) fn add(&mut self, finding: Finding) {
        if self.is_full() {
            self.beyond += 1;
        } else {
            self.kept.push(finding);
        }
    }

    /// All findings in document order; the last one counts those beyond [`FINDINGS_MAX`].
    pub(crate) fn into_vec(mut self) -> Vec<Finding> {
        self.kept.sort_by_key(|finding| (finding.line, finding.column));
        if self.beyond > 0 {
            let message = format!("and {} further findings; mend these first", self.beyond);
            self.kept.push(Finding { line: 0, column: 0, message });
        }
        self.kept
    }
}

/// A piece of a document, fit for a message: quoted, shortened, without control characters, and
/// without the password of a URL.
pub(crate) fn quoted(text: &str) -> String {
    let masked = mask_userinfo(text);
    let mut shown: String = masked.chars().take(QUOTE_CHARS_MAX).collect();
    if masked.chars().nth(QUOTE_CHARS_MAX).is_some() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// Text for a message, its control characters escaped: findings are shown on terminals.
pub(crate) fn without_controls(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// `https://user:secret@host/` as `https://REDACTED@host/`, wherever in the text it stands.
fn mask_userinfo(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(scheme_end) = rest.find("://") {
        let (head, tail) = rest.split_at(scheme_end + "://".len());
        masked.push_str(head);
        let authority_end =
            tail.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(tail.len());
        match tail[..authority_end].rfind('@') {
            Some(at) => {
                masked.push_str("REDACTED");
                rest = &tail[at..];
            }
            None => rest = tail,
        }
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_url_never_shows_its_password() {
        assert_eq!(quoted("http://u:p@h/x"), "\"http://REDACTED@h/x\"");
        assert_eq!(quoted("a http://u:p@h b ftp://x:y@z"), {
            "\"a http://REDACTED@h b ftp://REDACTED@z\""
        });
        assert_eq!(quoted("http://h/@x"), "\"http://h/@x\"");
    }

    #[test]
    fn a_long_or_odd_value_is_shortened_and_escaped() {
        assert_eq!(quoted("a\u{1b}[2Jb"), "\"a\\u{1b}[2Jb\"");
        assert!(quoted(&"ä".repeat(1000)).chars().count() < 70);
    }

    #[test]
    fn findings_beyond_the_bound_are_counted() {
        let mut findings = Findings::default();
        for line in 0..(FINDINGS_MAX as u32 + 5) {
            findings.add(Finding { line: line + 1, column: 1, message: String::new() });
        }
        let all = findings.into_vec();
        assert_eq!(all.len(), FINDINGS_MAX + 1);
        assert!(all[FINDINGS_MAX].message.contains("5 further"));
    }
}
