//! The root tree out of a finished image: file by file with owners, modes, times, extended
//! attributes, hard links and holes, without a mount. `toolkit_disk::ext4` reads, this writes.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};
use imagefactory_toolkit_disk::ext4::{Entry, EntryKind, Ext4, Ext4Error};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

/// Read and written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Why an entry could not be taken out.
#[derive(Debug, thiserror::Error)]
enum ExtractionError {
    #[error(transparent)]
    Image(#[from] Ext4Error),
    #[error("{0} cannot be written: {1}")]
    Write(String, #[source] std::io::Error),
    #[error(transparent)]
    Stage(#[from] PluginError),
}

/// Writes the tree into `root`, which does not exist yet.
pub(crate) fn extract(host: &Host, ext4: &Ext4<'_>, root: &Path) -> Result<()> {
    let mut extraction =
        Extraction { host, ext4, root, folders: Vec::new(), linked: HashMap::new(), shown: 0 };
    let walked = ext4.walk(|entry| extraction.take(entry));
    let finished = walked.and_then(|()| extraction.finish_folders());
    finished.map_err(|error| match error {
        ExtractionError::Stage(error) => error,
        ExtractionError::Image(error) => PluginError::new(ErrorCode::Io, error.to_string()),
        write => PluginError::new(ErrorCode::Io, write.to_string()),
    })
}

struct Extraction<'a> {
    host: &'a Host,
    ext4: &'a Ext4<'a>,
    root: &'a Path,
    /// Their times change while they are filled, so they come last.
    folders: Vec<Entry>,
    /// The first name of files that have several.
    linked: HashMap<u32, PathBuf>,
    shown: u64,
}

impl Extraction<'_> {
    fn take(&mut self, entry: &Entry) -> std::result::Result<(), ExtractionError> {
        self.shown += 1;
        if self.shown.is_multiple_of(512) {
            let message = format!("Taking the system out of the image: {} files", self.shown);
            self.host.progress("extract", &message, 5, 100)?;
        }
        let place = self.root.join(&entry.path);
        let written = self.write(entry, &place);
        written.map_err(|error| match error {
            ExtractionError::Image(Ext4Error::Read(error)) => {
                ExtractionError::Write(entry.path.display().to_string(), error)
            }
            other => other,
        })
    }

    fn write(&mut self, entry: &Entry, place: &Path) -> std::result::Result<(), ExtractionError> {
        let failed = |error| ExtractionError::Write(entry.path.display().to_string(), error);
        if entry.kind != EntryKind::Folder && entry.links > 1 {
            if let Some(first) = self.linked.get(&entry.inode) {
                return fs::hard_link(first, place).map_err(failed);
            }
            self.linked.insert(entry.inode, place.to_owned());
        }
        match &entry.kind {
            EntryKind::Folder => {
                fs::create_dir(place).map_err(failed)?;
                self.folders.push(entry.clone());
                return Ok(());
            }
            EntryKind::File => self.write_content(entry, place)?,
            EntryKind::Symlink(target) => symlink(target, place).map_err(failed)?,
            EntryKind::Fifo => {
                let mode = rustix::fs::Mode::from_raw_mode(entry.mode);
                let kind = rustix::fs::FileType::Fifo;
                rustix::fs::mknodat(CWD, place, kind, mode, 0)
                    .map_err(|error| failed(error.into()))?;
            }
            EntryKind::CharacterDevice(..) | EntryKind::BlockDevice(..) | EntryKind::Socket => {
                // No user namespace may make devices; a running system has its own in /dev.
                let path = entry.path.display();
                self.host.warn(&format!("left out: /{path}, a device or socket"));
                return Ok(());
            }
        }
        set_metadata(entry, place).map_err(failed)
    }

    fn write_content(
        &self,
        entry: &Entry,
        place: &Path,
    ) -> std::result::Result<(), ExtractionError> {
        let failed = |error| ExtractionError::Write(entry.path.display().to_string(), error);
        let content = self.ext4.content(entry)?;
        let file = File::create_new(place).map_err(failed)?;
        file.set_len(content.bytes()).map_err(failed)?;
        let mut chunk = vec![0; CHUNK_BYTES.min(content.bytes() as usize)];
        for range in content.data_ranges() {
            let mut at = range.start;
            while at < range.end {
                let wanted = chunk.len().min((range.end - at) as usize);
                let read = content.read_at(&mut chunk[..wanted], at)?;
                file.write_all_at(&chunk[..read], at).map_err(failed)?;
                at += read as u64;
            }
        }
        Ok(())
    }

    /// Inner ones first.
    fn finish_folders(&self) -> std::result::Result<(), ExtractionError> {
        for entry in self.folders.iter().rev() {
            set_metadata(entry, &self.root.join(&entry.path))
                .map_err(|error| ExtractionError::Write(entry.path.display().to_string(), error))?;
        }
        Ok(())
    }
}

/// Owner first: it takes setuid and capabilities away.
fn set_metadata(entry: &Entry, place: &Path) -> std::io::Result<()> {
    lchown(place, Some(entry.uid), Some(entry.gid))?;
    let is_link = matches!(entry.kind, EntryKind::Symlink(_));
    if !is_link {
        fs::set_permissions(place, fs::Permissions::from_mode(entry.mode))?;
    }
    for (name, value) in &entry.attributes {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(place, name.as_str(), value, flags)?;
    }
    let modified = Timespec { tv_sec: entry.modified_s, tv_nsec: i64::from(entry.modified_ns) };
    let times = Timestamps { last_access: modified, last_modification: modified };
    rustix::fs::utimensat(CWD, place.as_os_str().as_bytes(), &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}
