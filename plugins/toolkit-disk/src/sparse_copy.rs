//! Copies that keep holes, at the speed of the file system.
//!
//! First choice is a reflink: both files share their blocks and nothing is written. Without one,
//! [`copy`] lets the kernel move the data extents, and [`copy_and_hash`] reads each byte once, for
//! the checksum and for the copy, and leaves out blocks of zeros. Nothing is synced here.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{copy_file_range, ftruncate, ioctl_ficlone};
use rustix::io::Errno;

use crate::extents::data_extents;
use crate::sha256::{CHUNK_BYTES, RunningHash, sha256_of};

/// Zeros that are left out are looked for in pieces of this size: the block of common file
/// systems, below which no hole can be.
const BLOCK_BYTES: usize = 4096;

/// How a copy was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyMethod {
    /// The blocks are shared; nothing was written.
    Reflink,
    /// So many bytes were written; the rest are holes.
    Extents(u64),
}

/// A copy with its checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedImage {
    /// Size of both files.
    pub bytes: u64,
    /// Of the content, lower-case hex.
    pub sha256: String,
    /// How it was made.
    pub method: CopyMethod,
}

/// Copies all of `from` into the empty file `to`; holes stay holes. Moves the position of `from`.
pub fn copy(from: &File, to: &File) -> io::Result<CopyMethod> {
    if ioctl_ficlone(to, from).is_ok() {
        return Ok(CopyMethod::Reflink);
    }
    ftruncate(to, from.metadata()?.len())?;
    let mut written = 0;
    for extent in data_extents(from)? {
        copy_extent(from, to, &extent)?;
        written += extent.end - extent.start;
    }
    Ok(CopyMethod::Extents(written))
}

/// The same with the checksum of the content, in one pass over the data. `watch` hears after each
/// MiB how many bytes are done, holes included, and ends the work with its error; then `to` is
/// incomplete.
pub fn copy_and_hash<E: From<io::Error>>(
    from: &File,
    to: &File,
    mut watch: impl FnMut(u64) -> Result<(), E>,
) -> Result<CopiedImage, E> {
    let bytes = from.metadata()?.len();
    if ioctl_ficlone(to, from).is_ok() {
        // Of the copy: what was read is what is there now, even if `from` changes meanwhile.
        let sha256 = sha256_of(to, watch)?;
        return Ok(CopiedImage { bytes, sha256, method: CopyMethod::Reflink });
    }
    ftruncate(to, bytes).map_err(io::Error::from)?;
    let mut hash = RunningHash::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut written = 0;
    for extent in data_extents(from)? {
        hash.zeros_until(extent.start, &mut watch)?;
        while hash.position < extent.end {
            let wanted = usize::try_from(extent.end - hash.position).unwrap_or(usize::MAX);
            let part = &mut chunk[..wanted.min(CHUNK_BYTES)];
            from.read_exact_at(part, hash.position)?;
            written += write_without_zeros(to, part, hash.position)?;
            hash.update(part);
            watch(hash.position)?;
        }
    }
    hash.zeros_until(bytes, &mut watch)?;
    Ok(CopiedImage { bytes, sha256: hash.finish(), method: CopyMethod::Extents(written) })
}

/// Writes what is not zero, in runs of blocks; answers how many bytes.
fn write_without_zeros(to: &File, part: &[u8], offset: u64) -> io::Result<u64> {
    let is_zero = |block: &[u8]| block.iter().all(|byte| *byte == 0);
    let (mut written, mut start) = (0, 0);
    while start < part.len() {
        let run = part[start..].chunks(BLOCK_BYTES).take_while(|block| !is_zero(block));
        let length: usize = run.map(<[u8]>::len).sum();
        if length > 0 {
            to.write_all_at(&part[start..start + length], offset + start as u64)?;
            written += length as u64;
        }
        // Past the run, and past the block of zeros that ended it.
        start += length + BLOCK_BYTES;
    }
    Ok(written)
}

