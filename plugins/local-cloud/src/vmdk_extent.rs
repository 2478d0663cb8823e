//! The name that a VMDK's descriptor gives the disk's own file.
//!
//! qemu-img writes the name that the file had while it was written. QEMU does not mind, VMware's
//! tools do, so the final name is put there. The descriptor is text of a fixed room in the file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The unit of the header.
const SECTOR: u64 = 512;

/// qemu-img leaves 20 sectors; what claims more is not its work and left alone.
const DESCRIPTOR_BYTES_MAX: u64 = 64 << 10;

/// Puts `name` in the place of `old`. A file without such a descriptor stays as it is.
pub(crate) fn rename_extent(file: &File, old: &str, name: &str) -> io::Result<()> {
    let mut header = [0; 44];
    file.read_exact_at(&mut header, 0)?;
    // The descriptor's place and room in sectors (Virtual Disk Format 5.0, "Hosted Sparse Extent
    // Header").
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&header[at..at + 8]);
        u64::from_le_bytes(bytes).saturating_mul(SECTOR)
    };
    let (offset, room) = (number(28), number(36));
    if !header.starts_with(b"KDMV") || offset == 0 || room == 0 || room > DESCRIPTOR_BYTES_MAX {
        return Ok(());
    }
    let mut text = vec![0; room as usize];
    file.read_exact_at(&mut text, offset)?;
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    let Ok(before) = std::str::from_utf8(&text[..end]) else { return Ok(()) };
    let after = before.replace(&format!("\"{old}\""), &format!("\"{name}\""));
    if after.len() > text.len() {
        return Ok(());
    }
    let mut bytes = after.into_bytes();
    bytes.resize(text.len(), 0);
    file.write_all_at(&bytes, offset)
}
