//! The provider's folder, held open: every file in it is named relative to the descriptor.
//!
//! Neither the path of the folder nor a file in it may be a symbolic link, so nothing that is made,
//! read or removed here lies elsewhere. Whether the stage may write there at all is the sandbox's
//! and the file system's business; what they refuse is said with the way out.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use imagefactory_plugin_sdk::author::{ErrorCode, PluginError, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags, fstat, fstatvfs, linkat, openat,
    openat2, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

/// Images are there to be read by whoever starts them; nobody else changes them.
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);

/// An open folder.
pub(crate) struct ImageDirectory {
    descriptor: OwnedFd,
    path: PathBuf,
}

impl ImageDirectory {
    /// Opens it. [`ErrorCode::NotFound`]: it does not exist; it is never made, because its owner
    /// and mode are the operator's to choose.
    pub(crate) fn open(path: &Path) -> Result<ImageDirectory> {
        let opened = openat2(
            CWD,
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        );
        match opened {
            Ok(descriptor) => Ok(ImageDirectory { descriptor, path: path.to_owned() }),
            Err(error) => Err(not_opened(path, error)),
        }
    }

    /// The same; `None` = it does not exist.
    pub(crate) fn open_if_there(path: &Path) -> Result<Option<ImageDirectory>> {
        match ImageDirectory::open(path) {
            Ok(directory) => Ok(Some(directory)),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The folder's own path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where a file of it lies, for people and for results.
    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a new file for reading and writing.
    pub(crate) fn create(&self, name: &str) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let made = openat(&self.descriptor, name, flags, FILE_MODE);
        made.map(File::from).map_err(|error| self.refused("create", name, error.into()))
    }

    /// Has anything that name, a symbolic link to nowhere included?
    pub(crate) fn has(&self, name: &str) -> Result<bool> {
        match statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(self.refused("look at", name, error.into())),
        }
    }

    /// Opens a regular file that is there; `None` = it is not. A link is refused.
    pub(crate) fn open_file(&self, name: &str, write: bool) -> Result<Option<File>> {
        let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
        // Not waiting for the other end, if it should be a pipe.
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.descriptor, name, flags, Mode::empty()) {
            Ok(descriptor) => File::from(descriptor),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(self.not_a_file(name)),
            Err(error) => return Err(self.refused("open", name, error.into())),
        };
        let facts = file.metadata().map_err(|error| self.refused("look at", name, error))?;
        if !facts.is_file() {
            return Err(self.not_a_file(name));
        }
        Ok(Some(file))
    }

    /// The text of a file, at most so many bytes; `None` = it is not there.
    pub(crate) fn read(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open_file(name, false)? else { return Ok(None) };
        let mut text = Vec::new();
        let read = file.take(bytes_max).read_to_end(&mut text);
        read.map_err(|error| self.refused("read", name, error))?;
        Ok(Some(text))
    }

    /// Writes a new file with this content, durable when it returns.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let mut file = self.create(name)?;
        let written = file.write_all(content).and_then(|()| file.sync_all());
        written.map_err(|error| self.refused("write", name, error))
    }

    /// Gives a file its final name unless something has it: then [`ErrorCode::AlreadyExists`].
    pub(crate) fn publish(&self, from: &str, to: &str) -> Result<()> {
        let here = &self.descriptor;
        let renamed = match renameat_with(here, from, here, to, RenameFlags::NOREPLACE) {
            // Network file systems cannot; there a second name is as good.
            Err(Errno::INVAL | Errno::NOSYS) => linkat(here, from, here, to, AtFlags::empty())
                .and_then(|()| unlinkat(here, from, AtFlags::empty())),
            renamed => renamed,
        };
        renamed.map_err(|error| self.refused("create", to, error.into()))
    }

    /// Gives a file the name of one that is ours and goes.
    pub(crate) fn replace(&self, from: &str, to: &str) -> Result<()> {
        let renamed = renameat(&self.descriptor, from, &self.descriptor, to);
        renamed.map_err(|error| self.refused("replace", to, error.into()))
    }

    /// Removes a file; one that is gone is removed.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        match unlinkat(&self.descriptor, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.refused("remove", name, error.into())),
        }
    }

    /// Makes names durable that were given or taken.
    pub(crate) fn sync(&self) -> Result<()> {
        match rustix::fs::fsync(&self.descriptor) {
            // Some network and fuse file systems sync no folders.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(error) => Err(self.refused("sync", "", error.into())),
        }
    }

    /// Bytes that may still be written, by those who are not root.
    pub(crate) fn free_bytes(&self) -> Result<u64> {
        let facts = fstatvfs(&self.descriptor);
        let facts = facts.map_err(|error| self.refused("look at", "", error.into()))?;
        Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
    }

    /// The file system that it lies on.
    pub(crate) fn device(&self) -> Result<u64> {
        let facts = fstat(&self.descriptor);
        facts.map(|facts| facts.st_dev).map_err(|error| self.refused("look at", "", error.into()))
    }

    /// The folder as a program's standard input: `/proc/self/fd/0/NAME` is a file of it, whatever
    /// becomes of the path meanwhile.
    pub(crate) fn as_stdin(&self) -> Result<Stdio> {
        let descriptor = self.descriptor.try_clone();
        descriptor.map(Stdio::from).map_err(|error| self.refused("hand over", "", error))
    }

    fn not_a_file(&self, name: &str) -> PluginError {
        let message = format!("{} is a link or no regular file", self.path_of(name).display());
        PluginError::new(ErrorCode::AlreadyExists, message)
            .by_user()
            .hint("give the image another name")
    }

    /// Says what failed, with the way out where there is one.
    pub(crate) fn refused(&self, what: &str, name: &str, error: io::Error) -> PluginError {
        let path = self.path_of(name);
        let errno = Errno::from_io_error(&error);
        let said = PluginError::from(error);
        let said = said.while_doing(format!("cannot {what} {}", path.display()));
        match errno {
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => said.hint(way_in(&self.path)),
            Some(Errno::NOSPC | Errno::DQUOT) => said.hint(self.room()),
            Some(Errno::EXIST) => said.by_user().hint("give the image another name"),
            _ => said,
        }
    }

    /// What to do about a full disk.
    pub(crate) fn room(&self) -> String {
        let free = self.free_bytes().map_or_else(|_| "no".to_owned(), |free| free.to_string());
        format!("{} has {free} bytes free; make room or choose another folder", self.path.display())
    }
}

fn not_opened(path: &Path, error: Errno) -> PluginError {
    let shown = path.display();
    let said = PluginError::from(io::Error::from(error))
        .while_doing(format!("the provider's folder {shown} cannot be opened"));
    match error {
        Errno::NOENT => PluginError::new(
            ErrorCode::NotFound,
            format!("the provider's folder {shown} does not exist"),
        )
        .by_user()
        .hint(format!("the operator makes it: mkdir -p {shown}; and {}", way_in(path))),
        Errno::LOOP | Errno::NOTDIR => {
            let real = std::fs::canonicalize(path);
            let real = real.map_or_else(|_| "nowhere".to_owned(), |it| it.display().to_string());
            PluginError::user_fault(format!("{shown} is no folder, or a symbolic link leads to it"))
                .hint(format!("name the folder itself; the path leads to {real}"))
        }
        Errno::ACCESS | Errno::PERM => said.hint(way_in(path)),
        _ => said,
    }
}

/// How the operator lets stages write.
fn way_in(path: &Path) -> String {
    format!(
        "the configuration grants it with \"plugin_folders\": {{\"LocalCloud\": [{path:?}]}}, and \
         the group that stages run in must be able to write there"
    )
}
