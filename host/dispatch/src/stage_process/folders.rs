//! The folders of one attempt of a stage: made before it, removed after it, by the host.
//!
//! ```text
//! STORE/stages/STAGE_ID/        the host's; others may pass through, not list
//!   state/                      STATE_DIR: the stage's, survives attempts
//!   output-N/image              the attempt's OUTPUT_IMAGE (does not exist yet)
//!   artifacts-N/                the host's: what was handed over
//!   lock-N                      held by the runner while anything of the attempt lives
//! TMP/STAGE_ID-N/               WORK_DIR
//! ```
//!
//! What the stage may write belongs to the stage's ids and to nobody else. All functions block;
//! call them from `spawn_blocking`. Removal of what lies in the folders is `removal.rs`.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use imagefactory_model::frames::StageIdentity;
use uuid::Uuid;

use super::removal::{remove_tree, shift_owners};

/// A folder that could not be made or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}", path = path.display())]
pub struct FolderError {
    /// What was tried: "create", "remove", …
    pub action: &'static str,
    /// Where.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// Where everything of one attempt lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageFolders {
    /// The stage's folder in the store.
    pub stage_dir: PathBuf,
    /// WORK_DIR.
    pub work_dir: PathBuf,
    /// The folder around OUTPUT_IMAGE, on the store's file system.
    pub output_dir: PathBuf,
    /// STATE_DIR.
    pub state_dir: PathBuf,
    /// For `StageSpec::artifacts_dir`.
    pub artifacts_dir: PathBuf,
    /// For `StageSpec::lock_file`.
    pub lock_file: PathBuf,
}

impl StageFolders {
    /// Where the folders of an attempt lie; nothing is made.
    pub fn locate(store_dir: &Path, tmp_dir: &Path, stage_id: Uuid, attempt: u32) -> Self {
        let stage_dir = store_dir.join("stages").join(stage_id.to_string());
        StageFolders {
            work_dir: tmp_dir.join(format!("{stage_id}-{attempt}")),
            output_dir: stage_dir.join(format!("output-{attempt}")),
            state_dir: stage_dir.join("state"),
            artifacts_dir: stage_dir.join(format!("artifacts-{attempt}")),
            lock_file: stage_dir.join(format!("lock-{attempt}")),
            stage_dir,
        }
    }

    /// Makes them. With `identity` (the daemon is root) what the stage may write is given to it.
    /// Fails where a folder of this attempt exists already: an attempt's number is used once.
    pub fn create(
        store_dir: &Path,
        tmp_dir: &Path,
        stage_id: Uuid,
        attempt: u32,
        identity: Option<StageIdentity>,
    ) -> Result<Self, FolderError> {
        let folders = StageFolders::locate(store_dir, tmp_dir, stage_id, attempt);
        for dir in [store_dir.join("stages"), folders.stage_dir.clone(), tmp_dir.to_owned()] {
            make_passage(&dir)?;
        }
        for dir in [&folders.work_dir, &folders.output_dir] {
            DirBuilder::new().mode(0o700).create(dir).map_err(failed("create", dir))?;
            give(dir, identity)?;
        }
        let state_dir = &folders.state_dir;
        match DirBuilder::new().mode(0o700).create(state_dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                rehome(state_dir, identity)?;
            }
            made => made.map_err(failed("create", state_dir))?,
        }
        give(state_dir, identity)?;
        let artifacts_dir = &folders.artifacts_dir;
        let made = DirBuilder::new().mode(0o700).create(artifacts_dir);
        made.map_err(failed("create", artifacts_dir))?;
        let lock =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&folders.lock_file);
        lock.map_err(failed("create", &folders.lock_file))?;
        Ok(folders)
    }

    /// Removes what only this attempt needed: work and output folder, what is left of its
    /// artefacts, its lock. Call it when the attempt is over and what is wanted was moved away.
    /// Blocks.
    pub fn remove_attempt(&self) -> Result<(), FolderError> {
        for dir in [&self.work_dir, &self.output_dir, &self.artifacts_dir] {
            remove_tree(dir).map_err(failed("remove", dir))?;
        }
        match fs::remove_file(&self.lock_file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &self.lock_file)(error))
            }
            _ => Ok(()),
        }
    }

    /// Removes everything of the stage, the state of all attempts included. Blocks.
    pub fn remove_stage(&self) -> Result<(), FolderError> {
        self.remove_attempt()?;
        remove_tree(&self.stage_dir).map_err(failed("remove", &self.stage_dir))
    }

    /// OUTPUT_IMAGE of this attempt.
    pub fn output_image(&self) -> PathBuf {
        self.output_dir.join("image")
    }
}

