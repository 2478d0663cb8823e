//! The host's table after it was checked: every slot there, usable only while the instance lives.
//!
//! The gate makes the handle safe to keep: a thread, a static or a log layer that outlives the
//! instance gets an error instead of calling into a table that is gone.

use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, RwLock};

use super::error::{ErrorCode, PluginError, Result};
use crate::abi::{imgf_host, imgf_str, IMGF_OK};

macro_rules! host_slots {
    ($( $slot:ident : $type:ty, )+) => {
        /// The host's functions, none of them missing.
        #[derive(Clone, Copy)]
        pub(super) struct Slots {
            pub(super) ctx: *mut c_void,
            $( pub(super) $slot: $type, )+
        }

        impl Slots {
            /// `None`: a slot is NULL.
            fn of(table: &imgf_host) -> Option<Slots> {
                Some(Slots { ctx: table.ctx, $( $slot: table.$slot?, )+ })
            }
        }
    };
}

type Ctx = *mut c_void;

host_slots! {
    log: unsafe extern "C" fn(Ctx, u32, imgf_str, imgf_str),
    progress: unsafe extern "C" fn(Ctx, *const crate::abi::imgf_progress) -> i32,
    is_cancelled: unsafe extern "C" fn(Ctx) -> i32,
    cancel_fd: unsafe extern "C" fn(Ctx) -> i32,
    report_error: unsafe extern "C" fn(Ctx, *const crate::abi::imgf_error) -> i32,
    set_result: unsafe extern "C" fn(Ctx, imgf_str, imgf_str) -> i32,
    journal: unsafe extern "C" fn(Ctx, *const crate::abi::imgf_journal_entry) -> i32,
    config_get: unsafe extern "C" fn(Ctx, imgf_str, *mut imgf_str) -> i32,
    path_get: unsafe extern "C" fn(Ctx, u32, *mut imgf_str) -> i32,
    image_get: unsafe extern "C" fn(Ctx, imgf_str, *mut imgf_str) -> i32,
    secret_get: unsafe extern "C" fn(Ctx, imgf_str, *mut imgf_str) -> i32,
    secret_release: unsafe extern "C" fn(Ctx, imgf_str),
    add_cloud_plugin_content: unsafe extern "C" fn(Ctx, imgf_str) -> i32,
    last_error: unsafe extern "C" fn(Ctx, *mut imgf_str) -> i32,
    get_interface: unsafe extern "C" fn(Ctx, imgf_str) -> *const c_void,
}

/// The checked table behind every [`super::Host`] of one instance.
pub(super) struct HostTable {
    slots: Slots,
    /// True until `destroy` is done with the plugin.
    open: RwLock<bool>,
    /// Two threads must not get and release one secret at the same time: releasing wipes it.
    secrets: Mutex<()>,
}

// SAFETY: every function of the table may be called from any thread (host.h), and `ctx` is only
// handed to them.
unsafe impl Send for HostTable {}
// SAFETY: as above.
unsafe impl Sync for HostTable {}

impl HostTable {
    /// Checks the table: its size covers what this SDK knows, and no slot is NULL. `None`: a host
    /// that breaks the contract of host.h.
    ///
    /// # Safety
    /// `table` is NULL or points to a host table that stays valid until [`HostTable::close`].
    pub(super) unsafe fn check(table: *const imgf_host) -> Option<HostTable> {
        if table.is_null() || (table as usize) % std::mem::align_of::<imgf_host>() != 0 {
            return None;
        }
        // SAFETY: not NULL, aligned, and the first field of every host table.
        let stated = unsafe { (*table).struct_size };
        if stated < imgf_host::SIZE {
            return None;
        }
        // SAFETY: the table is at least as large as our twin of it.
        let slots = Slots::of(unsafe { &*table })?;
        Some(HostTable { slots, open: RwLock::new(true), secrets: Mutex::new(()) })
    }

    /// No call gets through after this; waits for those that are on their way.
    pub(super) fn close(&self) {
        *self.open.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = false;
    }

    /// Holds the secrets' lock.
    pub(super) fn lock_secrets(&self) -> MutexGuard<'_, ()> {
        self.secrets.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Lets `call` use the table; `None` if the instance has ended.
    pub(super) fn visit<R>(&self, call: impl FnOnce(&Slots) -> R) -> Option<R> {
        let open = self.open.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        if *open {
            Some(call(&self.slots))
        } else {
            None
        }
    }

    /// Calls a service; its status becomes a `Result` with the host's own words.
    pub(super) fn call(&self, service: &str, call: impl FnOnce(&Slots) -> i32) -> Result<()> {
        self.visit(|slots| status(slots, service, call(slots))).unwrap_or_else(|| ended(service))
    }

    /// Calls a service that hands out text, and copies it.
    pub(super) fn call_for_text(
        &self,
        service: &str,
        call: impl FnOnce(&Slots, *mut imgf_str) -> i32,
    ) -> Result<String> {
        let answer = self.visit(|slots| {
            let mut out = imgf_str::ABSENT;
            status(slots, service, call(slots, &mut out))?;
            // SAFETY: the service succeeded, so `out` is readable text until destroy returns or the
            // secret is released; the gate is held and secrets have their lock.
            match unsafe { out.text() } {
                Ok(Some(text)) => Ok(text.to_owned()),
                Ok(None) => Err(broken(service, "said success and gave no text")),
                Err(_) => Err(broken(service, "gave text that is not UTF-8")),
            }
        });
        answer.unwrap_or_else(|| ended(service))
    }
}

/// A status as a `Result`; must run on the thread that made the call, before its next one.
fn status(slots: &Slots, service: &str, code: i32) -> Result<()> {
    if code == IMGF_OK {
        return Ok(());
    }
    let mut words = imgf_str::ABSENT;
    // SAFETY: the slot's contract: ctx first, a place for text second.
    let told = unsafe { (slots.last_error)(slots.ctx, &mut words) };
    let reason = if told == IMGF_OK {
        // SAFETY: readable until this thread's next host call; copied before that.
        unsafe { words.bytes() }.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    } else {
        None
    };
    let reason = reason.unwrap_or_else(|| format!("status {code}"));
    Err(PluginError::new(ErrorCode::from_number(code), format!("host.{service}: {reason}")))
}

fn ended<T>(service: &str) -> Result<T> {
    let message = format!("host.{service} was called after the plugin instance had ended");
    Err(PluginError::new(ErrorCode::InvalidState, message))
}

fn broken(service: &str, what: &str) -> PluginError {
    PluginError::new(ErrorCode::Internal, format!("host.{service} {what}"))
}
