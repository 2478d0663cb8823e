//! The extent tree of a file: which of its blocks lie where.

use super::inode::Inode;
use super::{Ext4, Ext4Error, damaged, le16, le32};

const MAGIC: u16 = 0xf30a;

/// The kernel's EXT4_MAX_EXTENT_DEPTH: 5 levels reach 16 TiB in single blocks.
const DEPTH_MAX: u16 = 5;

/// A run of a file's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// First block in the file.
    pub(super) logical: u64,
    /// First block on the file system.
    pub(super) physical: u64,
    /// How many.
    pub(super) blocks: u64,
}

/// The written extents, in the order of the file. Reserved but unwritten ones read as zeros and
/// are left out, as holes are.
pub(super) fn extents(ext4: &Ext4<'_>, inode: &Inode) -> Result<Vec<Extent>, Ext4Error> {
    inode.check_mapped_by_extents()?;
    let mut found = Vec::new();
    let depth = header(&inode.map, inode.number)?.1;
    if depth > DEPTH_MAX {
        return Err(damaged(format!("the extents of inode {} are too deep", inode.number)));
    }
    collect(ext4, &inode.map, depth, inode, &mut found)?;
    let ordered = found.windows(2).all(|two| two[0].logical + two[0].blocks <= two[1].logical);
    if !ordered {
        return Err(damaged(format!("the extents of inode {} overlap", inode.number)));
    }
    Ok(found)
}

/// Number of entries, and levels below.
fn header(node: &[u8], inode: u32) -> Result<(usize, u16), Ext4Error> {
    let entries = usize::from(le16(node, 2));
    if le16(node, 0) != MAGIC || 12 + entries * 12 > node.len() {
        return Err(damaged(format!("inode {inode} has no valid extent tree")));
    }
    Ok((entries, le16(node, 6)))
}

fn collect(
    ext4: &Ext4<'_>,
    node: &[u8],
    depth: u16,
    inode: &Inode,
    found: &mut Vec<Extent>,
) -> Result<(), Ext4Error> {
    let (entries, stated) = header(node, inode.number)?;
    // Each level says one less: no tree has a loop.
    if stated != depth {
        return Err(damaged(format!("the extent tree of inode {} is uneven", inode.number)));
    }
    for entry in node[12..12 + entries * 12].chunks_exact(12) {
        if depth > 0 {
            let child = u64::from(le32(entry, 4)) | u64::from(le16(entry, 8)) << 32;
            collect(ext4, &ext4.block(child)?, depth - 1, inode, found)?;
            continue;
        }
        let blocks = le16(entry, 4);
        // More than 32768 means: reserved, not written.
        if blocks <= 0x8000 {
            found.push(Extent {
                logical: u64::from(le32(entry, 0)),
                physical: u64::from(le32(entry, 8)) | u64::from(le16(entry, 6)) << 32,
                blocks: u64::from(blocks),
            });
        }
        // No image has more: each is at least one block of data.
        if found.len() as u64 > ext4.facts().bytes / ext4.block_bytes() {
            return Err(damaged(format!("inode {} has more extents than blocks", inode.number)));
        }
    }
    Ok(())
}
