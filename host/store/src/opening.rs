//! One process at a time brings a store up to date: its schema, and what the original left.
//!
//! A daemon and a command line may start at once on a new store, and the second would find half of
//! what the first makes. Used by `embedded` and [`crate::original`]; held for milliseconds.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::StoreError;

/// Waits for its turn. Dropping the file ends it, and so does the end of the process.
pub(crate) async fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("opening.lock");
    let locking = tokio::task::spawn_blocking(move || {
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|cause| StoreError::file("lock", &path, cause))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|cause| StoreError::file("lock", &path, cause))?;
        Ok(lock)
    });
    locking.await.map_err(|_| StoreError::Closed)?
}
