//! What can go wrong in the store, and whose fault it is.

use std::path::{Path, PathBuf};

use imagefactory_model::status::Status;
use uuid::Uuid;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused or failed.
    #[error("the store's database failed")]
    Database(#[source] sqlx::Error),
    /// The database was made by a newer Image Factory.
    #[error(
        "the store in {dir} was written by a newer Image Factory (schema {found}, this one knows up \
         to {known}): install that version again, or point image_manager_args.storage_path elsewhere"
    )]
    NewerSchema {
        /// The store's folder.
        dir: PathBuf,
        /// Version found.
        found: i64,
        /// Newest version known.
        known: i64,
    },
    /// Another daemon works on this store.
    #[error(
        "another imagefactoryd works on the store in {dir}: stop it first, or give this one a storage_path of its own"
    )]
    InUse {
        /// The store's folder.
        dir: PathBuf,
    },
    /// A file or folder could not be read or written.
    #[error("cannot {doing} {path}")]
    File {
        /// Verb: `write`, `rename`, `lock`.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// There is no room for what was about to be written.
    #[error("no room in {dir}: {needed} bytes needed, {free} free after reservations")]
    NoSpace {
        /// On whose file system.
        dir: PathBuf,
        /// Bytes asked for.
        needed: u64,
        /// Bytes there.
        free: u64,
    },
    /// No image of this id.
    #[error("there is no image {0}")]
    NoSuchImage(Uuid),
    /// The status table forbids it.
    #[error("image {id} is {from} and cannot become {to}")]
    Transition {
        /// Which image.
        id: Uuid,
        /// What it is.
        from: Status,
        /// What it was to become.
        to: Status,
    },
    /// A request with this `Idempotency-Key` was another one.
    #[error("Idempotency-Key '{0}' was used for another request")]
    IdempotencyMismatch(String),
    /// A record makes no sense: a bug, or a hand in the database.
    #[error("the store's record of {what} is damaged: {detail}")]
    Damaged {
        /// Table or file, and id.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The process is shutting down.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// `doing` ("read") with a file failed.
    pub fn file(doing: &'static str, path: &Path, cause: impl Into<std::io::Error>) -> Self {
        StoreError::File { doing, path: path.to_owned(), cause: cause.into() }
    }

    pub(crate) fn damaged(what: impl Into<String>, detail: impl ToString) -> Self {
        StoreError::Damaged { what: what.into(), detail: detail.to_string() }
    }

    /// Is it the disk that is full (database or file)?
    pub fn is_no_space(&self) -> bool {
        match self {
            StoreError::NoSpace { .. } => true,
            StoreError::File { cause, .. } => cause.kind() == std::io::ErrorKind::StorageFull,
            // SQLITE_FULL (13), https://sqlite.org/rescode.html#full
            StoreError::Database(sqlx::Error::Database(database)) => {
                database.code().is_some_and(|code| code == "13")
            }
            StoreError::Database(sqlx::Error::Io(cause)) => {
                cause.kind() == std::io::ErrorKind::StorageFull
            }
            _ => false,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(cause: sqlx::Error) -> Self {
        StoreError::Database(cause)
    }
}
