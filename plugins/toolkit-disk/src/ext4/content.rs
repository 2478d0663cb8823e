//! The bytes of a file: read in order, holes as zeros, or by the ranges that hold data.

use std::io::{self, Read};
use std::ops::Range;

use super::extents::{Extent, extents};
use super::inode::Inode;
use super::{Ext4, Ext4Error, damaged};

/// What an index in a folder or a symlink may take; see [`Content::whole`].
pub(super) const WHOLE_BYTES_MAX: u64 = 64 << 20;

/// A file's content.
#[derive(Debug)]
pub struct Content<'e> {
    ext4: &'e Ext4<'e>,
    extents: Vec<Extent>,
    bytes: u64,
    position: u64,
}

impl<'e> Content<'e> {
    pub(super) fn of(ext4: &'e Ext4<'e>, inode: &Inode) -> Result<Content<'e>, Ext4Error> {
        let extents = match inode.bytes {
            0 => Vec::new(),
            _ => extents(ext4, inode)?,
        };
        Ok(Content { ext4, extents, bytes: inode.bytes, position: 0 })
    }

    /// Size of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ranges that hold data, in order; between them the file has holes.
    pub fn data_ranges(&self) -> Vec<Range<u64>> {
        let block = self.ext4.block_bytes();
        let range = |extent: &Extent| {
            let start = (extent.logical * block).min(self.bytes);
            start..((extent.logical + extent.blocks) * block).min(self.bytes)
        };
        self.extents.iter().map(range).filter(|range| !range.is_empty()).collect()
    }

    /// Bytes from a place on, holes as zeros; answers how many, 0 at the end.
    pub fn read_at(&self, buffer: &mut [u8], position: u64) -> Result<usize, Ext4Error> {
        let left = self.bytes.saturating_sub(position).min(buffer.len() as u64);
        if left == 0 {
            return Ok(0);
        }
        let block = self.ext4.block_bytes();
        let index = self
            .extents
            .partition_point(|extent| (extent.logical + extent.blocks) * block <= position);
        let Some(extent) = self.extents.get(index) else {
            buffer[..left as usize].fill(0);
            return Ok(left as usize);
        };
        let start = extent.logical * block;
        if position < start {
            let hole = left.min(start - position) as usize;
            buffer[..hole].fill(0);
            return Ok(hole);
        }
        let inside = position - start;
        let here = left.min(extent.blocks * block - inside) as usize;
        self.ext4.read_blocks(&mut buffer[..here], extent.physical, inside)?;
        Ok(here)
    }

    /// All of it, of what is small by nature: folders and symlinks.
    pub(super) fn whole(&self) -> Result<Vec<u8>, Ext4Error> {
        if self.bytes > WHOLE_BYTES_MAX {
            return Err(damaged(format!("a folder has {} bytes", self.bytes)));
        }
        let mut bytes = vec![0; self.bytes as usize];
        let mut done = 0;
        while done < bytes.len() {
            done += self.read_at(&mut bytes[done..], done as u64)?;
        }
        Ok(bytes)
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.read_at(buffer, self.position).map_err(io::Error::other)?;
        self.position += read as u64;
        Ok(read)
    }
}
