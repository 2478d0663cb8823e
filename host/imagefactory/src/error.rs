//! Why a command did not do what it was asked, and what it exits with.

use std::path::PathBuf;

use imagefactory_configuration::ConfigurationError;
use imagefactory_dispatch::DispatchError;
use imagefactory_notifications::callbacks::CallbackError;
use imagefactory_store::StoreError;
use uuid::Uuid;

use crate::remote::RemoteError;

/// Exit status of what failed.
pub(crate) const FAILED: u8 = 1;
/// Exit status of wrong use, as clap's own.
pub(crate) const USAGE: u8 = 2;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The configuration.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The engine refused or failed.
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The daemon refused, or did not answer.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Callbacks cannot be sent.
    #[error(transparent)]
    Callbacks(#[from] CallbackError),
    /// A file that an argument names.
    #[error("cannot {doing} {what} {path}{hint}")]
    File {
        /// `read`, `write`.
        doing: &'static str,
        /// `the template`, `the credentials`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// A way out, after '; ', or nothing.
        hint: &'static str,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// An argument that makes no sense: exit status 2.
    #[error("{0}")]
    Usage(String),
    /// The image is not there.
    #[error("there is no image {0}")]
    NoSuchImage(Uuid),
    /// The leftover is not there.
    #[error("there is no leftover {0}; 'imagefactory leftovers' lists them")]
    NoSuchLeftover(Uuid),
    /// There is no such plugin.
    #[error("there is no plugin '{id}'; there are {known}")]
    NoSuchPlugin {
        /// As asked for.
        id: String,
        /// All ids.
        known: String,
    },
    /// The deletion did not succeed.
    #[error("image {id} was not deleted: {why}")]
    NotDeleted {
        /// Which image.
        id: Uuid,
        /// The provider's words.
        why: String,
    },
    /// Standard output.
    #[error("cannot write to standard output")]
    Output(#[source] std::io::Error),
    /// Nobody reads standard output any more: the command ends quietly.
    #[error("nobody reads standard output any more")]
    ReaderGone,
    /// This process itself.
    #[error("cannot start")]
    Start(#[source] std::io::Error),
}

impl CommandError {
    /// What the process exits with.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            CommandError::Usage(_) | CommandError::Dispatch(DispatchError::BadDiskImage(_)) => {
                USAGE
            }
            _ => FAILED,
        }
    }

    /// The sentence with its causes, each told once.
    pub(crate) fn report(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let next = error.to_string();
            if !text.ends_with(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            if matches!(self, CommandError::Store(_))
                && let Some(io) = error.downcast_ref::<std::io::Error>()
                && io.kind() == std::io::ErrorKind::PermissionDenied
            {
                text.push_str(
                    "; run this as the factory's user, or give --imgdir a folder of yours",
                );
            }
            cause = error.source();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_each_cause_once() {
        let cause = std::io::Error::other("no such thing");
        let error = CommandError::File {
            doing: "read",
            what: "the template",
            path: "/x.tdl".into(),
            hint: "",
            cause,
        };
        assert_eq!(error.report(), "cannot read the template /x.tdl: no such thing");
        let error = CommandError::Dispatch(DispatchError::Supervisor(std::io::Error::other("why")));
        assert_eq!(error.report(), "no stages can be run in this process: why");
    }
}
