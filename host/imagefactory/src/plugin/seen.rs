//! What trying one rule brought: findings, notes, or why it was not tried.

use imagefactory_model::validation::{Finding, Outcome};

/// Collected while a rule is tried.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// What is wrong or advised against.
    pub(crate) findings: Vec<Finding>,
    /// Worth telling, whatever the verdict.
    pub(crate) notes: Vec<String>,
    /// Why the rule was not tried.
    pub(crate) skipped: Option<String>,
}

impl Seen {
    /// The duty is broken.
    pub(crate) fn failed(&mut self, message: impl Into<String>) {
        self.findings.push(Finding { advice: false, message: message.into() });
    }

    /// An advice is not followed.
    pub(crate) fn advise(&mut self, message: impl Into<String>) {
        self.findings.push(Finding { advice: true, message: message.into() });
    }

    /// Worth telling.
    pub(crate) fn note(&mut self, message: impl Into<String>) {
        self.notes.push(message.into());
    }

    /// It cannot be tried.
    pub(crate) fn skip(&mut self, reason: impl Into<String>) {
        self.skipped.get_or_insert(reason.into());
    }

    /// The verdict, as far as findings make one.
    pub(crate) fn outcome(&self) -> Outcome {
        if self.findings.iter().any(|finding| !finding.advice) {
            Outcome::Failed
        } else if !self.findings.is_empty() {
            Outcome::Warning
        } else if self.skipped.is_some() {
            Outcome::Skipped
        } else {
            Outcome::Success
        }
    }

    /// What is told of it, most important first.
    pub(crate) fn messages(&self) -> Vec<String> {
        let findings = self.findings.iter().map(|finding| finding.message.clone());
        findings.chain(self.skipped.clone()).chain(self.notes.iter().cloned()).collect()
    }
}
