//! The names in a folder. The hash tree is skipped: its blocks look like empty entries to those
//! who read on, which is what it was made for.

use super::content::Content;
use super::inode::Inode;
use super::{Ext4, Ext4Error, damaged, le16, le32};

/// Names and inodes, in their order on disk, without `.` and `..`.
pub(super) fn names(ext4: &Ext4<'_>, inode: &Inode) -> Result<Vec<(Vec<u8>, u32)>, Ext4Error> {
    let bytes = Content::of(ext4, inode)?.whole()?;
    let mut names = Vec::new();
    for block in bytes.chunks(ext4.facts().block_bytes as usize) {
        let mut at = 0;
        while at + 8 <= block.len() {
            let (number, length) = (le32(block, at), usize::from(le16(block, at + 4)));
            let name_bytes = usize::from(block[at + 6]);
            if length < 8 || at + length > block.len() || 8 + name_bytes > length {
                return Err(damaged(format!("the folder with inode {} is broken", inode.number)));
            }
            let name = &block[at + 8..at + 8 + name_bytes];
            at += length;
            if number == 0 || name.is_empty() || name == b"." || name == b".." {
                continue;
            }
            // A name that is a path would lead whoever extracts it out of his folder.
            if name.contains(&b'/') || name.contains(&0) {
                let what = format!("the folder with inode {} has a name with a /", inode.number);
                return Err(damaged(what));
            }
            names.push((name.to_vec(), number));
        }
    }
    Ok(names)
}
