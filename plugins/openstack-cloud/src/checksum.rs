//! sha512 of the file that is uploaded, computed beside the upload, to hold against Glance's.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha512};

/// Large enough that the hash and not the call is the cost, small enough for the cache.
const PIECE_BYTES: usize = 1 << 20;

/// Lower-case hex of the first `bytes` bytes; `None` = nobody wants to know any more.
pub(crate) fn sha512_of(
    file: &File,
    bytes: u64,
    given_up: &AtomicBool,
) -> io::Result<Option<String>> {
    let mut hash = Sha512::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut at = 0;
    while at < bytes {
        if given_up.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let wanted = usize::try_from(bytes - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        file.read_exact_at(&mut piece[..wanted], at)?;
        hash.update(&piece[..wanted]);
        at += wanted as u64;
    }
    Ok(Some(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_sha512sum_says_and_can_be_given_up() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"abcdef", 0).unwrap();
        let of = |given_up| sha512_of(&file, 3, &AtomicBool::new(given_up)).unwrap();
        // printf abc | sha512sum
        let abc = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                   2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        assert_eq!(of(false).as_deref(), Some(abc));
        assert_eq!(of(true), None);
    }
}
