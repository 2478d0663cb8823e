//! The checksum of a file with holes. Holes count as the zeros that a reader would get, without
//! being read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

use crate::extents::data_extents;

/// One read. Large enough that the hash and not the call is the cost, small enough for the cache.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// sha256 of the whole content, lower-case hex. `watch` hears after each MiB how many bytes are
/// done, and ends the work with its error.
pub fn sha256_of<E: From<io::Error>>(
    file: &File,
    mut watch: impl FnMut(u64) -> Result<(), E>,
) -> Result<String, E> {
    let bytes = file.metadata()?.len();
    let mut hash = RunningHash::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    for extent in data_extents(file)? {
        hash.zeros_until(extent.start, &mut watch)?;
        while hash.position < extent.end {
            let wanted = usize::try_from(extent.end - hash.position).unwrap_or(usize::MAX);
            let part = &mut chunk[..wanted.min(CHUNK_BYTES)];
            file.read_exact_at(part, hash.position)?;
            hash.update(part);
            watch(hash.position)?;
        }
    }
    hash.zeros_until(bytes, &mut watch)?;
    Ok(hash.finish())
}

/// A hash that knows how far it has come.
pub(crate) struct RunningHash {
    state: Sha256,
    zeros: Vec<u8>,
    /// Bytes hashed.
    pub(crate) position: u64,
}

impl RunningHash {
    pub(crate) fn new() -> RunningHash {
        RunningHash { state: Sha256::new(), zeros: vec![0; CHUNK_BYTES], position: 0 }
    }

    pub(crate) fn update(&mut self, part: &[u8]) {
        self.state.update(part);
        self.position += part.len() as u64;
    }

    /// Hashes a hole.
    pub(crate) fn zeros_until<E>(
        &mut self,
        end: u64,
        watch: &mut impl FnMut(u64) -> Result<(), E>,
    ) -> Result<(), E> {
        while self.position < end {
            let left = usize::try_from(end - self.position).unwrap_or(usize::MAX);
            let part = left.min(self.zeros.len());
            self.state.update(&self.zeros[..part]);
            self.position += part as u64;
            watch(self.position)?;
        }
        Ok(())
    }

    /// Lower-case hex.
    pub(crate) fn finish(self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digest = self.state.finalize();
        let mut text = String::with_capacity(digest.len() * 2);
        for byte in digest.iter() {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_standards() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"abc", 0).unwrap();
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_of::<io::Error>(&file, |_| Ok(())).unwrap(), expected);
    }

    #[test]
    fn holes_count_as_zeros() {
        let sparse = tempfile::tempfile().unwrap();
        sparse.set_len((3 << 20) + 5).unwrap();
        sparse.write_all_at(b"data", 2 << 20).unwrap();
        let dense = tempfile::tempfile().unwrap();
        let mut whole = vec![0; (3 << 20) + 5];
        whole[2 << 20..(2 << 20) + 4].copy_from_slice(b"data");
        dense.write_all_at(&whole, 0).unwrap();
        let digest = |file| sha256_of::<io::Error>(file, |_| Ok(())).unwrap();
        assert_eq!(digest(&sparse), digest(&dense));
    }

    #[test]
    fn the_watcher_can_end_it_in_a_hole_too() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 40).unwrap(); // hours, if nobody ended it
        let ended = sha256_of(&file, |done| match done {
            done if done > 4 << 20 => Err(io::Error::other("enough")),
            _ => Ok(()),
        });
        assert_eq!(ended.unwrap_err().to_string(), "enough");
    }
}
