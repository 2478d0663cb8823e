//! A raw disk cut into pieces for compression: which of them hold data, and reading one.
//!
//! Pieces are what a thread works on at once; the units of a format (grains, clusters) divide them.
//! What lies beyond the file's end counts as zeros. Called by the writers of compressed formats.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::extents::data_extents;

/// One piece. A multiple of every format's unit, and large enough that handing it to a thread
/// costs nothing beside compressing it.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// Cluster of qcow2 and grain of vmdk, as their own tools choose it.
pub(crate) const UNIT_BYTES: usize = 64 << 10;

/// Zeros to compare with; comparing memory is several times faster than looking at each byte.
static ZEROS: [u8; UNIT_BYTES] = [0; UNIT_BYTES];

/// The numbers of the pieces that hold data, ascending. Moves the file's position.
pub(crate) fn pieces_with_data(file: &File) -> io::Result<Vec<u64>> {
    let mut pieces = Vec::new();
    for extent in data_extents(file)? {
        let first = extent.start / PIECE_BYTES as u64;
        let first = pieces.last().map_or(first, |last| first.max(last + 1));
        pieces.extend(first..extent.end.div_ceil(PIECE_BYTES as u64));
    }
    Ok(pieces)
}

/// Reads a piece into `buffer`; what of it lies beyond `file_bytes` is zero.
pub(crate) fn read_piece(
    file: &File,
    file_bytes: u64,
    piece: u64,
    buffer: &mut [u8],
) -> io::Result<()> {
    let start = piece * PIECE_BYTES as u64;
    let there = usize::try_from(file_bytes.saturating_sub(start)).unwrap_or(usize::MAX);
    let (data, beyond) = buffer.split_at_mut(there.min(buffer.len()));
    file.read_exact_at(data, start)?;
    beyond.fill(0);
    Ok(())
}

/// Is there nothing but zeros?
pub(crate) fn is_zero(unit: &[u8]) -> bool {
    unit.chunks(ZEROS.len()).all(|part| part == &ZEROS[..part.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_those_that_data_touches_each_once() {
        const MIB: u64 = 1 << 20;
        let file = tempfile::tempfile().unwrap();
        file.set_len(100 * MIB + 1).unwrap();
        // The end of one and the beginning of the next, twice in one, and the last byte.
        file.write_all_at(&[1; 8192], 10 * MIB - 4096).unwrap();
        file.write_all_at(&[1; 10], 50 * MIB).unwrap();
        file.write_all_at(&[1; 10], 50 * MIB + 500_000).unwrap();
        file.write_all_at(&[1], 100 * MIB).unwrap();
        assert_eq!(pieces_with_data(&file).unwrap(), [9, 10, 50, 100]);
        let mut buffer = vec![7; PIECE_BYTES];
        read_piece(&file, 100 * MIB + 1, 100, &mut buffer).unwrap();
        assert!(buffer[0] == 1 && is_zero(&buffer[1..]));
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error_and_not_zeros() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 4096], 0).unwrap();
        let mut buffer = vec![0; PIECE_BYTES];
        let read = read_piece(&file, 8192, 0, &mut buffer);
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn one_byte_anywhere_is_not_zero() {
        let mut unit = vec![0; UNIT_BYTES * 2];
        assert!(is_zero(&unit) && is_zero(&[]));
        for at in [0, 1, UNIT_BYTES - 1, UNIT_BYTES, UNIT_BYTES * 2 - 1] {
            unit[at] = 1;
            assert!(!is_zero(&unit), "{at}");
            unit[at] = 0;
        }
    }
}
