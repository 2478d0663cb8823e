//! How texts and statuses go between a plugin and the mock host: checked, recorded, kept readable.
//!
//! Used by every function of `host_calls.rs`. What breaks rule 305 (UTF-8, JSON) is found here.

use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::PoisonError;

use imagefactory_plugin_sdk::abi::{IMGF_E_INVALID_ARGUMENT, IMGF_OK, imgf_str};
use serde_json::Value;

use super::mock_host::{Call, Entered, MockHost};

/// Texts up to this length are kept for the search for secrets.
const TEXT_BYTES_MAX: usize = 1 << 20;

thread_local! {
    static LAST_ERROR: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The host behind a ctx.
///
/// # Safety
/// `ctx` is what the table carries; hosts are never freed.
pub(super) unsafe fn host(ctx: *mut c_void) -> Option<&'static MockHost> {
    // SAFETY: see above; NULL is refused.
    unsafe { ctx.cast::<MockHost>().cast_const().as_ref() }
}

/// Begins a function that answers a status: the host, or the status to return at once.
///
/// # Safety
/// As for `host`.
pub(super) unsafe fn enter(ctx: *mut c_void, call: Call) -> Result<&'static MockHost, i32> {
    // SAFETY: the caller's promise.
    let Some(host) = (unsafe { host(ctx) }) else { return Err(IMGF_E_INVALID_ARGUMENT) };
    match host.enter(call) {
        Entered::Go => Ok(host),
        Entered::Answer(code) => Err(refuse(code, &format!("the validator lets {call:?} fail"))),
    }
}

/// Remembers why, answers the status.
pub(super) fn refuse(code: i32, why: &str) -> i32 {
    LAST_ERROR.with(|last| *last.borrow_mut() = why.to_owned());
    code
}

/// A text of the plugin, checked. Absent is `None`.
///
/// # Safety
/// `text` is readable as text.h says.
pub(super) unsafe fn text(
    host: &MockHost,
    what: &'static str,
    text: imgf_str,
) -> Result<Option<String>, i32> {
    // SAFETY: the caller's promise.
    let Some(bytes) = (unsafe { text.bytes() }) else { return Ok(None) };
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            if text.len() <= TEXT_BYTES_MAX {
                host.state().recorded().texts.push((what, text.to_owned()));
            }
            Ok(Some(text.to_owned()))
        }
        Err(error) => {
            let place = error.valid_up_to();
            host.state().violates(305, format!("{what} is not UTF-8 at byte {place}"));
            Err(refuse(IMGF_E_INVALID_ARGUMENT, &format!("{what} is not UTF-8")))
        }
    }
}

/// A JSON text of the plugin, checked. Absent is `None`.
///
/// # Safety
/// As for `text`.
pub(super) unsafe fn json(
    host: &MockHost,
    what: &'static str,
    value: imgf_str,
) -> Result<Option<Value>, i32> {
    // SAFETY: the caller's promise.
    let Some(text) = (unsafe { text(host, what, value) })? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|error| {
        host.state().violates(305, format!("{what} is not JSON: {error}"));
        refuse(IMGF_E_INVALID_ARGUMENT, &format!("{what} is not JSON"))
    })
}

/// Hands out a text that stays readable; NUL-terminated.
///
/// # Safety
/// `out` is NULL or writable.
pub(super) unsafe fn answer(host: &MockHost, answer: &str, out: *mut imgf_str) -> i32 {
    if out.is_null() {
        return refuse(IMGF_E_INVALID_ARGUMENT, "out is NULL");
    }
    let mut bytes = answer.as_bytes().to_vec();
    bytes.push(0);
    let bytes = bytes.into_boxed_slice();
    // SAFETY: checked above; the boxed bytes do not move and are never freed.
    unsafe { *out = imgf_str { ptr: bytes.as_ptr(), len: answer.len() } };
    host.answers.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    IMGF_OK
}

/// # Safety
/// `out` is NULL or writable.
pub(super) unsafe fn nothing(out: *mut imgf_str, code: i32) -> i32 {
    if !out.is_null() {
        // SAFETY: checked.
        unsafe { *out = imgf_str::ABSENT };
    }
    code
}

/// Why the last call of this thread failed; empty where none did.
pub(super) fn last_error_text() -> String {
    LAST_ERROR.with(|last| last.borrow().clone())
}
