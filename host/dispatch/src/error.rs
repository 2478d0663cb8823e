//! Why an order was not taken, and whose fault it is. Knows nothing of HTTP: the edge turns each
//! variant into its status code (`imagefactoryd/src/rest/status_codes.rs`).

use imagefactory_model::status::Status;
use imagefactory_store::StoreError;
use uuid::Uuid;

/// An order that was not taken. Nothing of it was left behind.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// `sandbox.strict`, and this machine does not have every layer.
    #[error(
        "the sandbox is to be strict and this machine cannot contain every plugin: {}; provide what \
         is named, or set \"strict\": false in the configuration's \"sandbox\"",
        gaps.join("; ")
    )]
    NotContained {
        /// Profile, what a plugin could do, and the layer that is missing, each.
        gaps: Vec<String>,
    },
    /// No cloud plugin serves the target.
    #[error("{known}")]
    UnknownTarget {
        /// As asked for.
        target: String,
        /// The sentence: that nobody serves it, and what there is.
        known: String,
    },
    /// The image that is to be used or changed is not there.
    #[error("there is no image {0}")]
    NoSuchImage(Uuid),
    /// It is there, but of a kind that does not fit.
    #[error("{id} is a {found}, and a {wanted} is needed here")]
    WrongKind {
        /// Which image.
        id: Uuid,
        /// What it is, in words.
        found: &'static str,
        /// What was expected, in words.
        wanted: &'static str,
    },
    /// A provider image for another target than its target image was made for.
    #[error("target image {id} was made for '{made_for}' and cannot be pushed as '{asked}'")]
    TargetMismatch {
        /// The target image.
        id: Uuid,
        /// Its target.
        made_for: String,
        /// The order's.
        asked: String,
    },
    /// Parameters, provider or credentials do not fit what the plugin declares.
    #[error("{what} does not fit what {plugin} accepts: {}", findings.join("; "))]
    Unfit {
        /// `parameters`, `provider`, `credentials`.
        what: &'static str,
        /// The plugin's id.
        plugin: String,
        /// JSON pointer and reason, each; no secrets.
        findings: Vec<String>,
    },
    /// Credentials are needed and there are none.
    #[error("credentials are needed: {plugin} cannot act on '{target}' without them")]
    CredentialsMissing {
        /// The plugin's id.
        plugin: String,
        /// The target.
        target: String,
    },
    /// `@name` is not configured.
    #[error("there are no credentials named '{0}' in this factory's configuration")]
    UnknownCredentials(String),
    /// A file that is no disk image which stands alone.
    #[error("the disk image cannot be imported: {0}")]
    BadDiskImage(String),
    /// It cannot be deleted while something is made of it.
    #[error("image {id} is in use: {child} is made from it and is {status}")]
    InUse {
        /// Which image.
        id: Uuid,
        /// The unfinished child.
        child: Uuid,
        /// Its status.
        status: Status,
    },
    /// Its plugin is gone, so nobody can remove it from the provider.
    #[error(
        "image {id} is on '{target}', and no plugin serves that target any more: install the plugin \
         again, or forget the record (?forget=true) and remove the image by hand"
    )]
    PluginGone {
        /// Which image.
        id: Uuid,
        /// Its target.
        target: String,
    },
    /// It is final: there is nothing to cancel.
    #[error("image {id} is {status}: there is nothing to cancel")]
    NothingToCancel {
        /// Which image.
        id: Uuid,
        /// Its status.
        status: Status,
    },
    /// The same `Idempotency-Key` came with another request.
    #[error("Idempotency-Key '{0}' was used for another request within the last 24 hours")]
    IdempotencyMismatch(String),
    /// The factory is shutting down.
    #[error("the factory is shutting down; ask again in a moment")]
    ShuttingDown,
    /// This process cannot run stages at all.
    #[error("no stages can be run in this process")]
    Supervisor(#[source] std::io::Error),
    /// The disk is full: nothing can be promised.
    #[error("the factory's disk is full; nothing was accepted")]
    NoSpace(#[source] StoreError),
    /// The store failed.
    #[error("the factory's store failed")]
    Store(#[source] StoreError),
}

impl From<StoreError> for DispatchError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::IdempotencyMismatch(key) => DispatchError::IdempotencyMismatch(key),
            StoreError::NoSuchImage(id) => DispatchError::NoSuchImage(id),
            error if error.is_no_space() => DispatchError::NoSpace(error),
            error => DispatchError::Store(error),
        }
    }
}
