//! Secrets in memory that is never swapped or dumped, and wiped when it is given back.
//!
//! Each secret has pages of its own, so that wiping and unlocking one does not touch another.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

use imagefactory_plugin_sdk::abi::imgf_str;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::texts::InnerNul;
use crate::wipe::{wipe, wipe_text};

/// The secrets that the plugin holds at the moment.
#[derive(Debug, Default)]
pub struct Secrets {
    held: Mutex<BTreeMap<String, Held>>,
}

#[derive(Debug)]
struct Held {
    pages: LockedText,
    /// A plugin that asks twice gives back twice.
    times: usize,
}

/// Why a secret could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum SecretFault {
    /// It cannot be lent as text.
    #[error(transparent)]
    Text(#[from] InnerNul),
    /// No memory for it.
    #[error("no memory for a secret: {0}")]
    Memory(#[from] rustix::io::Errno),
}

impl Secrets {
    /// Keeps `text`, wipes the caller's copy, and lends ours until it is released.
    pub fn keep(&self, name: &str, text: String) -> Result<imgf_str, SecretFault> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // An answer that is held already is not exchanged below the plugin's eyes.
        if let Some(known) = held.get_mut(name) {
            wipe_text(text);
            known.times += 1;
            return Ok(known.pages.lend());
        }
        let pages = LockedText::new(&text);
        wipe_text(text);
        let held = held.entry(name.to_owned()).or_insert(Held { pages: pages?, times: 1 });
        Ok(held.pages.lend())
    }

    /// The plugin gives one secret back; a name that it does not hold is ignored.
    pub fn release(&self, name: &str) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = held.get_mut(name) {
            known.times -= 1;
            if known.times == 0 {
                held.remove(name);
            }
        }
    }

    /// Wipes whatever was not given back.
    pub fn release_all(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// One text in whole pages of its own.
#[derive(Debug)]
struct LockedText {
    start: *mut c_void,
    bytes: usize,
    text_bytes: usize,
}

// SAFETY: the pages belong to this value alone and are written only while it is made and dropped.
unsafe impl Send for LockedText {}

impl LockedText {
    fn new(text: &str) -> Result<Self, SecretFault> {
        if let Some(at) = text.bytes().position(|byte| byte == 0) {
            return Err(InnerNul { at }.into());
        }
        let page = rustix::param::page_size();
        let bytes = (text.len() + 1).next_multiple_of(page);
        // SAFETY: a new anonymous mapping at an address of the kernel's choice disturbs nothing.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?
        };
        let pages = LockedText { start, bytes, text_bytes: text.len() };
        // Without the right to lock (RLIMIT_MEMLOCK 0) the secret could be swapped out. It is
        // still wiped; better that than no push at all.
        // SAFETY: the range is the mapping made above.
        unsafe { rustix::mm::mlock(start, bytes) }.ok();
        // SAFETY: as above.
        unsafe { rustix::mm::madvise(start, bytes, Advice::LinuxDontDump) }.ok();
        // SAFETY: the mapping is writable, zeroed and at least one byte longer than the text.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), start.cast(), text.len()) };
        Ok(pages)
    }

    fn lend(&self) -> imgf_str {
        imgf_str { ptr: self.start.cast_const().cast(), len: self.text_bytes }
    }
}

impl Drop for LockedText {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone, readable and writable over its whole length. A plugin
        // that still reads it after giving it back breaks its contract.
        wipe(unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.bytes) });
        // SAFETY: the mapping is ours and nothing of ours points into it any more. A failure would
        // leave wiped pages mapped, which harms nobody.
        unsafe { rustix::mm::munmap(self.start, self.bytes) }.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_readable_until_it_was_given_back_as_often_as_it_was_got() {
        let secrets = Secrets::default();
        let first = secrets.keep("ec2", "hunter2".into()).unwrap();
        let second = secrets.keep("ec2", "hunter2".into()).unwrap();
        secrets.release("ec2");
        assert_eq!(first.ptr, second.ptr);
        // SAFETY: got twice, given back once.
        assert_eq!(unsafe { first.text() }.unwrap(), Some("hunter2"));
        secrets.release("ec2");
        assert!(secrets.held.lock().unwrap().is_empty());
    }

    #[test]
    fn giving_back_what_was_never_got_is_ignored() {
        Secrets::default().release("nothing");
    }
}
