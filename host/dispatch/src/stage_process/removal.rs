//! Removes a folder with all that a stage left in it, or gives it to other ids.
//!
//! The content is hostile: folders without permissions, trees deeper than any path may be long,
//! links that lead elsewhere, mounts. So it works by descriptor, follows no link, never enters a
//! mount, and holds at most [`DEPTH_MAX`] folders open: what lies deeper is moved up first. Runs
//! when nothing of the stage lives any more. Files of mapped ids (`os-userns` under an ordinary
//! daemon) cannot be removed by the daemon; those go in a user namespace that maps the same ids.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use imagefactory_model::frames::StageIdentity;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chmod, chownat, openat,
    openat2, renameat, statat, unlinkat,
};
use rustix::io::Errno;

/// Folders open at once; far below the 1024 descriptors that a daemon may have.
const DEPTH_MAX: usize = 32;

/// Rounds over one folder. Some file systems skip entries while others are removed; each round sees
/// what the one before left.
const ROUNDS_MAX: usize = 1000;

/// Removes the folder and everything in it. A folder that is not there is fine. The first error is
/// told, after everything else was removed. Blocks.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match remove_as_ourselves(path) {
        Err(error) if is_denied(&error) && !rustix::process::geteuid().is_root() => {
            remove_as_mapped(path)
        }
        removed => removed,
    }
}

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

fn remove_as_ourselves(path: &Path) -> io::Result<()> {
    let root = match open_folder(CWD, path, ResolveFlags::empty()) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut sweep = Sweep { root: root.as_fd(), moved_up: 0, first_error: None };
    for _ in 0..ROUNDS_MAX {
        let moved_up = sweep.moved_up;
        sweep.first_error = None;
        sweep.empty(root.as_fd(), 0)?;
        if sweep.moved_up == moved_up {
            break;
        }
    }
    match sweep.first_error {
        Some(error) => Err(error.into()),
        None => Ok(unlinkat(CWD, path, AtFlags::REMOVEDIR)?),
    }
}

struct Sweep<'a> {
    root: BorrowedFd<'a>,
    moved_up: u64,
    first_error: Option<Errno>,
}

impl Sweep<'_> {
    /// Removes what is in the folder; what cannot be removed is remembered and stays.
    fn empty(&mut self, folder: BorrowedFd<'_>, depth: usize) -> Result<(), Errno> {
        for _ in 0..ROUNDS_MAX {
            let mut removed = 0;
            for entry in Dir::read_from(folder)? {
                let entry = entry?;
                let name = entry.file_name();
                if name == c"." || name == c".." {
                    continue;
                }
                match self.remove(folder, name, entry.file_type(), depth) {
                    Ok(()) => removed += 1,
                    Err(error) => {
                        self.first_error.get_or_insert(error);
                    }
                }
            }
            if removed == 0 {
                break;
            }
        }
        Ok(())
    }

    fn remove(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        kind: FileType,
        depth: usize,
    ) -> Result<(), Errno> {
        if kind != FileType::Directory {
            match unlinkat(parent, name, AtFlags::empty()) {
                // A file system that does not tell the kind.
                Err(Errno::ISDIR | Errno::PERM) if kind == FileType::Unknown => {}
                removed => return removed,
            }
        }
        let folder = open_folder(parent, name, ResolveFlags::NO_XDEV)?;
        if depth + 1 >= DEPTH_MAX {
            self.moved_up += 1;
            let above = format!(".moved-up-{}", self.moved_up);
            return renameat(parent, name, self.root, above);
        }
        self.empty(folder.as_fd(), depth + 1)?;
        unlinkat(parent, name, AtFlags::REMOVEDIR)
    }
}

