//! Which blocks of a disk are sent: those with data, in units that EBS prescribes.
//!
//! Holes of the file are not even read; what is left is judged when it is read, because a file
//! system may have written zeros. The last block may reach beyond the image and is filled with
//! zeros then.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use imagefactory_toolkit_disk::data_extents;
use sha2::{Digest, Sha256};

/// EBS has had no other size since its direct APIs exist; the service's answer is compared with it.
pub(crate) const BLOCK_BYTES: u64 = 512 << 10;

/// Volumes are sized in these.
pub(crate) const GIB: u64 = 1 << 30;

/// sha256 of a block.
pub(crate) type BlockDigest = [u8; 32];

/// Indices of the blocks that may hold data, ascending.
pub(crate) fn blocks_with_data(file: &File) -> io::Result<Vec<u32>> {
    let mut blocks: Vec<u32> = Vec::new();
    for extent in data_extents(file)? {
        let first = block_number(extent.start / BLOCK_BYTES)?;
        let last = block_number((extent.end - 1) / BLOCK_BYTES)?;
        let from = match blocks.last() {
            // Two extents may meet in one block.
            Some(&sent) if sent >= first => sent + 1,
            _ => first,
        };
        blocks.extend(from..=last);
    }
    Ok(blocks)
}

fn block_number(number: u64) -> io::Result<u32> {
    // Volumes end at 64 TiB, which is 2^27 blocks.
    u32::try_from(number).map_err(|_| io::Error::other("the image is larger than any volume"))
}

/// One block's bytes, always whole; `None` = nothing but zeros.
pub(crate) fn read_block(file: &File, block: u32, image_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let offset = u64::from(block) * BLOCK_BYTES;
    let present = image_bytes.saturating_sub(offset).min(BLOCK_BYTES) as usize;
    let mut bytes = vec![0; BLOCK_BYTES as usize];
    file.read_exact_at(&mut bytes[..present], offset)?;
    Ok(Some(bytes).filter(|bytes| !is_zero(bytes)))
}

/// Compares in steps that the compiler turns into vector instructions.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

/// sha256.
pub(crate) fn digest_of(bytes: &[u8]) -> BlockDigest {
    Sha256::digest(bytes).into()
}

/// EBS's "linear" checksum: sha256 over the digests in the order of the blocks.
pub(crate) fn linear_digest<'d>(in_order: impl Iterator<Item = &'d BlockDigest>) -> BlockDigest {
    let mut all = Sha256::new();
    in_order.for_each(|digest| all.update(digest));
    all.finalize().into()
}

/// Lower-case hex.
pub(crate) fn hex(digest: &BlockDigest) -> String {
    use std::fmt::Write;
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// GiB of a volume that holds so many bytes.
pub(crate) fn volume_gib(bytes: u64) -> u64 {
    bytes.div_ceil(GIB).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_skipped_and_neighbours_in_one_block_count_once() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 << 20).unwrap();
        let at = |block: u64, offset: u64| block * BLOCK_BYTES + offset;
        file.write_all_at(&[1; 10], at(3, 0)).unwrap();
        file.write_all_at(&[1; 10], at(3, 256 << 10)).unwrap();
        file.write_all_at(&[1; 10], at(9, BLOCK_BYTES - 5)).unwrap();
        assert_eq!(blocks_with_data(&file).unwrap(), [3, 9, 10]);
        assert!(blocks_with_data(&tempfile::tempfile().unwrap()).unwrap().is_empty());
    }

    #[test]
    fn written_zeros_are_no_data_and_the_last_block_is_filled_up() {
        let file = tempfile::tempfile().unwrap();
        let bytes = 2 * BLOCK_BYTES + 7;
        file.write_all_at(&vec![0; bytes as usize - 1], 0).unwrap();
        file.write_all_at(&[9], bytes - 1).unwrap();
        assert_eq!(read_block(&file, 0, bytes).unwrap(), None);
        let last = read_block(&file, 2, bytes).unwrap().unwrap();
        assert_eq!((last.len() as u64, last[6], last[7]), (BLOCK_BYTES, 9, 0));
    }

    #[test]
    fn digests_are_the_standards() {
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&digest_of(b"abc")), abc);
        let two = [digest_of(b"a"), digest_of(b"b")];
        assert_eq!(linear_digest(two.iter()), digest_of(&two.concat()));
    }

    #[test]
    fn volumes_are_whole_gibibytes() {
        assert_eq!([0, 1, GIB, GIB + 1].map(volume_gib), [1, 1, 1, 2]);
    }
}
