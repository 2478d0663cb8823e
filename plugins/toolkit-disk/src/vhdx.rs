//! The virtual size of a VHDX, which lies two tables deep: region table, metadata table, item
//! (Microsoft's specification MS-VHDX, 2.2.3 and 2.6). Called by inspection.

use std::fs::File;

use crate::inspection::{DiskError, DiskFormat, field};

/// The first copy of the region table (2.1).
const REGION_TABLE: u64 = 192 << 10;
/// 8B7CA206-4790-4B9A-B8FE-575F050F886E as it lies in the file.
const METADATA_REGION: [u8; 16] = [
    0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e,
];
/// 2FA54224-CD1B-4876-B211-5DBED83BF4B8 as it lies in the file.
const VIRTUAL_DISK_SIZE: [u8; 16] = [
    0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8,
];
/// Both tables have at most so many entries of 32 bytes.
const ENTRIES_MAX: u64 = 2047;
const ENTRY_BYTES: u64 = 32;

/// Reads it.
pub(crate) fn virtual_bytes(file: &File) -> Result<u64, DiskError> {
    if &field::<4>(file, DiskFormat::Vhdx, REGION_TABLE)? != b"regi" {
        return Err(damaged("its region table is not there"));
    }
    let regions = u64::from(u32::from_le_bytes(field(file, DiskFormat::Vhdx, REGION_TABLE + 8)?));
    let region = entry(file, REGION_TABLE + 16, regions, METADATA_REGION)?
        .ok_or_else(|| damaged("it has no metadata"))?;
    let table = u64::from_le_bytes(field(file, DiskFormat::Vhdx, region + 16)?);
    if &field::<8>(file, DiskFormat::Vhdx, table)? != b"metadata" {
        return Err(damaged("its metadata table is not there"));
    }
    let items = u64::from(u16::from_le_bytes(field(file, DiskFormat::Vhdx, place(table, 10)?)?));
    let item = entry(file, place(table, 32)?, items, VIRTUAL_DISK_SIZE)?
        .ok_or_else(|| damaged("its metadata has no size"))?;
    let offset = u64::from(u32::from_le_bytes(field(file, DiskFormat::Vhdx, item + 16)?));
    Ok(u64::from_le_bytes(field(file, DiskFormat::Vhdx, place(table, offset)?)?))
}

/// Where the entry with this id begins.
fn entry(file: &File, first: u64, count: u64, id: [u8; 16]) -> Result<Option<u64>, DiskError> {
    for number in 0..count.min(ENTRIES_MAX) {
        let at = place(first, number * ENTRY_BYTES)?;
        if field::<16>(file, DiskFormat::Vhdx, at)? == id {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

fn place(start: u64, offset: u64) -> Result<u64, DiskError> {
    // A file's offset is signed in the kernel.
    let at = start.checked_add(offset).filter(|at| *at < i64::MAX as u64 - ENTRY_BYTES);
    at.ok_or_else(|| damaged("a table lies beyond every file"))
}

fn damaged(what: &'static str) -> DiskError {
    DiskError::Damaged { format: DiskFormat::Vhdx, what }
}
