//! Recovery's first step: make sure that nothing of a recorded attempt lives (plugin-abi.md 3.4).
//!
//! Kills by pid *and* start time *and* boot id, so never a stranger that got the pid later; then
//! what the attempt's cgroup still holds; then waits until the runner's lock is free. The lock is
//! the proof: every process of the runner holds it, also one whose pid was never recorded.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, pidfd_send_signal};
use tokio::time::{Instant, sleep};

use super::cgroup::StageCgroup;
use super::process_table::{boot_id, facts, open_exactly};
use super::services::SpawnedAttempt;

/// Between two looks. What was killed is gone in a millisecond or two, unless it hangs.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// Something of the attempt could not be ended.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// It was killed and is still there: a process in an uninterruptible system call.
    #[error(
        "process {pid} of an earlier attempt was killed and is still there after {waited:?}; it \
         hangs in the kernel (dead network storage?)"
    )]
    StillAlive {
        /// Its id.
        pid: u32,
        /// How long we waited.
        waited: Duration,
    },
    /// Its cgroup is not empty.
    #[error("killed processes of an earlier attempt are still in {cgroup} after {waited:?}", cgroup = cgroup.display())]
    CgroupInUse {
        /// One of its folders.
        cgroup: PathBuf,
        /// How long we waited.
        waited: Duration,
    },
    /// Its lock is still held.
    #[error(
        "{lock} is still held after {waited:?}: a process of an earlier attempt lives on; find it \
         with: fuser -v {lock}",
        lock = lock_file.display()
    )]
    Locked {
        /// The lock file.
        lock_file: PathBuf,
        /// How long we waited.
        waited: Duration,
    },
    /// The host's files could not be read.
    #[error("cannot fence an earlier attempt")]
    Io(#[from] io::Error),
}

/// Proof that an attempt is over; holds its lock.
#[derive(Debug)]
pub struct Fenced {
    /// `None` = the lock file is gone, and with it the stage's folder.
    _lock: Option<File>,
}

/// Ends whatever is left of the attempt and waits, at most `patience`, until it is gone.
pub async fn fence(attempt: &SpawnedAttempt, patience: Duration) -> Result<Fenced, FenceError> {
    let begun = Instant::now();
    let same_boot = attempt.boot_id == boot_id()?;
    if same_boot {
        end_runner(attempt, begun, patience).await?;
        end_cgroup(attempt, begun, patience).await?;
    }
    let lock = match OpenOptions::new().write(true).open(&attempt.lock_file) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Fenced { _lock: None }),
        Err(error) => return Err(error.into()),
    };
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(Fenced { _lock: Some(lock) }),
            Err(TryLockError::Error(error)) => return Err(error.into()),
            Err(TryLockError::WouldBlock) if begun.elapsed() >= patience => {
                let lock_file = attempt.lock_file.clone();
                return Err(FenceError::Locked { lock_file, waited: patience });
            }
            Err(TryLockError::WouldBlock) => sleep(LOOK_AGAIN_AFTER).await,
        }
    }
}

async fn end_runner(
    attempt: &SpawnedAttempt,
    begun: Instant,
    patience: Duration,
) -> Result<(), FenceError> {
    let Some(handle) = open_exactly(attempt.pid, attempt.start_time)? else { return Ok(()) };
    let pid = i32::try_from(attempt.pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // The leader lives, so the group is its own.
        let _gone = kill_process_group(pid, Signal::KILL);
    }
    // Gone meanwhile: as good as killed.
    let _gone = pidfd_send_signal(&handle, Signal::KILL);
    while is_there(attempt) {
        if begun.elapsed() >= patience {
            return Err(FenceError::StillAlive { pid: attempt.pid, waited: patience });
        }
        sleep(LOOK_AGAIN_AFTER).await;
    }
    Ok(())
}

/// A zombie is over; its parent reaps it.
fn is_there(attempt: &SpawnedAttempt) -> bool {
    let found = i32::try_from(attempt.pid).ok().and_then(facts);
    found.is_some_and(|found| found.start_time == attempt.start_time && found.state != b'Z')
}

async fn end_cgroup(
    attempt: &SpawnedAttempt,
    begun: Instant,
    patience: Duration,
) -> Result<(), FenceError> {
    // Only folders that we name so: the record comes from a database.
    let ours = |dir: &&PathBuf| {
        dir.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with("imagefactory-"))
    };
    let dirs: Vec<PathBuf> = attempt.cgroup.iter().filter(ours).cloned().collect();
    let leaf = StageCgroup::recorded(&dirs);
    loop {
        leaf.kill();
        if leaf.is_empty() && leaf.remove() {
            return Ok(());
        }
        if begun.elapsed() >= patience {
            let cgroup = dirs.into_iter().next().unwrap_or_default();
            return Err(FenceError::CgroupInUse { cgroup, waited: patience });
        }
        sleep(LOOK_AGAIN_AFTER).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Child, Command, Stdio};

    const PATIENCE: Duration = Duration::from_secs(20);

    fn sleeper() -> Child {
        let mut command = Command::new("sleep");
        command.arg("600").stdin(Stdio::null()).process_group(0).spawn().unwrap()
    }

    fn record(child: &Child, lock_file: PathBuf) -> SpawnedAttempt {
        let start_time = facts(i32::try_from(child.id()).unwrap()).unwrap().start_time;
        let boot_id = boot_id().unwrap();
        SpawnedAttempt { pid: child.id(), start_time, boot_id, cgroup: Vec::new(), lock_file }
    }

    #[tokio::test]
    async fn the_recorded_process_is_killed_and_a_stranger_with_its_pid_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("lock");
        std::fs::write(&lock, "").unwrap();
        let mut child = sleeper();
        let truth = record(&child, lock.clone());
        for stranger in [
            SpawnedAttempt { start_time: truth.start_time + 1, ..truth.clone() },
            SpawnedAttempt { boot_id: "another boot".to_owned(), ..truth.clone() },
        ] {
            fence(&stranger, PATIENCE).await.unwrap();
            assert!(child.try_wait().unwrap().is_none(), "{stranger:?} killed a stranger");
        }
        fence(&truth, PATIENCE).await.unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[tokio::test]
    async fn a_lock_that_is_held_is_waited_for_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("lock");
        std::fs::write(&lock, "").unwrap();
        let mut child = sleeper();
        let attempt = record(&child, lock.clone());
        child.kill().unwrap();
        child.wait().unwrap();
        let holder = File::open(&lock).unwrap();
        holder.lock().unwrap();
        let held = fence(&attempt, Duration::from_millis(30)).await;
        assert!(matches!(held, Err(FenceError::Locked { .. })), "{held:?}");
        drop(holder);
        let fenced = fence(&attempt, PATIENCE).await.unwrap();
        assert!(File::open(&lock).unwrap().try_lock().is_err(), "the fence does not hold the lock");
        drop(fenced);
        std::fs::remove_file(&lock).unwrap();
        fence(&attempt, PATIENCE).await.unwrap();
    }
}