/// A folder of the host that stages pass through to theirs: searchable, not listable.
fn make_passage(dir: &Path) -> Result<(), FolderError> {
    match fs::create_dir(dir) {
        Ok(()) => {
            let mode = Permissions::from_mode(0o711);
            fs::set_permissions(dir, mode).map_err(failed("set the mode of", dir))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("create", dir)(error)),
    }
}

fn give(dir: &Path, identity: Option<StageIdentity>) -> Result<(), FolderError> {
    match identity {
        Some(ids) => {
            chown(dir, Some(ids.uid), Some(ids.gid)).map_err(failed("change the owner of", dir))
        }
        None => Ok(()),
    }
}

/// Gives the state of an earlier attempt, which may have run in another slot, to this one's ids.
fn rehome(state_dir: &Path, identity: Option<StageIdentity>) -> Result<(), FolderError> {
    let Some(ids) = identity else { return Ok(()) };
    let before = fs::symlink_metadata(state_dir).map_err(failed("look at", state_dir))?.uid();
    if before == ids.uid {
        return Ok(());
    }
    let from = StageIdentity { uid: before, ..ids };
    shift_owners(state_dir, from, ids).map_err(failed("change the owner of", state_dir))
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FolderError + 'a {
    move |source| FolderError { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_has_folders_of_its_own_and_the_state_survives_it() {
        let dir = tempfile::tempdir().unwrap();
        let (store, tmp) = (dir.path().join("store"), dir.path().join("tmp"));
        fs::create_dir_all(&store).unwrap();
        let stage = Uuid::new_v4();
        let first = StageFolders::create(&store, &tmp, stage, 1, None).unwrap();
        assert!(StageFolders::create(&store, &tmp, stage, 1, None).is_err(), "attempt 1 twice");
        fs::write(first.state_dir.join("part"), "7").unwrap();
        fs::write(first.work_dir.join("scratch"), "").unwrap();
        first.remove_attempt().unwrap();
        assert!(!first.work_dir.exists() && !first.output_dir.exists());
        let second = StageFolders::create(&store, &tmp, stage, 2, None).unwrap();
        assert_ne!(first.output_image(), second.output_image());
        assert!(second.state_dir.join("part").exists());
        second.remove_stage().unwrap();
        assert!(!second.stage_dir.exists());
    }

    #[test]
    fn with_an_identity_a_stage_owns_what_it_may_write_in_every_attempt() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (store, tmp) = (dir.path().join("store"), dir.path().join("tmp"));
        fs::create_dir_all(&store).unwrap();
        let stage = Uuid::new_v4();
        let ids = |uid| StageIdentity { uid, gid: 990, count: 65536 };
        let first = StageFolders::create(&store, &tmp, stage, 1, Some(ids(1_000_000))).unwrap();
        fs::write(first.state_dir.join("part"), "7").unwrap();
        chown(first.state_dir.join("part"), Some(1_000_107), Some(1_000_108)).unwrap();
        let second = StageFolders::create(&store, &tmp, stage, 2, Some(ids(2_000_000))).unwrap();
        for dir in [&second.work_dir, &second.output_dir, &second.state_dir] {
            let facts = fs::metadata(dir).unwrap();
            assert_eq!((facts.uid(), facts.mode() & 0o777), (2_000_000, 0o700), "{dir:?}");
        }
        let part = fs::metadata(second.state_dir.join("part")).unwrap();
        assert_eq!((part.uid(), part.gid()), (2_000_107, 2_000_108), "another slot, the same user");
        assert_eq!(fs::metadata(&second.artifacts_dir).unwrap().uid(), 0);
    }
}
