//! Reads what a plugin passes to a host function: copied, checked, bounded.
//!
//! Texts for people (log lines, messages) are repaired and cut; texts that are data (keys, JSON)
//! are refused when they are not UTF-8, not JSON, or too long.

use imagefactory_plugin_sdk::abi::imgf_str;
use serde_json::Value;

use super::HostFault;

/// Longest log line and longest text for people; log.h promises 64 KiB.
pub(super) const LINE_BYTES_MAX: usize = 64 << 10;
/// Longest name: key, token, kind, resource id, phase. Provider ids (ARNs, URNs, URLs) stay below
/// 2 KiB.
pub(super) const NAME_BYTES_MAX: usize = 4 << 10;
/// Longest JSON document: an ICICLE of 20 000 packages is 2 MiB; JSON escapes can double it, and
/// the frame must still fit.
pub(super) const JSON_BYTES_MAX: usize = 8 << 20;

/// A text for people: bad UTF-8 is replaced, what is too long is cut.
///
/// # Safety
/// As for [`imgf_str::bytes`].
pub(super) unsafe fn line(text: imgf_str) -> Option<String> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { text.bytes() }?;
    let cut = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    Some(String::from_utf8_lossy(cut).into_owned())
}

/// A text that is data, if there is one.
///
/// # Safety
/// As for [`imgf_str::bytes`].
pub(super) unsafe fn data<'a>(
    text: imgf_str,
    what: &str,
    bytes_max: usize,
) -> Result<Option<&'a str>, HostFault> {
    if text.ptr.is_null() {
        if text.len != 0 {
            let message = format!("{what} is NULL with a length of {}", text.len);
            return Err(HostFault::argument(message));
        }
        return Ok(None);
    }
    if text.len > bytes_max {
        let message = format!("{what} has {} bytes; at most {bytes_max} are taken", text.len);
        return Err(HostFault::argument(message));
    }
    // SAFETY: the caller's promise.
    let text = unsafe { text.text() };
    text.map_err(|error| HostFault::argument(format!("{what} is not UTF-8: {error}")))
}

/// A name that must be there and say something.
///
/// # Safety
/// As for [`imgf_str::bytes`].
pub(super) unsafe fn name<'a>(text: imgf_str, what: &str) -> Result<&'a str, HostFault> {
    // SAFETY: the caller's promise.
    let name = unsafe { data(text, what, NAME_BYTES_MAX) }?.unwrap_or_default();
    if name.is_empty() {
        return Err(HostFault::argument(format!("{what} is missing")));
    }
    Ok(name)
}

/// A JSON document that must be there.
///
/// # Safety
/// As for [`imgf_str::bytes`].
pub(super) unsafe fn json(text: imgf_str, what: &str) -> Result<Value, HostFault> {
    // SAFETY: the caller's promise.
    let text = unsafe { data(text, what, JSON_BYTES_MAX) }?
        .ok_or_else(|| HostFault::argument(format!("{what} is missing")))?;
    serde_json::from_str(text)
        .map_err(|error| HostFault::argument(format!("{what} is not JSON: {error}")))
}

/// A JSON object, if there is one.
///
/// # Safety
/// As for [`imgf_str::bytes`].
pub(super) unsafe fn object(text: imgf_str, what: &str) -> Result<Option<Value>, HostFault> {
    if text.is_absent() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let value = unsafe { json(text, what) }?;
    if value.is_object() {
        Ok(Some(value))
    } else {
        Err(HostFault::argument(format!("{what} must be a JSON object")))
    }
}
