//! Copies files without filling their holes, at the speed of the file system.
//!
//! First choice is a reflink (both files share their blocks), then `copy_file_range` over the data
//! extents that SEEK_DATA finds. `std::fs::copy` and most crates fill the holes: a 10 GB image with
//! 400 MB of data would become 10 GB on disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, copy_file_range, ftruncate, ioctl_ficlone, seek};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

/// How a copy was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyMethod {
    /// The blocks are shared; nothing was written.
    Reflink,
    /// The data extents were copied, so many bytes.
    Extents(u64),
}

/// Copies all of `from` into the empty file `to`; holes stay holes. Not synced.
pub fn copy(from: &File, to: &File) -> io::Result<CopyMethod> {
    if ioctl_ficlone(to, from).is_ok() {
        return Ok(CopyMethod::Reflink);
    }
    let bytes = from.metadata()?.len();
    ftruncate(to, bytes)?;
    let mut copied = 0;
    for extent in extents(from)? {
        copy_extent(from, to, &extent)?;
        copied += extent.end - extent.start;
    }
    Ok(CopyMethod::Extents(copied))
}

/// The ranges of a file that hold data, in order. A file system without SEEK_DATA answers with one
/// range over everything.
pub fn extents(file: &File) -> io::Result<Vec<std::ops::Range<u64>>> {
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
        extents.push(start..end);
        position = end;
    }
    Ok(extents)
}

fn copy_extent(from: &File, to: &File, extent: &std::ops::Range<u64>) -> io::Result<()> {
    let (mut source, mut sink) = (extent.start, extent.start);
    while source < extent.end {
        let wanted = usize::try_from(extent.end - source).unwrap_or(usize::MAX).min(1 << 30);
        match copy_file_range(from, Some(&mut source), to, Some(&mut sink), wanted) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            // Between file systems, or where a fuse file system lacks it.
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                return copy_by_hand(from, to, source..extent.end);
            }
            Err(Errno::INTR) => {}
            Err(cause) => return Err(cause.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(from: &File, to: &File, range: std::ops::Range<u64>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut position = range.start;
    while position < range.end {
        let wanted = usize::try_from(range.end - position).unwrap_or(usize::MAX).min(BUFFER_BYTES);
        let part = &mut buffer[..wanted];
        from.read_exact_at(part, position)?;
        to.write_all_at(part, position)?;
        position += wanted as u64;
    }
    Ok(())
}

/// One read. Large enough that the hash, not the call, is the cost.
const BUFFER_BYTES: usize = 1 << 20;

/// sha256 of the whole content, lower-case hex. Holes are hashed as zeros without being read.
pub fn sha256(file: &File) -> io::Result<String> {
    let bytes = file.metadata()?.len();
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let zeros = vec![0; BUFFER_BYTES];
    let mut position = 0;
    for extent in extents(file)? {
        hash_zeros(&mut hash, &zeros, extent.start - position);
        position = extent.start;
        while position < extent.end {
            let wanted =
                usize::try_from(extent.end - position).unwrap_or(usize::MAX).min(BUFFER_BYTES);
            let part = &mut buffer[..wanted];
            file.read_exact_at(part, position)?;
            hash.update(&*part);
            position += wanted as u64;
        }
    }
    hash_zeros(&mut hash, &zeros, bytes - position);
    Ok(hex(&hash.finalize()))
}

fn hash_zeros(hash: &mut Sha256, zeros: &[u8], bytes: u64) {
    let mut left = bytes;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
        hash.update(&zeros[..part]);
        left -= part as u64;
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn sparse_file(folder: &std::path::Path) -> File {
        let path = folder.join("sparse");
        let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(&[7; 100_000], 1 << 20).unwrap();
        file.write_all_at(&[9; 4096], (64 << 20) - 4096).unwrap();
        file
    }

    #[test]
    fn a_copy_has_the_same_content_and_the_same_holes() {
        let folder = tempfile::tempdir().unwrap();
        let from = sparse_file(folder.path());
        let copied = folder.path().join("copy");
        let to = File::options().read(true).write(true).create_new(true).open(copied).unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(sha256(&from).unwrap(), sha256(&to).unwrap());
        assert_eq!(to.metadata().unwrap().len(), 64 << 20);
        let allocated = to.metadata().unwrap().blocks() * 512;
        assert!(allocated < 1 << 20, "{allocated} bytes allocated for 104,096 of data");
    }

    #[test]
    fn the_hash_counts_holes_as_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let file = sparse_file(folder.path());
        let mut whole = vec![0; 64 << 20];
        file.read_exact_at(&mut whole, 0).unwrap();
        assert_eq!(sha256(&file).unwrap(), hex(&Sha256::digest(&whole)));
    }
}
