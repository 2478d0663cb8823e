//! One instance behind the opaque pointer, and the guard around every call of it.
//!
//! Nothing unwinds across the boundary: a panic becomes `IMGF_E_PANIC` with its text, and the
//! instance answers nothing else from then on, because what it was doing is half done. An error is
//! reported exactly once, with the code that is returned.

use std::any::Any;
use std::mem::ManuallyDrop;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use super::error::{ErrorCode, PluginError, Result};
use super::host::{Host, LogLevel};
use super::host_table::HostTable;
use super::plugin::Plugin;
use super::stage::Stage;
use crate::abi::*;

/// What an `imgf_instance` pointer of this SDK points to.
struct Instance<T> {
    host: Host,
    poisoned: AtomicBool,
    plugin: T,
}

/// `imgf_plugin.create` of a Rust plugin.
///
/// # Safety
/// As descriptor.h says: `host` stays valid until `destroy` returns, `out` is writable.
pub unsafe extern "C" fn create<T: Plugin>(
    host: *const imgf_host,
    out: *mut *mut imgf_instance,
) -> i32 {
    // SAFETY: the caller's promise; checked for NULL, alignment, size and missing slots.
    let table = match unsafe { HostTable::check(host) } {
        Some(table) if !out.is_null() => Arc::new(table),
        _ => return IMGF_E_INVALID_ARGUMENT,
    };
    let host = Host { table };
    match stop_panics(|| T::create(host.clone())) {
        Ok(plugin) => {
            let instance = Instance { host, poisoned: AtomicBool::new(false), plugin };
            let pointer = Box::into_raw(Box::new(instance)) as *mut imgf_instance;
            // SAFETY: not NULL, and writable as the caller promises.
            unsafe { *out = pointer };
            IMGF_OK
        }
        Err(error) => {
            host.report(&error);
            host.table.close();
            error.code().number()
        }
    }
}

/// `imgf_plugin.destroy` of a Rust plugin.
///
/// # Safety
/// `this` is NULL or came from [`create`] of the same type and is used by nobody any more.
pub unsafe extern "C" fn destroy<T: Plugin>(this: *mut imgf_instance) {
    if this.is_null() {
        return;
    }
    // SAFETY: the caller's promise: made by Box::into_raw in `create`, given back once.
    let instance = unsafe { Box::from_raw(this as *mut Instance<T>) };
    let Instance { host, plugin, .. } = *instance;
    let dropped = stop_panics(move || {
        drop(plugin);
        Ok(())
    });
    if let Err(error) = dropped {
        host.log(LogLevel::Error, &format!("while the instance was destroyed: {error}"));
    }
    host.table.close();
}

/// `abort` of a Rust plugin.
///
/// # Safety
/// `this` is NULL or a living instance of the same type.
pub unsafe extern "C" fn abort<T: Plugin>(this: *mut imgf_instance) {
    // SAFETY: the caller's promise.
    if let Some(instance) = unsafe { (this as *const Instance<T>).as_ref() } {
        let aborted = stop_panics(|| {
            instance.plugin.abort();
            Ok(())
        });
        if let Err(error) = aborted {
            instance.poisoned.store(true, Ordering::Release);
            instance.host.log(LogLevel::Error, &format!("in abort: {error}"));
        }
    }
}

/// Runs one operation on an instance and turns its end into a status.
///
/// # Safety
/// `this` is NULL or a living instance of the same type.
pub(super) unsafe fn run<T: Plugin>(
    this: *mut imgf_instance,
    operation: impl FnOnce(&T) -> Result<()>,
) -> i32 {
    // SAFETY: the caller's promise.
    let instance = match unsafe { (this as *const Instance<T>).as_ref() } {
        Some(instance) => instance,
        None => return IMGF_E_INVALID_ARGUMENT,
    };
    let outcome = if instance.poisoned.load(Ordering::Acquire) {
        Err(PluginError::new(ErrorCode::Panic, "this plugin instance panicked before")
            .hint("make a new instance"))
    } else {
        stop_panics(|| operation(&instance.plugin))
    };
    match outcome {
        Ok(()) => IMGF_OK,
        Err(error) => {
            if error.code() == ErrorCode::Panic {
                instance.poisoned.store(true, Ordering::Release);
            }
            instance.host.report(&error);
            error.code().number()
        }
    }
}

/// The same for an operation that gets a stage.
///
/// # Safety
/// As [`run`]; `stage` is NULL or readable, with all its texts, until this returns.
pub(super) unsafe fn run_stage<T: Plugin>(
    this: *mut imgf_instance,
    stage: *const imgf_stage,
    operation: impl FnOnce(&T, &Stage<'_>) -> Result<()>,
) -> i32 {
    // SAFETY: the caller's promises; the stage does not outlive the closure.
    unsafe { run(this, |plugin: &T| operation(plugin, &Stage::read(stage)?)) }
}

/// Runs plugin code; a panic becomes an error with its text.
fn stop_panics<R>(code: impl FnOnce() -> Result<R>) -> Result<R> {
    // AssertUnwindSafe: what the code left half done is not looked at again, see `poisoned`.
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(outcome) => outcome,
        Err(payload) => {
            // Never dropped: the payload's own Drop may panic again, outside of any catch.
            let payload = ManuallyDrop::new(payload);
            Err(PluginError::new(ErrorCode::Panic, format!("panic: {}", text_of(&**payload))))
        }
    }
}

/// What a panic said.
fn text_of(payload: &(dyn Any + Send)) -> &str {
    match (payload.downcast_ref::<&'static str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "(it carried no text)",
    }
}