fn copy_extent(from: &File, to: &File, extent: &Range<u64>) -> io::Result<()> {
    let (mut source, mut sink) = (extent.start, extent.start);
    while source < extent.end {
        let wanted = usize::try_from(extent.end - source).unwrap_or(usize::MAX).min(1 << 30);
        match copy_file_range(from, Some(&mut source), to, Some(&mut sink), wanted) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            // Between file systems on old kernels, or where a fuse file system lacks it.
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                return copy_by_hand(from, to, source..extent.end);
            }
            Err(cause) => return Err(cause.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(from: &File, to: &File, range: Range<u64>) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut position = range.start;
    while position < range.end {
        let wanted = usize::try_from(range.end - position).unwrap_or(usize::MAX);
        let part = &mut chunk[..wanted.min(CHUNK_BYTES)];
        from.read_exact_at(part, position)?;
        to.write_all_at(part, position)?;
        position += part.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extents::allocated_bytes;

    const BYTES: u64 = (64 << 20) + 17;

    /// Data, zeros that are written out, data and zeros by turns, holes, and an end that is no
    /// block.
    fn sparse_file() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(BYTES).unwrap();
        file.write_all_at(&[7; 100_000], 1 << 20).unwrap();
        file.write_all_at(&vec![0; 3 << 20], 8 << 20).unwrap();
        file.write_all_at(&[8; 10], (9 << 20) + 5).unwrap();
        for turn in 0..16 {
            let block = [turn as u8 % 2; BLOCK_BYTES];
            file.write_all_at(&block, (20 << 20) + turn * BLOCK_BYTES as u64).unwrap();
        }
        file.write_all_at(&[9; 17], 64 << 20).unwrap();
        file
    }

    fn digest(file: &File) -> String {
        sha256_of::<io::Error>(file, |_| Ok(())).unwrap()
    }

    #[test]
    fn a_copy_has_the_same_content_and_its_holes() {
        let (from, to) = (sparse_file(), tempfile::tempfile().unwrap());
        copy(&from, &to).unwrap();
        assert_eq!(digest(&from), digest(&to));
        assert_eq!(to.metadata().unwrap().len(), BYTES);
        assert!(allocated_bytes(&to).unwrap() < 5 << 20);
    }

    #[test]
    fn a_copy_with_checksum_leaves_zeros_out() {
        let (from, to) = (sparse_file(), tempfile::tempfile().unwrap());
        let copied = copy_and_hash::<io::Error>(&from, &to, |_| Ok(())).unwrap();
        assert_eq!(copied.bytes, BYTES);
        assert_eq!(copied.sha256, digest(&from));
        assert_eq!(digest(&to), digest(&from));
        if let CopyMethod::Extents(written) = copied.method {
            assert!(
                written < 1 << 20,
                "{written} bytes written for some 130,000 that are not zero"
            );
            assert!(allocated_bytes(&to).unwrap() < 1 << 20);
        }
    }

    #[test]
    fn an_extent_is_copied_the_same_with_and_without_the_kernels_help() {
        let from = sparse_file();
        for by_hand in [false, true] {
            let to = tempfile::tempfile().unwrap();
            to.set_len(BYTES).unwrap();
            let range = (1 << 20)..(1 << 20) + 100_000;
            if by_hand {
                copy_by_hand(&from, &to, range).unwrap();
            } else {
                copy_extent(&from, &to, &range).unwrap();
            }
            let mut read = [0; 100_000];
            to.read_exact_at(&mut read, 1 << 20).unwrap();
            assert!(read.iter().all(|byte| *byte == 7), "by hand: {by_hand}");
        }
    }

    #[test]
    fn progress_never_falls_and_ends_at_the_size() {
        let (from, to) = (sparse_file(), tempfile::tempfile().unwrap());
        let mut seen = vec![0];
        copy_and_hash::<io::Error>(&from, &to, |done| {
            seen.push(done);
            Ok(())
        })
        .unwrap();
        assert!(seen.is_sorted(), "{seen:?}");
        assert_eq!(seen.last(), Some(&BYTES));
    }

    #[test]
    fn the_watcher_can_end_a_copy() {
        let (from, to) = (sparse_file(), tempfile::tempfile().unwrap());
        let ended = copy_and_hash(&from, &to, |_| Err(io::Error::other("enough")));
        assert_eq!(ended.unwrap_err().to_string(), "enough");
    }

    #[test]
    fn an_empty_file_is_copied() {
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let copied = copy_and_hash::<io::Error>(&from, &to, |_| Ok(())).unwrap();
        assert_eq!(copied.bytes, 0);
        assert_eq!(copied.sha256, digest(&to));
    }
}
