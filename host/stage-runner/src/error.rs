//! Why a runner does not load or call a plugin. Each value becomes one Refused frame.

use std::io;
use std::path::PathBuf;

use imagefactory_model::frames::{PROTOCOL, RefusalKind, Refused};

/// A refusal with its culprit.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// Daemon and runner are of different versions.
    #[error("the daemon speaks frame protocol {daemon}, this runner {PROTOCOL}")]
    ProtocolVersion {
        /// The daemon's number.
        daemon: u32,
    },
    /// A frame came that does not belong there.
    #[error("the daemon sent {got} where {expected} was due")]
    UnexpectedFrame {
        /// What came.
        got: &'static str,
        /// What was due.
        expected: &'static str,
    },
    /// The library's file or a folder above it cannot be trusted or read.
    #[error("{path}: {fault}", path = path.display())]
    File {
        /// The file or folder at fault.
        path: PathBuf,
        /// Fact and values.
        fault: String,
        /// Way out.
        hint: String,
    },
    /// A layer of the sandbox failed half-way, so that nothing may be run in it.
    #[error("cannot set up the sandbox: {step}: {source}")]
    Layer {
        /// What was being done.
        step: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Layers that the host insists on cannot be had.
    #[error("strict sandbox: {}", missing.join("; "))]
    MissingLayers {
        /// Each with its reason and how to get it.
        missing: Vec<String>,
    },
    /// The attempt's lock file cannot be taken.
    #[error("cannot lock {path} for this attempt: {source}", path = path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The dynamic linker refused the library.
    #[error("{path} cannot be loaded: {fault}", path = path.display())]
    Load {
        /// The library.
        path: PathBuf,
        /// The linker's words.
        fault: String,
    },
    /// No common ABI, or not the plugin that its manifest describes.
    #[error("plugin {plugin}: {fault}")]
    Abi {
        /// The manifest's id.
        plugin: String,
        /// Fact and values.
        fault: String,
    },
    /// The Rust side-car describes other structs than ours.
    #[error("plugin {plugin} was built with another layout of the ABI: {fault}")]
    Layout {
        /// The manifest's id.
        plugin: String,
        /// abi_stable's words, cut.
        fault: String,
    },
    /// The plugin has no such operation.
    #[error("plugin {plugin} does not offer {operation}")]
    Unsupported {
        /// The manifest's id.
        plugin: String,
        /// As in the headers.
        operation: &'static str,
    },
}

impl RunnerError {
    /// A failed step of the sandbox.
    pub(crate) fn layer(step: impl Into<String>, source: impl Into<io::Error>) -> Self {
        RunnerError::Layer { step: step.into(), source: source.into() }
    }

    /// The frame that tells the supervisor.
    pub fn refused(&self) -> Refused {
        Refused { why: self.kind(), message: self.to_string(), hint: self.hint() }
    }

    fn kind(&self) -> RefusalKind {
        match self {
            RunnerError::ProtocolVersion { .. } | RunnerError::UnexpectedFrame { .. } => {
                RefusalKind::Protocol
            }
            RunnerError::File { .. } => RefusalKind::File,
            RunnerError::Layer { .. }
            | RunnerError::MissingLayers { .. }
            | RunnerError::Lock { .. } => RefusalKind::Sandbox,
            RunnerError::Load { .. } => RefusalKind::Load,
            RunnerError::Abi { .. } => RefusalKind::Abi,
            RunnerError::Layout { .. } => RefusalKind::Layout,
            RunnerError::Unsupported { .. } => RefusalKind::Unsupported,
        }
    }

    fn hint(&self) -> String {
        match self {
            RunnerError::ProtocolVersion { .. } | RunnerError::UnexpectedFrame { .. } => {
                "daemon and runner come from one package; restart imagefactoryd after an upgrade"
                    .into()
            }
            RunnerError::File { hint, .. } => hint.clone(),
            RunnerError::Layer { .. } => String::new(),
            RunnerError::MissingLayers { .. } => {
                "provide what is named, or set \"strict\": false in the configuration's \"sandbox\""
                    .into()
            }
            RunnerError::Lock { .. } => {
                "another process of this attempt may still live; find it with fuser -v".into()
            }
            RunnerError::Load { .. } => {
                "look for missing libraries or symbols with ldd -r on the file".into()
            }
            RunnerError::Abi { .. } | RunnerError::Layout { .. } => {
                "rebuild the plugin with the plugin SDK of this host, or install the version that its manifest describes".into()
            }
            RunnerError::Unsupported { .. } => {
                "list what it offers: imagefactory plugin list".into()
            }
        }
    }
}
