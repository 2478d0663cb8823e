//! What the registry cannot do. A broken plugin is not among it: that is an entry with a reason.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Failures of the registry itself; the operator is the one to act.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// A search path from the environment, and the process is privileged.
    #[error(
        "IMAGEFACTORY_PLUGIN_PATH is ignored because this process runs {privilege}; \
         name the folder in the configuration (\"plugins\")"
    )]
    PrivilegedEnvironment {
        /// `as root`, `set-user-ID`.
        privilege: &'static str,
    },
    /// The cache of descriptions could not be written.
    #[error("cannot write the plugin descriptions to {}", path.display())]
    SaveDescriptions {
        /// The cache file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file or folder with JEOS images could not be read.
    #[error("cannot read the JEOS images in {}", path.display())]
    ReadJeos {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
