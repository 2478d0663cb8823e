//! Times of files in a tree: what changed since a moment, and no time later than the image's own.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use imagefactory_plugin_sdk::author::Result;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use crate::plan::EPOCH_S;

/// The kernel counts the times of files in ticks (at most 10 ms): what happens in the tick of a
/// moment is told from what came before only after it has passed.
const TICK: Duration = Duration::from_millis(20);

/// A moment as the file system saw it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    changed: (i64, i64),
}

impl Moment {
    /// Now, by the clock of the file system that has this folder.
    pub(crate) fn now(folder: &Path) -> Result<Moment> {
        let path = folder.join("moment");
        File::create(&path)?;
        let changed = changed(&fs::metadata(&path)?);
        fs::remove_file(&path)?;
        std::thread::sleep(TICK);
        Ok(Moment { changed })
    }

    /// Something below these folders of the tree that changed afterwards: in content, in metadata,
    /// or because it is new; and folders from which something was removed.
    pub(crate) fn first_change(&self, root: &Path, inside: &[&str]) -> Result<Option<PathBuf>> {
        let mut left: Vec<PathBuf> = inside.iter().map(|path| root.join(path)).collect();
        while let Some(path) = left.pop() {
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            // There the build itself puts something in and takes it away again (tree.rs).
            let visited = path == root.join("usr/sbin");
            if changed(&metadata) > self.changed && !visited {
                return Ok(Some(path));
            }
            if metadata.is_dir() {
                for entry in fs::read_dir(&path)? {
                    left.push(entry?.path());
                }
            }
        }
        Ok(None)
    }
}

fn changed(metadata: &Metadata) -> (i64, i64) {
    (metadata.ctime(), metadata.ctime_nsec())
}

/// Sets all times that are later than the image's to it.
pub(crate) fn clamp(root: &Path) -> Result<()> {
    let mut left = vec![root.to_owned()];
    let mut folders = Vec::new();
    while let Some(path) = left.pop() {
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.is_dir() {
            for entry in fs::read_dir(&path)? {
                left.push(entry?.path());
            }
            folders.push((path, metadata));
        } else {
            clamp_one(&path, &metadata)?;
        }
    }
    folders.iter().try_for_each(|(path, metadata)| clamp_one(path, metadata))
}

fn clamp_one(path: &Path, metadata: &Metadata) -> Result<()> {
    let modified = (metadata.mtime(), metadata.mtime_nsec());
    let epoch = EPOCH_S.cast_signed();
    if modified <= (epoch, 0) {
        return Ok(());
    }
    let time = Timespec { tv_sec: epoch, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| std::io::Error::from(error).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_since_a_moment_is_found_below_the_folders_that_count() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        for path in ["usr/lib", "etc"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        fs::write(root.join("usr/lib/old"), "").unwrap();
        fs::write(root.join("usr/lib/kept"), "").unwrap();
        let since = Moment::now(folder.path()).unwrap();
        let found = || since.first_change(&root, &["usr/lib", "missing"]).unwrap();
        fs::write(root.join("etc/motd"), "").unwrap();
        assert_eq!(found(), None);
        let since = Moment::now(folder.path()).unwrap();
        fs::remove_file(root.join("usr/lib/old")).unwrap();
        assert_eq!(since.first_change(&root, &["usr"]).unwrap(), Some(root.join("usr/lib")));
        let since = Moment::now(folder.path()).unwrap();
        fs::File::options()
            .append(true)
            .open(root.join("usr/lib/kept"))
            .and_then(|mut file| std::io::Write::write_all(&mut file, b"x"))
            .unwrap();
        let changed = since.first_change(&root, &["usr"]).unwrap();
        assert_eq!(changed, Some(root.join("usr/lib/kept")));
    }

    #[test]
    fn later_times_become_the_images_and_earlier_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        clamp(folder.path()).unwrap();
        for path in [folder.path(), &path] {
            assert_eq!(fs::metadata(path).unwrap().mtime(), EPOCH_S.cast_signed());
        }
        let early = std::time::UNIX_EPOCH + Duration::from_secs(7);
        File::options().write(true).open(&path).unwrap().set_modified(early).unwrap();
        clamp(folder.path()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mtime(), 7);
    }
}
