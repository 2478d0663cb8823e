//! How a running operation learns that it is to end: a flag, a descriptor, and `abort()`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use imagefactory_plugin_sdk::abi::imgf_instance;
use rustix::event::EventfdFlags;

/// One stage's wish to end.
#[derive(Debug)]
pub struct Cancellation {
    asked: AtomicBool,
    event: OwnedFd,
    abort: Mutex<Option<AbortCall>>,
}

/// A plugin's `abort` slot with the instance to call it on.
#[derive(Debug, Clone, Copy)]
pub struct AbortCall {
    /// Of the plugin's table.
    pub function: unsafe extern "C" fn(*mut imgf_instance),
    /// From `create`, not destroyed yet.
    pub instance: *mut imgf_instance,
}

// SAFETY: the ABI tags `abort` [any-thread]; the instance is only handed to it.
unsafe impl Send for AbortCall {}

impl Cancellation {
    /// Nobody asked yet.
    pub fn new() -> io::Result<Self> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Cancellation { asked: AtomicBool::new(false), event, abort: Mutex::new(None) })
    }

    /// Is the stage to end? Async-signal-safe.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Readable once the stage is to end.
    pub fn descriptor(&self) -> i32 {
        self.event.as_raw_fd()
    }

    /// Asks the stage to end by flag and descriptor. May come twice; never blocks.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Release);
        // A counter that is already up makes the descriptor no more readable; nothing is lost.
        rustix::io::write(&self.event, &1u64.to_ne_bytes()).ok();
    }

    /// Calls the plugin's `abort`, if an operation of its runs. Blocks as long as that does, so
    /// callers that have more to do call it on a thread of its own.
    pub fn abort(&self) {
        // Held during the call: disarm waits, so that the instance outlives it.
        let abort = self.abort.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = *abort {
            // SAFETY: the plugin gave the function in a table that was checked; the instance is
            // alive until disarm, which waits for this lock.
            unsafe { (call.function)(call.instance) };
        }
    }

    /// From now on `abort` calls the plugin.
    pub fn arm(&self, call: AbortCall) {
        *self.abort.lock().unwrap_or_else(PoisonError::into_inner) = Some(call);
    }

    /// From now on `abort` leaves the plugin alone; waits for a running `abort`.
    pub fn disarm(&self) {
        *self.abort.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
