//! Credentials for a provider: the text that a client sent (XML or JSON, the cloud plugin knows) or
//! the name of credentials that the host keeps. They go over the runner's socket on request, and
//! nowhere else: no Display, Debug prints REDACTED, and there is no Serialize to leak through.

use std::fmt;

use serde::Deserialize;

/// Longest credentials in bytes: a certificate chain and a key are under 20 kB.
pub const CREDENTIALS_BYTES_MAX: usize = 256 << 10;

/// What opens a provider's door.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Credentials(String);

impl Credentials {
    /// Takes the text over. Refused: nothing, and more than [`CREDENTIALS_BYTES_MAX`].
    pub fn new(text: impl Into<String>) -> Result<Self, CredentialsError> {
        let text = text.into();
        if text.trim().is_empty() {
            return Err(CredentialsError::Empty);
        }
        if text.len() > CREDENTIALS_BYTES_MAX {
            return Err(CredentialsError::TooLong { bytes: text.len() });
        }
        Ok(Credentials(text))
    }

    /// The text itself. Whoever calls this must not log or store it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `@name`: the name under which the host keeps the credentials; `None` for inline ones.
    pub fn name(&self) -> Option<&str> {
        let name = self.0.trim().strip_prefix('@')?;
        let is_name = !name.is_empty()
            && name.len() <= 64
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        Some(name).filter(|_| is_name)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "Credentials(@{name})"),
            None => f.write_str("Credentials(REDACTED)"),
        }
    }
}

/// Why a text is no credentials. Never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialsError {
    /// Nothing, or blanks.
    Empty,
    /// More than anybody needs.
    TooLong {
        /// Of the text.
        bytes: usize,
    },
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CredentialsError::Empty => {
                f.write_str("the credentials are empty; send their text, or @name")
            }
            CredentialsError::TooLong { bytes } => write!(
                f,
                "the credentials have {bytes} bytes; at most {CREDENTIALS_BYTES_MAX} are taken"
            ),
        }
    }
}

impl std::error::Error for CredentialsError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_never_show_their_text() {
        let credentials = Credentials::new("<password>hunter2</password>").unwrap();
        assert_eq!(format!("{credentials:?}"), "Credentials(REDACTED)");
        assert_eq!(format!("{:?}", Some(&credentials)), "Some(Credentials(REDACTED))");
        assert_eq!(credentials.expose(), "<password>hunter2</password>");
    }

    #[test]
    fn a_name_is_told_from_a_text() {
        let name = |text: &str| Credentials::new(text).unwrap().name().map(str::to_owned);
        assert_eq!(name("@prod-1"), Some("prod-1".to_owned()));
        assert_eq!(name(" @prod\n"), Some("prod".to_owned()));
        for text in ["@", "@a/b", "@../x", "prod", "{\"@\":1}"] {
            assert_eq!(name(text), None, "{text}");
        }
        assert_eq!(name(&format!("@{}", "a".repeat(65))), None);
    }

    #[test]
    fn empty_and_endless_credentials_are_refused() {
        assert_eq!(Credentials::new(" \n"), Err(CredentialsError::Empty));
        let bytes = CREDENTIALS_BYTES_MAX + 1;
        assert_eq!(Credentials::new("x".repeat(bytes)), Err(CredentialsError::TooLong { bytes }));
    }
}
