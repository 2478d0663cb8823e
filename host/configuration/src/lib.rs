//! How daemon and command line are told what to do: `imagefactory.conf` and flags, one set of
//! names.
//!
//! - [`file`]: the JSON file, with the original's keys
//! - [`flags`]: the flags that both programs share
//! - [`settings`]: what comes of both: flags win over the file, the file over the defaults

pub mod file;
pub mod flags;
pub mod settings;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}")]
    Unreadable {
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// It is not the JSON that it should be.
    #[error("the configuration {path} is not valid: {why}")]
    Invalid {
        /// Which file.
        path: std::path::PathBuf,
        /// Key, value, what was expected.
        why: String,
    },
    /// Flags or keys that exclude each other, or values that cannot be.
    #[error("{0}")]
    Contradiction(String),
}
