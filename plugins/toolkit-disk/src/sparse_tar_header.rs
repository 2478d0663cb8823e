//! The header of a sparse file in a tar of the old GNU format, the map of its data included.
//!
//! The format is that of `tar --format=oldgnu --sparse`: type S, four extents in the header and 21
//! in each block after it. Called by `gce_archive`.

use std::ops::Range;

use crate::tar_header::{BLOCK, header, put_checksum, put_number};

/// Where in the header which field lies, and how many bytes it has.
const EXTENTS: usize = 386;
const MORE: usize = 482;
const REAL_SIZE: Range<usize> = 483..495;
/// An extent: offset and length, each a number of 12 bytes.
const EXTENT_BYTES: usize = 24;
const IN_HEADER: usize = 4;
const IN_BLOCK: usize = 21;
/// In a block of further extents, "more follow".
const MORE_IN_BLOCK: usize = 504;

/// Header and map. The data follows: the extents one after the other, filled up to 512 bytes.
pub(crate) fn sparse_header(name: &str, real_bytes: u64, extents: &[Range<u64>]) -> Vec<u8> {
    let mut map = extents.to_vec();
    // A hole at the end is told by an extent without bytes there.
    if extents.last().is_none_or(|last| last.end < real_bytes) {
        map.push(real_bytes..real_bytes);
    }
    let stored: u64 = extents.iter().map(|extent| extent.end - extent.start).sum();
    let mut header = header(name, stored);
    header[156] = b'S';
    header[257..265].copy_from_slice(b"ustar  \0");
    put_number(&mut header[REAL_SIZE], real_bytes);
    let (first, rest) = map.split_at(map.len().min(IN_HEADER));
    put_extents(&mut header[EXTENTS..], first);
    header[MORE] = u8::from(!rest.is_empty());
    put_checksum(&mut header);
    let mut bytes = header.to_vec();
    let mut blocks = rest.chunks(IN_BLOCK).peekable();
    while let Some(extents) = blocks.next() {
        let mut block = [0; BLOCK];
        put_extents(&mut block, extents);
        block[MORE_IN_BLOCK] = u8::from(blocks.peek().is_some());
        bytes.extend_from_slice(&block);
    }
    bytes
}

fn put_extents(place: &mut [u8], extents: &[Range<u64>]) {
    for (place, extent) in place.chunks_mut(EXTENT_BYTES).zip(extents) {
        let (offset, length) = place.split_at_mut(EXTENT_BYTES / 2);
        put_number(offset, extent.start);
        put_number(length, extent.end - extent.start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_follow_as_long_as_there_are_extents() {
        for (extents, blocks) in [(3, 1), (4, 2), (24, 2), (25, 3), (45, 3), (46, 4)] {
            // Each with the one at the end that tells of the last hole.
            let map: Vec<_> = (0..extents).map(|at| at * 1024..at * 1024 + 512).collect();
            let header = sparse_header("disk.raw", 1 << 20, &map);
            assert_eq!(header.len(), blocks * BLOCK, "{extents} extents");
        }
    }
}
