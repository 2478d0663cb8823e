//! Headers of files in a tar: owner and time zero, so that the same content gives the same archive.
//!
//! Called by whoever writes an archive front to back and knows better than a library where what
//! lies.

use std::io;
use std::ops::Range;

/// The unit of tar: a header's size, and what content is filled up to.
pub const TAR_BLOCK: usize = 512;
pub(crate) const BLOCK: usize = TAR_BLOCK;
const SIZE: Range<usize> = 124..136;
const CHECKSUM: Range<usize> = 148..156;
/// Names that need more need an extension, which old readers of OVA do not know.
const NAME_BYTES_MAX: usize = 100;

/// The header of a regular file, as POSIX has it. The content follows, filled up to
/// [`TAR_BLOCK`]; two blocks of zeros end the archive.
pub fn tar_header(name: &str, bytes: u64) -> io::Result<[u8; TAR_BLOCK]> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        let message = format!("{name:?} cannot be a name in a tar, which has 1 to 100 bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let mut header = header(name, bytes);
    header[257..265].copy_from_slice(b"ustar\x0000");
    put_checksum(&mut header);
    Ok(header)
}

/// What all formats have in common.
pub(crate) fn header(name: &str, bytes: u64) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    for id in [108, 116] {
        header[id..id + 8].copy_from_slice(b"0000000\0");
    }
    put_number(&mut header[SIZE], bytes);
    put_number(&mut header[136..148], 0); // modified
    header[156] = b'0';
    header
}

/// Eleven octal digits and a zero; what needs more, as GNU does: big-endian, the first bit set.
pub(crate) fn put_number(place: &mut [u8], number: u64) {
    if number < 1 << 33 {
        place.copy_from_slice(format!("{number:011o}\0").as_bytes());
    } else {
        place.fill(0);
        place[4..].copy_from_slice(&number.to_be_bytes());
        place[0] = 0x80;
    }
}

/// The sum of all bytes, its own eight counted as blanks.
pub(crate) fn put_checksum(header: &mut [u8; BLOCK]) {
    header[CHECKSUM].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_as_long_as_they_fit() {
        let number = |number| {
            let mut place = [0; 12];
            put_number(&mut place, number);
            place
        };
        assert_eq!(&number((1 << 33) - 1), b"77777777777\0");
        assert_eq!(number(1 << 33), [0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused_and_not_cut() {
        assert!(tar_header(&"n".repeat(100), 1).is_ok());
        for name in [String::new(), "n".repeat(101)] {
            let error = tar_header(&name, 1).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
