//! Recovery's first step: make sure that nothing of a recorded attempt lives (plugin-abi.md 3.4).

use std::path::PathBuf;
use std::time::Duration;

use super::services::SpawnedAttempt;

/// Something of the attempt could not be ended.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// It was killed and is still there: a process in an uninterruptible system call.
    #[error(
        "process {pid} of an earlier attempt was killed {waited:?} ago and is still there; it hangs in the kernel (dead network storage?)"
    )]
    StillAlive {
        /// Its id.
        pid: u32,
        /// How long we waited.
        waited: Duration,
    },
    /// Its lock is still held.
    #[error("{lock} is still held after {waited:?}: a process of an earlier attempt lives on; find it with: fuser -v {lock}", lock = lock_file.display())]
    Locked {
        /// The lock file.
        lock_file: PathBuf,
        /// How long we waited.
        waited: Duration,
    },
    /// The host's files could not be read.
    #[error("cannot fence an earlier attempt")]
    Io(#[from] std::io::Error),
}

/// Proof that an attempt is over; holds its lock.
#[derive(Debug)]
pub struct Fenced {
    _lock: Option<std::fs::File>,
}

/// Ends whatever is left of the attempt and waits, at most `patience`, until it is gone.
pub async fn fence(attempt: &SpawnedAttempt, patience: Duration) -> Result<Fenced, FenceError> {
    todo!()
}
