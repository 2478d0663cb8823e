//! Where a file has data and where it has holes.
//!
//! A 10 GB image often has 400 MB of data; who reads the rest reads zeros for nothing. The callers
//! are copy and checksum.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// `st_blocks` counts in these, whatever the file system's own block is (stat(2)).
const STAT_BLOCK_BYTES: u64 = 512;

/// The ranges that hold data, in order, none empty. A file system without SEEK_DATA answers with
/// one range over everything. Moves the file's position.
pub fn data_extents(file: &File) -> io::Result<Vec<Range<u64>>> {
    let bytes = file.metadata()?.len();
    let mut extents = Vec::new();
    let mut position = 0;
    while position < bytes {
        let start = match seek(file, SeekFrom::Data(position)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break, // only a hole is left
            Err(Errno::INVAL) => position,
            Err(cause) => return Err(cause.into()),
        };
        let end = match seek(file, SeekFrom::Hole(start)) {
            Ok(end) => end.min(bytes),
            Err(Errno::INVAL | Errno::NXIO) => bytes,
            Err(cause) => return Err(cause.into()),
        };
        if end <= start {
            break; // it became shorter meanwhile
        }
        extents.push(start..end);
        position = end;
    }
    Ok(extents)
}

/// Bytes that the file occupies on its file system; holes occupy none.
pub fn allocated_bytes(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.blocks().saturating_mul(STAT_BLOCK_BYTES))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn data_between_holes_is_found_and_nothing_else() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8 << 20).unwrap();
        file.write_all_at(&[1; 4096], 1 << 20).unwrap();
        file.write_all_at(&[1; 4096], 6 << 20).unwrap();
        let extents = data_extents(&file).unwrap();
        let covers = |at: u64| extents.iter().any(|extent| extent.contains(&at));
        assert!(covers(1 << 20) && covers(6 << 20), "{extents:?}");
        let total: u64 = extents.iter().map(|extent| extent.end - extent.start).sum();
        assert!(total < 1 << 20, "holes count as data: {extents:?}");
        assert!(allocated_bytes(&file).unwrap() < 1 << 20);
    }

    #[test]
    fn a_file_that_is_all_hole_or_empty_has_no_data() {
        let file = tempfile::tempfile().unwrap();
        assert!(data_extents(&file).unwrap().is_empty());
        file.set_len(1 << 20).unwrap();
        assert!(data_extents(&file).unwrap().is_empty());
    }
}
