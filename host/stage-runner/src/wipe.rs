//! Overwrites memory that held a secret, in a way that the compiler may not leave out.

use std::sync::atomic::{Ordering, compiler_fence};

/// Overwrites `bytes` with zeros.
pub fn wipe(bytes: &mut [u8]) {
    for byte in bytes.iter_mut() {
        // SAFETY: `byte` is a valid, exclusive reference.
        unsafe { std::ptr::write_volatile(byte, 0) };
    }
    compiler_fence(Ordering::SeqCst);
}

/// Overwrites and drops `text`.
pub fn wipe_text(text: String) {
    wipe(&mut text.into_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wiped_bytes_are_zero() {
        let mut bytes = *b"hunter2";
        wipe(&mut bytes);
        assert_eq!(bytes, [0; 7]);
    }
}
