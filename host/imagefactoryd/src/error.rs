//! Why the daemon does not start, and how a chain of causes is printed.

use std::path::PathBuf;

use imagefactory_configuration::ConfigurationError;
use imagefactory_dispatch::DispatchError;
use imagefactory_store::StoreError;

/// Why the daemon does not start or ended by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    /// Flags or configuration.
    #[error("{0}")]
    Configuration(#[from] ConfigurationError),
    /// `address` is neither an address nor a name that can be resolved.
    #[error("cannot listen on '{address}': {why}")]
    Address {
        /// As configured.
        address: String,
        /// In words.
        why: String,
    },
    /// The socket cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// As configured.
        address: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The certificate cannot be read, made or used.
    #[error("the certificate {path} cannot be used: {why}")]
    Certificate {
        /// The file with certificate and key.
        path: PathBuf,
        /// In words.
        why: String,
    },
    /// The store cannot be opened.
    #[error("the store cannot be opened")]
    Store(#[from] StoreError),
    /// The engine cannot be opened.
    #[error("the factory cannot be opened")]
    Dispatch(#[from] DispatchError),
    /// No threads, no signals.
    #[error("the system refuses what every daemon needs")]
    System(#[from] std::io::Error),
}

/// The error with all its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let sentence = error.to_string();
        // Some wrappers repeat their cause.
        if !text.ends_with(&sentence) {
            text.push_str(": ");
            text.push_str(&sentence);
        }
        cause = error.source();
    }
    text
}
