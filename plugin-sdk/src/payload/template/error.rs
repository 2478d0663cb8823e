//! Why a template is refused: every finding, in document order.

use std::fmt;

use crate::payload::finding::Finding;

/// A template that was refused. The client who wrote it is at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// At least one, in document order.
    pub findings: Vec<Finding>,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the template is refused: ")?;
        for (index, finding) in self.findings.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{finding}")?;
        }
        Ok(())
    }
}

impl std::error::Error for TemplateError {}
