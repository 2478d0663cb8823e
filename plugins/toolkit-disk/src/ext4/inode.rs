//! One inode: metadata, and the 60 bytes that say where its content lies.

use super::{Ext4, Ext4Error, damaged, le16, le32};

const FLAG_ENCRYPTED: u32 = 0x800;
const FLAG_EXTENTS: u32 = 0x8_0000;
const FLAG_INLINE_DATA: u32 = 0x1000_0000;

/// The root folder's.
pub(super) const ROOT_INODE: u32 = 2;

#[derive(Debug)]
pub(super) struct Inode {
    pub(super) number: u32,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u16,
    pub(super) bytes: u64,
    pub(super) modified_s: i64,
    pub(super) modified_ns: u32,
    flags: u32,
    /// `i_block`.
    pub(super) map: [u8; 60],
    /// The block of its extended attributes; zero: none.
    pub(super) attribute_block: u64,
    /// What follows the fixed fields: extended attributes, where there is room.
    pub(super) rest: Vec<u8>,
}

impl Inode {
    pub(super) fn read(ext4: &Ext4<'_>, number: u32) -> Result<Inode, Ext4Error> {
        let facts = ext4.facts();
        let index = number.checked_sub(1).filter(|index| *index < facts.inodes);
        let index = index.ok_or_else(|| damaged(format!("there is no inode {number}")))?;
        let group = (index / facts.inodes_per_group) as usize;
        let table = ext4.inode_tables.get(group);
        let table = *table.ok_or_else(|| damaged(format!("inode {number} is in no group")))?;
        let size = usize::from(facts.inode_bytes);
        let mut raw = vec![0; size];
        let place = u64::from(index % facts.inodes_per_group) * size as u64;
        ext4.read_blocks(&mut raw, table, place)?;
        let extra = if size > 128 { usize::from(le16(&raw, 0x80)) } else { 0 };
        if 128 + extra > size {
            return Err(damaged(format!("inode {number} is longer than an inode")));
        }
        let mut map = [0; 60];
        map.copy_from_slice(&raw[0x28..0x64]);
        let (modified_s, modified_ns) = modified(&raw, extra);
        Ok(Inode {
            number,
            mode: le16(&raw, 0x00),
            uid: u32::from(le16(&raw, 0x02)) | u32::from(le16(&raw, 0x78)) << 16,
            gid: u32::from(le16(&raw, 0x18)) | u32::from(le16(&raw, 0x7a)) << 16,
            links: le16(&raw, 0x1a),
            bytes: u64::from(le32(&raw, 0x04)) | u64::from(le32(&raw, 0x6c)) << 32,
            modified_s,
            modified_ns,
            flags: le32(&raw, 0x20),
            map,
            attribute_block: u64::from(le32(&raw, 0x68)) | u64::from(le16(&raw, 0x76)) << 32,
            rest: raw.get(128 + extra..).unwrap_or_default().to_vec(),
        })
    }

    /// The four bits of `mode` that say what it is.
    pub(super) fn kind_bits(&self) -> u16 {
        self.mode & 0xf000
    }

    /// Is its content mapped by extents? What is mapped otherwise is refused by name.
    pub(super) fn check_mapped_by_extents(&self) -> Result<(), Ext4Error> {
        let what = if self.flags & FLAG_ENCRYPTED != 0 {
            "is encrypted"
        } else if self.flags & FLAG_INLINE_DATA != 0 {
            "is kept in its inode"
        } else if self.flags & FLAG_EXTENTS == 0 {
            "is mapped block by block, as ext3 does"
        } else {
            return Ok(());
        };
        let message =
            format!("has a file (inode {}) that {what}; this reader knows extents", self.number);
        Err(Ext4Error::Unsupported(message))
    }

    /// The target of a short symlink, which lies where others have their map.
    pub(super) fn short_target(&self) -> Option<&[u8]> {
        let short = self.flags & FLAG_EXTENTS == 0 && self.bytes < 60;
        short.then(|| &self.map[..self.bytes as usize])
    }

    /// Major and minor number, in the kernel's old or new encoding.
    pub(super) fn device(&self) -> (u32, u32) {
        let (old, new) = (le32(&self.map, 0), le32(&self.map, 4));
        match old {
            0 => ((new & 0xf_ff00) >> 8, (new & 0xff) | ((new >> 12) & 0xf_ff00)),
            old => ((old >> 8) & 0xff, old & 0xff),
        }
    }
}

/// Seconds since 1970 and nanoseconds: two bits of the extra field extend the seconds.
fn modified(raw: &[u8], extra: usize) -> (i64, u32) {
    let seconds = i64::from(le32(raw, 0x10) as i32);
    if extra < 0x8c - 0x80 {
        return (seconds, 0);
    }
    let more = le32(raw, 0x88);
    (seconds + (i64::from(more & 3) << 32), (more >> 2).min(999_999_999))
}
