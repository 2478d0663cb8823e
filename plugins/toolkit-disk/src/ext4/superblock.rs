//! Superblock and group descriptors: what kind of ext4 it is, and where the inodes lie.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::{Ext4, Ext4Error, damaged, le16, le32};

const SUPERBLOCK_OFFSET: u64 = 1024;
const MAGIC: u16 = 0xef53;

/// Incompatible features that change nothing for a reader: file types in folders, extents, 64-bit
/// block numbers, flexible groups, checksum seed, large folders, attributes in inodes of their own
/// (refused where one is met).
const INCOMPAT_KNOWN: u32 = 0x2 | 0x40 | 0x80 | 0x200 | 0x400 | 0x2000 | 0x4000;

/// Incompatible features by name, for refusals.
const INCOMPAT_NAMES: [(u32, &str); 8] = [
    (0x1, "is compressed"),
    (0x4, "was not unmounted cleanly: its journal must be replayed (run e2fsck)"),
    (0x8, "is an external journal"),
    (0x10, "has meta block groups, which this reader does not know"),
    (0x100, "is guarded against multiple mounts (mmp)"),
    (0x1000, "has data in folder entries"),
    (0x8000, "keeps small files in inodes (inline_data), which this reader does not know"),
    (0x10000, "has encrypted files"),
];
const INCOMPAT_64BIT: u32 = 0x80;

/// More inodes than any image that is built: bounds what a lie in the superblock costs.
const GROUPS_MAX: u64 = 1 << 20;

/// What the superblock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ext4Facts {
    /// Size of the file system.
    pub bytes: u64,
    /// Of one block.
    pub block_bytes: u32,
    /// UUID, lower case with dashes.
    pub uuid: String,
    /// Of the hashes of folder entries; lower case with dashes.
    pub hash_seed: String,
    /// Volume name.
    pub label: String,
    /// How many inodes it can have.
    pub inodes: u32,
    pub(super) inodes_per_group: u32,
    pub(super) inode_bytes: u16,
    first_data_block: u32,
    descriptor_bytes: u16,
    groups: u64,
}

pub(super) fn read(file: &File, offset: u64) -> Result<Ext4Facts, Ext4Error> {
    let mut raw = [0; 1024];
    let at = offset.checked_add(SUPERBLOCK_OFFSET).ok_or(Ext4Error::NotExt4(offset))?;
    match file.read_exact_at(&mut raw, at) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(Ext4Error::NotExt4(offset));
        }
        other => other?,
    }
    if le16(&raw, 0x38) != MAGIC {
        return Err(Ext4Error::NotExt4(offset));
    }
    let incompat = le32(&raw, 0x60);
    refuse_unknown(incompat)?;
    let wide = incompat & INCOMPAT_64BIT != 0;
    let shift = le32(&raw, 0x18);
    if shift > 6 {
        return Err(damaged("its blocks are larger than 64 KiB"));
    }
    let block_bytes = 1024u32 << shift;
    let high = if wide { u64::from(le32(&raw, 0x150)) << 32 } else { 0 };
    let blocks = u64::from(le32(&raw, 0x04)) | high;
    let bytes = blocks.checked_mul(u64::from(block_bytes)).filter(|bytes| *bytes < 1 << 60);
    let bytes = bytes.ok_or_else(|| damaged("it has more blocks than a file can"))?;
    let (first_data_block, per_group) = (le32(&raw, 0x14), le32(&raw, 0x20));
    let inodes_per_group = le32(&raw, 0x28);
    let inode_bytes = if le32(&raw, 0x4c) == 0 { 128 } else { le16(&raw, 0x58) };
    let descriptor_bytes = if wide { le16(&raw, 0xfe) } else { 32 };
    if per_group == 0 || inodes_per_group == 0 {
        return Err(damaged("its groups are empty"));
    }
    if !(128..=4096).contains(&inode_bytes) || !(32..=1024).contains(&descriptor_bytes) {
        return Err(damaged("its inodes or group descriptors have an impossible size"));
    }
    let data_blocks = blocks.saturating_sub(u64::from(first_data_block));
    let groups = data_blocks.div_ceil(u64::from(per_group));
    if groups > GROUPS_MAX {
        return Err(damaged(format!("it has {groups} groups")));
    }
    let label = &raw[0x78..0x88];
    let label = label.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(Ext4Facts {
        bytes,
        block_bytes,
        uuid: uuid(&raw[0x68..0x78]),
        hash_seed: uuid(&raw[0xec..0xfc]),
        label: String::from_utf8_lossy(label).into_owned(),
        inodes: le32(&raw, 0x00),
        inodes_per_group,
        inode_bytes,
        first_data_block,
        descriptor_bytes,
        groups,
    })
}

fn refuse_unknown(incompat: u32) -> Result<(), Ext4Error> {
    let unknown = incompat & !INCOMPAT_KNOWN;
    if unknown == 0 {
        return Ok(());
    }
    let named = INCOMPAT_NAMES.iter().find(|(bit, _)| unknown & bit != 0);
    Err(Ext4Error::Unsupported(match named {
        Some((_, name)) => (*name).to_owned(),
        None => format!("has features that this reader does not know ({unknown:#x})"),
    }))
}

fn uuid(bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Where each group's inodes begin.
pub(super) fn inode_tables(ext4: &Ext4<'_>) -> Result<Vec<u64>, Ext4Error> {
    let facts = ext4.facts();
    let size = usize::from(facts.descriptor_bytes);
    let table = u64::from(facts.first_data_block) + 1;
    let mut tables = Vec::with_capacity(facts.groups as usize);
    let mut descriptor = vec![0; size];
    for group in 0..facts.groups {
        ext4.read_blocks(&mut descriptor, table, group * size as u64)?;
        let high = if size >= 64 { u64::from(le32(&descriptor, 0x28)) << 32 } else { 0 };
        tables.push(u64::from(le32(&descriptor, 0x08)) | high);
    }
    Ok(tables)
}
