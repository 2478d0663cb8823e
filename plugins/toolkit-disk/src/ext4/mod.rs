//! Reads an ext4 file system out of an image file: no mount, no root, nothing written.
//!
//! Whoever customises a finished image or turns it into a container needs what `debugfs rdump`
//! loses: owners, extended attributes, hard links, device nodes, holes. [`Ext4::open`] finds the
//! file system, [`Ext4::walk`] shows each entry with its metadata, [`Ext4::content`] reads a file.
//! The image is whoever's who made it: every number is doubted, no loop can be endless, and what
//! this reader does not understand (a journal to be replayed, encryption) is refused by name.
//!
//! Offsets are those of the kernel's documentation, `Documentation/filesystems/ext4/`.

mod attributes;
mod content;
mod directory;
mod extents;
mod inode;
mod superblock;
mod walk;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

pub use self::content::Content;
pub use self::superblock::Ext4Facts;
pub use self::walk::{Entry, EntryKind};

use self::inode::Inode;

/// Why a file system cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Ext4Error {
    /// Reading failed.
    #[error("the image cannot be read")]
    Read(#[from] io::Error),
    /// There is something else.
    #[error("there is no ext4 file system at byte {0} of the image")]
    NotExt4(u64),
    /// Valid, but not for us.
    #[error("the ext4 file system {0}")]
    Unsupported(String),
    /// It contradicts itself.
    #[error("the ext4 file system is damaged: {0}")]
    Damaged(String),
}

fn damaged(what: impl Into<String>) -> Ext4Error {
    Ext4Error::Damaged(what.into())
}

/// An ext4 file system in a file.
#[derive(Debug)]
pub struct Ext4<'f> {
    file: &'f File,
    offset: u64,
    facts: Ext4Facts,
    /// First block of each group's inode table.
    inode_tables: Vec<u64>,
}

impl<'f> Ext4<'f> {
    /// Opens the file system that begins at this byte of the file.
    pub fn open(file: &'f File, offset_bytes: u64) -> Result<Ext4<'f>, Ext4Error> {
        let facts = superblock::read(file, offset_bytes)?;
        let mut ext4 = Ext4 { file, offset: offset_bytes, facts, inode_tables: Vec::new() };
        ext4.inode_tables = superblock::inode_tables(&ext4)?;
        Ok(ext4)
    }

    /// What its superblock says.
    pub fn facts(&self) -> &Ext4Facts {
        &self.facts
    }

    /// Calls `visit` with each entry below the root folder, and the root itself (with an empty
    /// path) first: folders before what is in them, names of a folder in their order on disk.
    pub fn walk<E: From<Ext4Error>>(
        &self,
        visit: impl FnMut(&Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        walk::walk(self, visit)
    }

    /// The content of a regular file that [`Ext4::walk`] showed.
    pub fn content(&self, entry: &Entry) -> Result<Content<'_>, Ext4Error> {
        Content::of(self, &self.inode(entry.inode)?)
    }

    fn inode(&self, number: u32) -> Result<Inode, Ext4Error> {
        Inode::read(self, number)
    }

    fn block_bytes(&self) -> u64 {
        u64::from(self.facts.block_bytes)
    }

    /// One block of the file system.
    fn block(&self, number: u64) -> Result<Vec<u8>, Ext4Error> {
        let mut block = vec![0; self.facts.block_bytes as usize];
        self.read_blocks(&mut block, number, 0)?;
        Ok(block)
    }

    /// Bytes from a place in a block on; they must lie inside the file system.
    fn read_blocks(&self, buffer: &mut [u8], block: u64, skip: u64) -> Result<(), Ext4Error> {
        let start = block.checked_mul(self.block_bytes()).and_then(|at| at.checked_add(skip));
        let end = start.and_then(|at| at.checked_add(buffer.len() as u64));
        match (start, end) {
            (Some(start), Some(end)) if end <= self.facts.bytes => {
                let at = self.offset + start;
                self.file.read_exact_at(buffer, at).map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => damaged("the image is cut off"),
                    _ => Ext4Error::Read(error),
                })
            }
            _ => Err(damaged(format!("block {block} lies outside of it"))),
        }
    }
}

/// A little-endian number of a structure whose length was checked.
fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The same with 32 bits.
fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
