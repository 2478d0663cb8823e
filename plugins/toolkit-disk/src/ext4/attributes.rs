//! Extended attributes, in the inode and in a block of their own, as `getxattr` would show them:
//! with full names, and access control lists in the form that the system calls use.

use super::inode::Inode;
use super::{Ext4, Ext4Error, damaged, le16, le32};

const MAGIC: u32 = 0xea02_0000;
const ENTRY_BYTES: usize = 16;

/// Prefixes that are stored as a number. The two access control lists have no more to their name.
const PREFIXES: [(u8, &str); 6] = [
    (1, "user."),
    (2, "system.posix_acl_access"),
    (3, "system.posix_acl_default"),
    (4, "trusted."),
    (6, "security."),
    (7, "system."),
];

/// Name and value of each.
pub(super) fn attributes(
    ext4: &Ext4<'_>,
    inode: &Inode,
) -> Result<Vec<(String, Vec<u8>)>, Ext4Error> {
    let mut found = Vec::new();
    if inode.rest.len() > 8 && le32(&inode.rest, 0) == MAGIC {
        // Values are counted from the first entry.
        read_entries(&inode.rest[4..], 0, inode.number, &mut found)?;
    }
    if inode.attribute_block != 0 {
        let block = ext4.block(inode.attribute_block)?;
        if le32(&block, 0) != MAGIC {
            return Err(broken(inode.number));
        }
        read_entries(&block, 32, inode.number, &mut found)?;
    }
    found.sort();
    Ok(found)
}

/// Entries from `at` on; their values lie in `area`.
fn read_entries(
    area: &[u8],
    mut at: usize,
    inode: u32,
    found: &mut Vec<(String, Vec<u8>)>,
) -> Result<(), Ext4Error> {
    // Four zero bytes end them; so does the end of the area.
    while at + 4 <= area.len() && le32(area, at) != 0 {
        let entry = area.get(at..at + ENTRY_BYTES).ok_or_else(|| broken(inode))?;
        let (name_bytes, index) = (usize::from(entry[0]), entry[1]);
        if le32(entry, 4) != 0 {
            let what = format!("has a large attribute in an inode of its own (inode {inode})");
            return Err(Ext4Error::Unsupported(what));
        }
        let name = area.get(at + ENTRY_BYTES..at + ENTRY_BYTES + name_bytes);
        let (start, length) = (usize::from(le16(entry, 2)), le32(entry, 8) as usize);
        let value = start.checked_add(length).and_then(|end| area.get(start..end));
        let (Some(name), Some(value)) = (name, value) else { return Err(broken(inode)) };
        let prefix = PREFIXES.iter().find(|(number, _)| *number == index);
        let prefix = prefix.map_or("", |(_, prefix)| prefix);
        let name = format!("{prefix}{}", String::from_utf8_lossy(name));
        let value = match index {
            2 | 3 => access_control_list(value).ok_or_else(|| broken(inode))?,
            _ => value.to_vec(),
        };
        found.push((name, value));
        at += ENTRY_BYTES + name_bytes.next_multiple_of(4);
    }
    Ok(())
}

/// From the form on disk (version 1, ids only where they mean something) to that of the system
/// calls (version 2, each entry of 8 bytes).
fn access_control_list(stored: &[u8]) -> Option<Vec<u8>> {
    const USER: u16 = 0x02;
    const GROUP: u16 = 0x08;
    if stored.len() < 4 || le32(stored, 0) != 1 {
        return None;
    }
    let mut list = 2u32.to_le_bytes().to_vec();
    let mut rest = &stored[4..];
    while !rest.is_empty() {
        let head = rest.get(..4)?;
        let named = matches!(le16(head, 0), USER | GROUP);
        list.extend_from_slice(head);
        let id = if named { le32(rest.get(4..8)?, 0) } else { u32::MAX };
        list.extend_from_slice(&id.to_le_bytes());
        rest = &rest[if named { 8 } else { 4 }..];
    }
    Some(list)
}

fn broken(inode: u32) -> Ext4Error {
    damaged(format!("the attributes of inode {inode} are broken"))
}
