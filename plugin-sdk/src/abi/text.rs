//! `text.h`: borrowed text, the only struct that crosses the boundary by value.

use super::struct_layout::abi_struct;

abi_struct! {
    /// Borrowed UTF-8 of `len` bytes, valid only during the call that carries it unless the
    /// function says otherwise. `{NULL, 0}` is absent, `{non-NULL, 0}` is empty. Text passed by
    /// the host is followed by one NUL and holds no inner NUL; a plugin's need not be.
    pub struct imgf_str = 16 {
        /// The first byte; NULL = absent.
        pub ptr: *const u8,
        /// Bytes, without any NUL behind them.
        pub len: usize,
    }
}

impl imgf_str {
    /// No text.
    pub const ABSENT: imgf_str = imgf_str { ptr: std::ptr::null(), len: 0 };

    /// Borrows `text`; the result must not be used after `text` is gone.
    pub const fn new(text: &str) -> imgf_str {
        imgf_str { ptr: text.as_ptr(), len: text.len() }
    }

    /// Borrows `text`, or is absent.
    pub fn optional(text: Option<&str>) -> imgf_str {
        text.map_or(imgf_str::ABSENT, imgf_str::new)
    }

    /// Is there no text (rather than an empty one)?
    pub fn is_absent(&self) -> bool {
        self.ptr.is_null()
    }

    /// The bytes, not yet checked to be UTF-8; `None` = absent, or longer than memory can be.
    ///
    /// # Safety
    /// `ptr` is NULL or points to `len` readable bytes that stay unchanged for `'a`.
    pub unsafe fn bytes<'a>(self) -> Option<&'a [u8]> {
        if self.ptr.is_null() || self.len > isize::MAX as usize {
            return None;
        }
        // SAFETY: not NULL, not longer than a slice may be, readable for 'a as the caller promises.
        Some(unsafe { std::slice::from_raw_parts(self.ptr, self.len) })
    }

    /// The text: `Ok(None)` = absent, `Err` = not UTF-8.
    ///
    /// # Safety
    /// As for [`imgf_str::bytes`].
    pub unsafe fn text<'a>(self) -> Result<Option<&'a str>, std::str::Utf8Error> {
        // SAFETY: the caller's promise is the one that `bytes` asks for.
        match unsafe { self.bytes() } {
            Some(bytes) => std::str::from_utf8(bytes).map(Some),
            None => Ok(None),
        }
    }
}
