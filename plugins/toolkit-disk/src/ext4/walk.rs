//! The tree: each entry with its metadata, folders before what is in them.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::attributes::attributes;
use super::content::Content;
use super::directory::names;
use super::inode::{Inode, ROOT_INODE};
use super::{Ext4, Ext4Error, damaged};

/// Linux's own limit of a symlink's target, PATH_MAX.
const TARGET_BYTES_MAX: u64 = 4096;

/// Where `e2fsck` puts what it found; a folder of the file system and not of the system on it.
const LOST_AND_FOUND: &[u8] = b"lost+found";

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file; entries with the same inode are hard links of each other.
    File,
    /// A folder.
    Folder,
    /// A symlink to this.
    Symlink(PathBuf),
    /// A character device, by major and minor number.
    CharacterDevice(u32, u32),
    /// A block device, by major and minor number.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// One name in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// From the root folder, without a slash in front; empty: the root folder itself.
    pub path: PathBuf,
    /// What it is.
    pub kind: EntryKind,
    /// The same number is the same file.
    pub inode: u32,
    /// Permissions with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// How many names it has.
    pub links: u32,
    /// Size of a regular file.
    pub bytes: u64,
    /// When it was modified: seconds since 1970.
    pub modified_s: i64,
    /// And nanoseconds.
    pub modified_ns: u32,
    /// Extended attributes as the system calls show them, by name.
    pub attributes: Vec<(String, Vec<u8>)>,
}

pub(super) fn walk<E: From<Ext4Error>>(
    ext4: &Ext4<'_>,
    mut visit: impl FnMut(&Entry) -> Result<(), E>,
) -> Result<(), E> {
    let mut folders_seen = HashSet::from([ROOT_INODE]);
    let mut shown = 0u64;
    let root = ext4.inode(ROOT_INODE)?;
    visit(&entry(ext4, PathBuf::new(), &root)?)?;
    // Not recursive: the depth is the image's.
    let mut left = vec![(PathBuf::new(), names(ext4, &root)?.into_iter())];
    while let Some((folder, entries)) = left.last_mut() {
        let Some((name, number)) = entries.next() else {
            left.pop();
            continue;
        };
        if folder.as_os_str().is_empty() && name == LOST_AND_FOUND {
            continue;
        }
        shown += 1;
        if shown > 16 * u64::from(ext4.facts().inodes) {
            return Err(damaged("it has more names than can be").into());
        }
        let path = folder.join(OsString::from_vec(name));
        let inode = ext4.inode(number)?;
        let entry = entry(ext4, path.clone(), &inode)?;
        visit(&entry)?;
        if entry.kind == EntryKind::Folder {
            if !folders_seen.insert(number) {
                let what = format!("the folder {} has two places", path.display());
                return Err(damaged(what).into());
            }
            let below = names(ext4, &inode)?;
            left.push((path, below.into_iter()));
        }
    }
    Ok(())
}

fn entry(ext4: &Ext4<'_>, path: PathBuf, inode: &Inode) -> Result<Entry, Ext4Error> {
    let kind = kind(ext4, inode)?;
    Ok(Entry {
        path,
        inode: inode.number,
        mode: u32::from(inode.mode & 0o7777),
        uid: inode.uid,
        gid: inode.gid,
        links: u32::from(inode.links),
        bytes: if kind == EntryKind::File { inode.bytes } else { 0 },
        modified_s: inode.modified_s,
        modified_ns: inode.modified_ns,
        attributes: attributes(ext4, inode)?,
        kind,
    })
}

fn kind(ext4: &Ext4<'_>, inode: &Inode) -> Result<EntryKind, Ext4Error> {
    let (major, minor) = inode.device();
    Ok(match inode.kind_bits() {
        0x8000 => EntryKind::File,
        0x4000 => EntryKind::Folder,
        0xa000 => EntryKind::Symlink(target(ext4, inode)?),
        0x2000 => EntryKind::CharacterDevice(major, minor),
        0x6000 => EntryKind::BlockDevice(major, minor),
        0x1000 => EntryKind::Fifo,
        0xc000 => EntryKind::Socket,
        other => return Err(damaged(format!("inode {} is of kind {other:#x}", inode.number))),
    })
}

fn target(ext4: &Ext4<'_>, inode: &Inode) -> Result<PathBuf, Ext4Error> {
    let bytes = match inode.short_target() {
        Some(target) => target.to_vec(),
        None if inode.bytes > TARGET_BYTES_MAX => {
            return Err(damaged(format!("the symlink with inode {} is too long", inode.number)));
        }
        None => Content::of(ext4, inode)?.whole()?,
    };
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}
