//! Text that must not reach a log: root passwords, installation keys, credentials. The type keeps
//! it out by having no Display and a Debug that prints REDACTED; where the text is needed, `expose`
//! makes the place visible in a review. It does not wipe memory: the host's keeper of secrets does.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A secret's text. Serialises as a plain string, because the stage that needs it reads JSON.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SensitiveText(String);

impl SensitiveText {
    /// Takes the text over.
    pub fn new(text: impl Into<String>) -> Self {
        SensitiveText(text.into())
    }

    /// The text itself. Whoever calls this must not log it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Is there nothing in it?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for SensitiveText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("REDACTED")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensitive_text_is_redacted_in_debug_and_whole_in_json() {
        let secret = SensitiveText::new("hunter2");
        assert_eq!(format!("{secret:?} {secret:#?}"), "REDACTED REDACTED");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"hunter2\"");
        assert_eq!(secret.expose(), "hunter2");
    }
}
