//! Why a plugin command could not do its work. Findings about a plugin are no errors: they are what
//! was asked for.

use std::path::PathBuf;

/// Wrong use, or a machine on which the command cannot work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PluginError {
    /// Neither a file nor an id on the search path.
    #[error(
        "there is no plugin {name}: no such file, and no {name}.json in {}; \
         give the path of a manifest (.json) or library (.so), or an id of `imagefactory plugins`",
        searched.join(", ")
    )]
    NotFound {
        /// As given.
        name: String,
        /// Folders that were searched.
        searched: Vec<String>,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The fixtures beside the manifest are wrong.
    #[error("{}: {message}", path.display())]
    Fixtures {
        /// `<Id>.validate.json`.
        path: PathBuf,
        /// What.
        message: String,
    },
    /// `--only` is no pattern.
    #[error(
        "--only {pattern}: {message}; give a regular expression or the beginning of a rule's id"
    )]
    Pattern {
        /// As given.
        pattern: String,
        /// Why.
        message: String,
    },
    /// No rule is left to try.
    #[error("no rule of level {level} matches --only {pattern}")]
    NoRules {
        /// As given.
        level: u8,
        /// As given.
        pattern: String,
    },
    /// The runner program is not there.
    #[error(
        "imagefactory-stage-runner is not at {}; it belongs to the package imagefactory, \
         or name it with --runner",
        searched.join(" nor at ")
    )]
    NoRunner {
        /// Where it was looked for.
        searched: Vec<String>,
    },
    /// The scaffold's folder is in use.
    #[error("{} exists already; nothing was written", path.display())]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// The id cannot be one.
    #[error(
        "{id:?} is no plugin id: letters, digits, '.', '_' and '-', beginning with a letter or \
         digit, at most 64"
    )]
    BadId {
        /// As given.
        id: String,
    },
    /// The describing runner could not be started.
    #[error("the plugin could not be described: {message}")]
    Describe {
        /// Why.
        message: String,
    },
}
