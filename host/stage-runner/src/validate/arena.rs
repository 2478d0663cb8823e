//! Memory for what a plugin is given, that can be taken away again.
//!
//! Each text lies at the end of its own pages, followed by its NUL and then by a page that cannot
//! be read. So a plugin that reads behind a text faults at once, and one that kept a pointer faults
//! when it uses it after [`Arena::take_away`].

use std::sync::Mutex;
use std::sync::PoisonError;

/// Mappings of one call.
#[derive(Default)]
pub(super) struct Arena {
    mappings: Mutex<Vec<(usize, usize)>>,
}

/// One page on the machines we run on; larger pages only make the guard larger.
fn page_bytes() -> usize {
    rustix::param::page_size()
}

impl Arena {
    /// Copies `bytes` so that they end right before an unreadable page. `None`: no memory.
    pub(super) fn place(&self, bytes: &[u8], alignment: usize) -> Option<*const u8> {
        let page = page_bytes();
        let used = bytes.len().next_multiple_of(alignment.max(1)).max(1);
        let length = used.next_multiple_of(page) + page;
        let start = self.map(length)?;
        let guard = start + length - page;
        // SAFETY: the last page of our own fresh mapping.
        unsafe { libc::mprotect(guard as *mut libc::c_void, page, libc::PROT_NONE) };
        let at = (guard - used) as *mut u8;
        // SAFETY: `used` bytes before the guard belong to this mapping; nobody else knows of it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
        Some(at)
    }

    fn map(&self, length: usize) -> Option<usize> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh anonymous mapping; the result is checked.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        let mut mappings = self.mappings.lock().unwrap_or_else(PoisonError::into_inner);
        mappings.push((start as usize, length));
        Some(start as usize)
    }

    /// Makes everything unreadable but keeps the addresses taken, so that nothing else lands there.
    pub(super) fn take_away(&self) {
        for (start, length) in self.mappings.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // SAFETY: our own mappings; whoever still points there is to fault.
            unsafe { libc::mprotect(*start as *mut libc::c_void, *length, libc::PROT_NONE) };
        }
    }

    /// Gives the addresses back.
    fn unmap(&self) {
        for (start, length) in
            self.mappings.lock().unwrap_or_else(PoisonError::into_inner).drain(..)
        {
            // SAFETY: our own mappings, which nothing of ours uses any more.
            unsafe { libc::munmap(start as *mut libc::c_void, length) };
        }
    }

    /// Leaves the mappings as they are for the rest of the process.
    pub(super) fn leak(&self) {
        self.mappings.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.unmap();
    }
}