/// Opens a folder that is no link, and no mount where `resolve` says so, and makes it writable for
/// its owner.
fn open_folder(
    parent: impl AsFd,
    name: impl rustix::path::Arg,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = openat2(parent, name, flags, Mode::empty(), resolve)?;
    // By descriptor, since chmod follows links. Not ours: then what follows says so.
    let _not_ours = chmod(format!("/proc/self/fd/{}", found.as_raw_fd()), Mode::RWXU);
    openat(&found, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Changes the owners below a folder from one slot's ids to another's, number for number; ids of
/// nobody's slot become the new first id. Set-uid bits and capabilities of files go with it, as
/// with every chown. Follows no link, enters no mount; a tree deeper than [`STATE_DEPTH_MAX`] is
/// refused.
pub(super) fn shift_owners(path: &Path, from: StageIdentity, to: StageIdentity) -> io::Result<()> {
    let root = open_folder(CWD, path, ResolveFlags::empty())?;
    Ok(shift_below(root.as_fd(), (from, to), 0)?)
}

/// What a plugin keeps between attempts is flat; a hostile tree must not use up our descriptors.
const STATE_DEPTH_MAX: usize = 64;

fn shift_below(
    folder: BorrowedFd<'_>,
    slots: (StageIdentity, StageIdentity),
    depth: usize,
) -> Result<(), Errno> {
    if depth > STATE_DEPTH_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let facts = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(facts.st_mode) == FileType::Directory {
            let inner = open_folder(folder, name, ResolveFlags::NO_XDEV)?;
            shift_below(inner.as_fd(), slots, depth + 1)?;
        }
        let uid = Uid::from_raw(shifted(facts.st_uid, slots));
        let gid = Gid::from_raw(shifted(facts.st_gid, slots));
        chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

fn shifted(id: u32, (from, to): (StageIdentity, StageIdentity)) -> u32 {
    match id.checked_sub(from.uid) {
        Some(place) if place < from.count => to.uid + place.min(to.count.saturating_sub(1)),
        _ if id == from.gid => to.gid,
        _ => to.uid,
    }
}

/// Removes in a user namespace in which our subordinate ids are mapped.
fn remove_as_mapped(path: &Path) -> io::Result<()> {
    let output = Command::new("/usr/bin/unshare")
        .args(["--user", "--map-root-user", "--map-auto", "--"])
        .args(["/bin/rm", "-rf", "--one-file-system", "--preserve-root=all", "--"])
        .arg(path)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "files of mapped ids cannot be removed ({}); needs util-linux 2.38, newuidmap and lines \
             for this user in /etc/subuid and /etc/subgid, or: sudo rm -rf {}",
            super::stage_log::visible(super::stage_log::cut(&said, 300)),
            path.display()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    fn tree() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        (dir, tree)
    }

    #[test]
    fn folders_without_permissions_links_and_many_files_go_and_nothing_else() {
        let (dir, tree) = tree();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        symlink(&outside, tree.join("link")).unwrap();
        fs::create_dir_all(tree.join("locked/inner")).unwrap();
        fs::write(tree.join("locked/inner/file"), "").unwrap();
        for number in 0..2000 {
            fs::write(tree.join(format!("file-{number}")), "").unwrap();
        }
        for locked in ["locked/inner", "locked"] {
            fs::set_permissions(tree.join(locked), fs::Permissions::from_mode(0o000)).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && outside.join("kept").exists());
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn a_tree_deeper_than_any_path_may_be_long_goes() {
        let (_dir, tree) = tree();
        let mut deepest = OwnedFd::from(fs::File::open(&tree).unwrap());
        for _ in 0..3000 {
            rustix::fs::mkdirat(&deepest, "deeper", Mode::RWXU).unwrap();
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            deepest = openat(&deepest, "deeper", flags, Mode::empty()).unwrap();
        }
        drop(deepest);
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn a_mount_in_the_tree_is_not_entered() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (dir, tree) = tree();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        let point = tree.join("point");
        fs::create_dir(&point).unwrap();
        let run = |program: &str, arguments: &[&Path]| {
            Command::new(program).args(arguments).status().unwrap().success()
        };
        assert!(run("mount", &[Path::new("--bind"), &outside, &point]));
        let removed = remove_tree(&tree);
        assert!(run("umount", &[&point]));
        assert!(removed.is_err() && outside.join("kept").exists());
        remove_tree(&tree).unwrap();
    }
}
