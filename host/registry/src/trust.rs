//! Whose files are believed: root's and, where configured, one more user's.
//!
//! Whoever can change a manifest, a library or a folder above them decides what runs on this
//! machine. So each must belong to a trusted user and be writable by nobody else. The stage runner
//! checks the library again on the descriptor that it loads; here the point is to say early, with
//! the exact path and the command that mends it, why a plugin will not do.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::reason::Reason;

const GROUP_OR_WORLD_WRITABLE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Root and at most one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trust {
    /// The one more.
    pub uid: Option<u32>,
}

impl Trust {
    fn includes(self, uid: u32) -> bool {
        uid == 0 || Some(uid) == self.uid
    }

    /// Checks a file that was just looked at.
    pub(crate) fn check_file(self, path: &Path, file: &fs::Metadata) -> Result<(), Reason> {
        self.check_owner(path, file)?;
        self.check_mode(path, file)
    }

    /// Checks a folder and every folder above it, along the name as given and along the real one.
    pub(crate) fn check_folder(self, folder: &Path) -> Result<(), Reason> {
        let real = fs::canonicalize(folder).map_err(|error| {
            Reason::new(format!("the folder cannot be entered: {error}")).at(folder)
        })?;
        let mut chain: BTreeSet<PathBuf> = BTreeSet::new();
        chain.extend(folder.ancestors().filter(|path| path.is_absolute()).map(PathBuf::from));
        chain.extend(real.ancestors().map(PathBuf::from));
        for path in &chain {
            self.check_link_of_chain(path, *path == real)?;
        }
        Ok(())
    }

    fn check_link_of_chain(self, path: &Path, is_the_folder: bool) -> Result<(), Reason> {
        let found = fs::symlink_metadata(path)
            .map_err(|error| Reason::new(format!("cannot be looked at: {error}")).at(path))?;
        self.check_owner(path, &found)?;
        // A symbolic link has no mode; what it leads to is in the chain of the real name. In a
        // sticky folder (/tmp) nobody can replace what belongs to another, so above it will do.
        let sticky = found.mode() & STICKY != 0 && !is_the_folder;
        if found.is_symlink() || sticky {
            return Ok(());
        }
        self.check_mode(path, &found)
    }

    fn check_owner(self, path: &Path, found: &fs::Metadata) -> Result<(), Reason> {
        if self.includes(found.uid()) {
            return Ok(());
        }
        let believed = match self.uid {
            Some(uid) if uid != 0 => format!("root or user {uid}"),
            _ => "root".to_owned(),
        };
        Err(Reason::new(format!(
            "{} belongs to user {}, and only files of {believed} are believed",
            last_name(path),
            found.uid()
        ))
        .at(path)
        .hint(format!("chown root {}", path.display())))
    }

    fn check_mode(self, path: &Path, found: &fs::Metadata) -> Result<(), Reason> {
        if found.mode() & GROUP_OR_WORLD_WRITABLE == 0 {
            return Ok(());
        }
        Err(Reason::new(format!(
            "{} has mode {:04o}, so others than its owner can change it",
            last_name(path),
            found.mode() & 0o7777
        ))
        .at(path)
        .hint(format!("chmod go-w {}", path.display())))
    }
}

/// The last part of a path, for sentences that must not tell where it lies.
pub(crate) fn last_name(path: &Path) -> String {
    match path.file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => "the root folder".to_owned(),
    }
}
