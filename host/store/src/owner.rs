//! Which process works here: one lock file a process, and one for the daemon.
//!
//! A process (daemon or command line) holds `owners/<uuid>.lock` for as long as it lives; the
//! kernel lets go of it however the process dies. Orders name their owner, so recovery can tell an
//! order that somebody works on from one that a crash left. Only one daemon may work on a store.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use uuid::Uuid;

use crate::StoreError;
use crate::layout::StoreLayout;

/// A process that works on a store. Dropping it gives its locks back.
#[derive(Debug)]
pub struct Owner {
    id: Uuid,
    path: PathBuf,
    _lock: File,
    daemon_lock: Option<File>,
}

impl Owner {
    /// For a daemon: refused while another daemon works here.
    pub fn daemon(layout: &StoreLayout) -> Result<Owner, StoreError> {
        let path = layout.root().join("daemon.lock");
        let lock = lock_file(&path)?;
        if !try_lock(&lock, &path)? {
            return Err(StoreError::InUse { dir: layout.root().to_owned() });
        }
        let mut owner = Owner::process(layout)?;
        owner.daemon_lock = Some(lock);
        Ok(owner)
    }

    /// For a command line: works beside a daemon and beside others.
    pub fn process(layout: &StoreLayout) -> Result<Owner, StoreError> {
        loop {
            let id = Uuid::new_v4();
            let path = lock_path(layout, id);
            // Locked before it has its name: `living` must not take it for a dead one's.
            let unnamed = layout.owners().join(format!(".{id}"));
            let lock = lock_file(&unnamed)?;
            // Between the two lines above `living` may take it for one that was never named, and
            // sweep it: then once more, with a name that no sweeper has seen.
            if !try_lock(&lock, &unnamed)? || is_unlinked(&lock, &unnamed)? {
                continue;
            }
            std::fs::rename(&unnamed, &path)
                .map_err(|cause| StoreError::file("rename to", &path, cause))?;
            return Ok(Owner { id, path, _lock: lock, daemon_lock: None });
        }
    }

    /// Its name in the records.
    pub fn id(&self) -> Uuid {
        self.id
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // A leftover is harmless: its lock is free, and `living` sweeps it.
        std::fs::remove_file(&self.path).ok();
    }
}

fn is_unlinked(file: &File, path: &Path) -> Result<bool, StoreError> {
    let metadata = file.metadata().map_err(|cause| StoreError::file("look at", path, cause))?;
    Ok(metadata.nlink() == 0)
}

/// The owners that live, this process included; lock files of dead ones are removed.
pub fn living(layout: &StoreLayout) -> Result<Vec<Uuid>, StoreError> {
    let folder = layout.owners();
    let failed = |cause| StoreError::file("list", &folder, cause);
    let mut living = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // `<uuid>.lock`, or `.<uuid>` of a process that died before it had its name.
        let id = match name.strip_prefix('.') {
            Some(unnamed) => Uuid::parse_str(unnamed).map(|_| None),
            None => Uuid::parse_str(name.strip_suffix(".lock").unwrap_or_default()).map(Some),
        };
        let Ok(id) = id else { continue };
        let lock = match OpenOptions::new().read(true).open(&path) {
            Ok(lock) => lock,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => continue,
            Err(cause) => return Err(StoreError::file("read", &path, cause)),
        };
        if try_lock(&lock, &path)? {
            // Nobody holds it; another sweeper may have been faster.
            std::fs::remove_file(&path).ok();
        } else {
            living.extend(id);
        }
    }
    Ok(living)
}

fn lock_path(layout: &StoreLayout, id: Uuid) -> PathBuf {
    layout.owners().join(format!("{id}.lock"))
}

fn lock_file(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|cause| StoreError::file("lock", path, cause))
}

fn try_lock(lock: &File, path: &Path) -> Result<bool, StoreError> {
    match flock(lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(cause) => Err(StoreError::file("lock", path, cause)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_and_a_command_line_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let layout = StoreLayout::create(folder.path()).unwrap();
        let daemon = Owner::daemon(&layout).unwrap();
        let refused = Owner::daemon(&layout).unwrap_err();
        assert!(refused.to_string().contains("another imagefactoryd"), "{refused}");
        let command_line = Owner::process(&layout).unwrap();
        let mut expected = vec![daemon.id(), command_line.id()];
        let mut found = living(&layout).unwrap();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        drop(daemon);
        Owner::daemon(&layout).unwrap();
    }

    #[test]
    fn the_dead_are_not_among_the_living() {
        let folder = tempfile::tempdir().unwrap();
        let layout = StoreLayout::create(folder.path()).unwrap();
        let dead = lock_path(&layout, Uuid::new_v4());
        let unnamed = layout.owners().join(format!(".{}", Uuid::new_v4()));
        for path in [&dead, &unnamed] {
            std::fs::write(path, "").unwrap();
        }
        assert!(living(&layout).unwrap().is_empty());
        assert!(!dead.exists() && !unnamed.exists());
    }

    #[test]
    fn a_process_gets_its_lock_while_others_sweep() {
        let folder = tempfile::tempdir().unwrap();
        let layout = StoreLayout::create(folder.path()).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    living(&layout).unwrap();
                }
            });
            for _ in 0..2000 {
                let owner = Owner::process(&layout).unwrap();
                assert!(living(&layout).unwrap().contains(&owner.id()));
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
