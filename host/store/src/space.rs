//! Disk space: what is free after what was promised to running stages.
//!
//! A stage reserves what its output may need before it starts; two builds cannot both be promised
//! the last gigabyte. Reservations are records, so that a command line beside the daemon counts
//! too; those of dead processes are dropped by recovery.

use std::path::Path;

use async_trait::async_trait;
use uuid::Uuid;

use crate::StoreError;

/// Reservations of disk space.
#[async_trait]
pub trait Reservations {
    /// Promises `bytes` on the file system of `dir` to a stage, or refuses with the numbers. A
    /// second call for the stage replaces the first.
    async fn reserve(
        &self,
        dir: &Path,
        stage: Uuid,
        owner: Uuid,
        bytes: u64,
    ) -> Result<(), StoreError>;

    /// Gives a stage's reservation back; none is no error.
    async fn release(&self, stage: Uuid) -> Result<(), StoreError>;

    /// Drops the reservations of all owners but these.
    async fn release_all_but(&self, owners: &[Uuid]) -> Result<(), StoreError>;
}

/// Bytes that an unprivileged process could still write on the file system of `dir`.
pub fn free_bytes(dir: &Path) -> Result<u64, StoreError> {
    let numbers = rustix::fs::statvfs(dir)
        .map_err(|cause| StoreError::file("ask for the free space of", dir, cause))?;
    Ok(numbers.f_bavail.saturating_mul(numbers.f_frsize))
}
