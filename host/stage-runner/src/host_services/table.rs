//! `imgf_host` and the further host tables as C sees them.
//!
//! Each function finds its [`HostServices`] in `ctx`, reads its arguments, calls, and turns the
//! outcome into a status. No panic leaves. The services behind `ctx` are never freed, so that a
//! plugin's stray thread that calls after `destroy` is refused instead of reading freed memory.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use imagefactory_model::frames::PluginErrorReport;
use imagefactory_model::stage::{Artifact, JournalEntry, JournalEvent, LogLevel, Progress};
use imagefactory_plugin_sdk::abi::{
    IMGF_E_INTERNAL, IMGF_E_INVALID_ARGUMENT, IMGF_E_INVALID_STATE, IMGF_E_NOT_FOUND,
    IMGF_ERR_RETRYABLE, IMGF_ERR_USER_FAULT, IMGF_HOST_ARTIFACT_V1, IMGF_HOST_CHECKPOINT_V1,
    IMGF_HOST_RESERVE_V1, IMGF_JOURNAL_CREATED, IMGF_JOURNAL_REMOVED, IMGF_JOURNAL_SCRATCH,
    IMGF_JOURNAL_WILL_CREATE, IMGF_LOG_DEBUG, IMGF_LOG_ERROR, IMGF_LOG_INFO, IMGF_LOG_WARN,
    IMGF_OK, imgf_error, imgf_host, imgf_host_artifact_v1, imgf_host_checkpoint_v1,
    imgf_host_reserve_v1, imgf_journal_entry, imgf_progress, imgf_str, read_growing,
};

use super::arguments::{JSON_BYTES_MAX, NAME_BYTES_MAX, data, json, line, name, object};
use super::{HostFault, HostServices, last_error};

/// The table for one stage and the services behind it.
pub struct HostTable {
    services: &'static HostServices,
    table: &'static imgf_host,
}

impl HostTable {
    /// Makes the table. Neither it nor the services are ever freed; the process ends instead.
    pub fn new(services: HostServices, abi_version: u32) -> Self {
        let services: &'static HostServices = Box::leak(Box::new(services));
        let ctx = std::ptr::from_ref(services).cast_mut().cast::<c_void>();
        let table = Box::leak(Box::new(imgf_host {
            struct_size: imgf_host::SIZE,
            abi_version,
            ctx,
            log: Some(log),
            progress: Some(progress),
            is_cancelled: Some(is_cancelled),
            cancel_fd: Some(cancel_fd),
            report_error: Some(report_error),
            set_result: Some(set_result),
            journal: Some(journal),
            config_get: Some(config_get),
            path_get: Some(path_get),
            image_get: Some(image_get),
            secret_get: Some(secret_get),
            secret_release: Some(secret_release),
            add_cloud_plugin_content: Some(add_cloud_plugin_content),
            last_error: Some(last_error_get),
            get_interface: Some(get_interface),
        }));
        HostTable { services, table }
    }

    /// For `imgf_plugin.create`.
    pub fn as_ptr(&self) -> *const imgf_host {
        self.table
    }

    /// The safe side.
    pub fn services(&self) -> &'static HostServices {
        self.services
    }
}

static CHECKPOINT: imgf_host_checkpoint_v1 = imgf_host_checkpoint_v1 {
    struct_size: imgf_host_checkpoint_v1::SIZE,
    reserved0: 0,
    put: Some(checkpoint_put),
    get: Some(checkpoint_get),
};

static ARTIFACT: imgf_host_artifact_v1 = imgf_host_artifact_v1 {
    struct_size: imgf_host_artifact_v1::SIZE,
    reserved0: 0,
    add: Some(artifact_add),
};

static RESERVE: imgf_host_reserve_v1 = imgf_host_reserve_v1 {
    struct_size: imgf_host_reserve_v1::SIZE,
    reserved0: 0,
    lock: Some(lock),
    unlock: Some(unlock),
    next_listen_port: Some(next_listen_port),
};

/// The services behind `ctx`; `None` for NULL.
///
/// # Safety
/// `ctx` is NULL or the one of a [`HostTable`].
unsafe fn services<'a>(ctx: *mut c_void) -> Option<&'a HostServices> {
    // SAFETY: the caller's promise; the services are never freed and only shared.
    unsafe { ctx.cast::<HostServices>().as_ref() }
}

/// Calls the services and makes a status of the outcome.
///
/// # Safety
/// As for [`services`].
unsafe fn serve(ctx: *mut c_void, act: impl FnOnce(&HostServices) -> Result<(), HostFault>) -> i32 {
    // SAFETY: the caller's promise.
    let Some(services) = (unsafe { services(ctx) }) else { return IMGF_E_INVALID_ARGUMENT };
    let served = catch_unwind(AssertUnwindSafe(|| {
        if services.has_ended() {
            let message = "a host function was called after destroy had returned";
            return Err(HostFault::new(IMGF_E_INVALID_STATE, message));
        }
        act(services)
    }));
    match served {
        Ok(Ok(())) => {
            last_error::clear();
            IMGF_OK
        }
        Ok(Err(fault)) => {
            last_error::set(&fault.message);
            fault.code
        }
        Err(_) => IMGF_E_INTERNAL,
    }
}

/// As [`serve`], for functions that hand something out: `*out` is set in any case.
///
/// # Safety
/// As for [`services`]; `out` is NULL or points to a writable `T`.
unsafe fn serve_out<T: Copy>(
    ctx: *mut c_void,
    out: *mut T,
    nothing: T,
    act: impl FnOnce(&HostServices) -> Result<T, HostFault>,
) -> i32 {
    let writable = !out.is_null() && out.is_aligned();
    if writable {
        // SAFETY: not NULL, aligned, writable as the caller promises.
        unsafe { *out = nothing };
    }
    let act = |services: &HostServices| {
        if !writable {
            return Err(HostFault::argument("the place for the answer is NULL or misaligned"));
        }
        let answer = act(services)?;
        // SAFETY: as above.
        unsafe { *out = answer };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { serve(ctx, act) }
}

unsafe extern "C" fn log(ctx: *mut c_void, level: u32, message: imgf_str, fields: imgf_str) {
    let act = |services: &HostServices| {
        // SAFETY: texts are readable for the call (host.h).
        let (message, fields) = unsafe { (line(message), line(fields)) };
        let level = match level {
            IMGF_LOG_ERROR => LogLevel::Error,
            IMGF_LOG_WARN => LogLevel::Warn,
            IMGF_LOG_INFO => LogLevel::Info,
            IMGF_LOG_DEBUG => LogLevel::Debug,
            _ => LogLevel::Trace,
        };
        // Fields that are no object are kept as text: a log line is never refused.
        let fields =
            fields.filter(|text| !text.is_empty()).map(|text| match serde_json::from_str(&text) {
                Ok(value @ serde_json::Value::Object(_)) => value,
                _ => serde_json::json!({ "fields": text }),
            });
        services.log(level, message.unwrap_or_default(), fields);
        Ok(())
    };
    // SAFETY: ctx is the table's own. The function returns nothing, so neither does the outcome.
    unsafe { serve(ctx, act) };
}

unsafe extern "C" fn progress(ctx: *mut c_void, report: *const imgf_progress) -> i32 {
    let act = |services: &HostServices| {
        // SAFETY: the report is readable for the call and states its size.
        let report = unsafe { read_growing(report) }.ok_or_else(no_struct)?;
        // SAFETY: as above, for its texts.
        let (phase, message) = unsafe { (line(report.phase), line(report.message)) };
        services.progress(Progress {
            phase: phase_id(phase.unwrap_or_default())?,
            message: message.unwrap_or_default(),
            done: report.done,
            total: report.total,
        })
    };
    // SAFETY: ctx is the table's own.
    unsafe { serve(ctx, act) }
}

/// 1 to 64 of a-z, 0-9 and '-' (progress.h); the supervisor ends a stage that sends another one.
fn phase_id(phase: String) -> Result<String, HostFault> {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (1..=64).contains(&phase.len()) && phase.chars().all(letter) {
        Ok(phase)
    } else {
        Err(HostFault::argument("a progress phase is 1 to 64 of a-z, 0-9 and '-'"))
    }
}

/// Async-signal-safe: no lock, no allocation, no thread-local.
unsafe extern "C" fn is_cancelled(ctx: *mut c_void) -> i32 {
    // SAFETY: ctx is the table's own.
    let services = unsafe { services(ctx) };
    i32::from(services.is_some_and(|services| services.cancellation.is_asked()))
}

unsafe extern "C" fn cancel_fd(ctx: *mut c_void) -> i32 {
    // SAFETY: ctx is the table's own.
    let services = unsafe { services(ctx) };
    services
        .filter(|services| !services.has_ended())
        .map_or(-1, |services| services.cancellation.descriptor())
}

unsafe extern "C" fn report_error(ctx: *mut c_void, error: *const imgf_error) -> i32 {
    let act = |services: &HostServices| {
        // SAFETY: the record is readable for the call and states its size.
        let error = unsafe { read_growing(error) }.ok_or_else(no_struct)?;
        // SAFETY: as above, for its texts.
        let (message, hint, vendor_code, details) = unsafe {
            (
                line(error.message).unwrap_or_default(),
                line(error.hint).unwrap_or_default(),
                line(error.vendor_code).unwrap_or_default(),
                object(error.details_json, "details_json"),
            )
        };
        // Bad details must not cost the message: it is the last thing this plugin says.
        let details = details
            .unwrap_or_else(|fault| Some(serde_json::json!({ "unreadable": fault.message })));
        services.report_error(PluginErrorReport {
            code: error.code,
            retryable: error.flags & IMGF_ERR_RETRYABLE != 0,
            user_fault: error.flags & IMGF_ERR_USER_FAULT != 0,
            os_errno: error.os_errno,
            retry_after_ms: error.retry_after_ms,
            message,
            hint,
            vendor_code,
            details,
        })
    };
    // SAFETY: ctx is the table's own.
    unsafe { serve(ctx, act) }
}

unsafe extern "C" fn set_result(ctx: *mut c_void, key: imgf_str, value: imgf_str) -> i32 {
    let act = |services: &HostServices| {
        // SAFETY: texts are readable for the call.
        let (key, value) = unsafe { (name(key, "the key")?, json(value, "value_json")?) };
        services.set_result(key.to_owned(), value)
    };
    // SAFETY: ctx is the table's own.
    unsafe { serve(ctx, act) }
}

unsafe extern "C" fn journal(ctx: *mut c_void, entry: *const imgf_journal_entry) -> i32 {
    let act = |services: &HostServices| {
        // SAFETY: the entry is readable for the call and states its size.
        let entry = unsafe { read_growing(entry) }.ok_or_else(no_struct)?;
        let event = match entry.event {
            IMGF_JOURNAL_WILL_CREATE => JournalEvent::WillCreate,
            IMGF_JOURNAL_CREATED => JournalEvent::Created,
            IMGF_JOURNAL_REMOVED => JournalEvent::Removed,
            other => return Err(HostFault::argument(format!("there is no event {other}"))),
        };
        // SAFETY: as above, for its texts.
        let entry = unsafe {
            JournalEntry {
                event,
                scratch: entry.flags & IMGF_JOURNAL_SCRATCH != 0,
                token: name(entry.token, "the token")?.to_owned(),
                kind: name(entry.kind, "the kind")?.to_owned(),
                resource_id: data(entry.resource_id, "the resource_id", NAME_BYTES_MAX)?
                    .map(str::to_owned),
                details: object(entry.details_json, "details_json")?,
            }
        };
        services.journal(entry)
    };
    // SAFETY: ctx is the table's own.
    unsafe { serve(ctx, act) }
}

unsafe extern "C" fn config_get(ctx: *mut c_void, key: imgf_str, out: *mut imgf_str) -> i32 {
    // SAFETY: ctx is the table's own; texts are readable and out writable for the call.
    unsafe {
        serve_out(ctx, out, imgf_str::ABSENT, |services| services.config_get(name(key, "the key")?))
    }
}

unsafe extern "C" fn path_get(ctx: *mut c_void, which: u32, out: *mut imgf_str) -> i32 {
    // SAFETY: ctx is the table's own; out is writable for the call.
    unsafe { serve_out(ctx, out, imgf_str::ABSENT, |services| services.path_get(which)) }
}

unsafe extern "C" fn image_get(ctx: *mut c_void, id: imgf_str, out: *mut imgf_str) -> i32 {
    // SAFETY: ctx is the table's own; texts are readable and out writable for the call.
    unsafe {
        serve_out(ctx, out, imgf_str::ABSENT, |services| {
            services.image_get(name(id, "the image id")?)
        })
    }
}

unsafe extern "C" fn secret_get(ctx: *mut c_void, secret: imgf_str, out: *mut imgf_str) -> i32 {
    // SAFETY: ctx is the table's own; texts are readable and out writable for the call.
    unsafe {
        serve_out(ctx, out, imgf_str::ABSENT, |services| {
            services.secret_get(name(secret, "the secret's name")?)
        })
    }
}

unsafe extern "C" fn secret_release(ctx: *mut c_void, secret: imgf_str) {
    let act = |services: &HostServices| {
        // SAFETY: texts are readable for the call.
        services.secret_release(unsafe { name(secret, "the secret's name") }?);
        Ok(())
    };
    // SAFETY: ctx is the table's own. The function returns nothing.
    unsafe { serve(ctx, act) };
}

unsafe extern "C" fn add_cloud_plugin_content(ctx: *mut c_void, content: imgf_str) -> i32 {
    let act = |services: &HostServices| {
        // SAFETY: texts are readable for the call.
        let content = unsafe { object(content, "content_json") }?
            .ok_or_else(|| HostFault::argument("content_json is missing"))?;
        services.add_cloud_plugin_content(content)
    };
    // SAFETY: ctx is the table's own.
    unsafe { serve(ctx, act) }
}

/// Does not go through `serve`: asking for the reason must not replace it.
unsafe extern "C" fn last_error_get(ctx: *mut c_void, out: *mut imgf_str) -> i32 {
    if ctx.is_null() || out.is_null() || !out.is_aligned() {
        return IMGF_E_INVALID_ARGUMENT;
    }
    let reason = last_error::get();
    // SAFETY: not NULL, aligned, writable for the call.
    unsafe { *out = reason.unwrap_or(imgf_str::ABSENT) };
    if reason.is_some() { IMGF_OK } else { IMGF_E_NOT_FOUND }
}

unsafe extern "C" fn get_interface(_ctx: *mut c_void, id: imgf_str) -> *const c_void {
    // SAFETY: texts are readable for the call.
    match unsafe { id.text() } {
        Ok(Some(IMGF_HOST_CHECKPOINT_V1)) => std::ptr::from_ref(&CHECKPOINT).cast(),
        Ok(Some(IMGF_HOST_ARTIFACT_V1)) => std::ptr::from_ref(&ARTIFACT).cast(),
        Ok(Some(IMGF_HOST_RESERVE_V1)) => std::ptr::from_ref(&RESERVE).cast(),
        _ => std::ptr::null(),
    }
}

unsafe extern "C" fn checkpoint_put(ctx: *mut c_void, key: imgf_str, value: imgf_str) -> i32 {
    let act = |services: &HostServices| {
        // SAFETY: texts are readable for the call.
        let (key, value) = unsafe {
            let text = data(value, "value_json", JSON_BYTES_MAX)?.unwrap_or_default().to_owned();
            json(value, "value_json")?;
            (name(key, "the key")?, text)
        };
        services.checkpoint_put(key, value)
    };
    // SAFETY: ctx is the table's own.
    unsafe { serve(ctx, act) }
}

unsafe extern "C" fn checkpoint_get(ctx: *mut c_void, key: imgf_str, out: *mut imgf_str) -> i32 {
    // SAFETY: ctx is the table's own; texts are readable and out writable for the call.
    unsafe {
        serve_out(ctx, out, imgf_str::ABSENT, |services| {
            services.checkpoint_get(name(key, "the key")?)
        })
    }
}

unsafe extern "C" fn artifact_add(
    ctx: *mut c_void,
    artifact: imgf_str,
    media_type: imgf_str,
    path: imgf_str,
) -> i32 {
    let act = |services: &HostServices| {
        // SAFETY: texts are readable for the call.
        let artifact = unsafe {
            Artifact {
                name: artifact_name(name(artifact, "the artifact's name")?)?,
                media_type: name(media_type, "the media type")?.to_owned(),
                path: PathBuf::from(name(path, "the path")?),
            }
        };
        services.artifact_add(artifact)
    };
    // SAFETY: ctx is the table's own.
    unsafe { serve(ctx, act) }
}

/// `[A-Za-z0-9][A-Za-z0-9._-]{0,127}` (host_artifact.h).
fn artifact_name(name: &str) -> Result<String, HostFault> {
    let fits = name.len() <= 128
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if fits {
        Ok(name.to_owned())
    } else {
        Err(HostFault::argument(
            "an artifact's name is letters, digits, '.', '_', '-', at most 128, beginning with a letter or digit",
        ))
    }
}

unsafe extern "C" fn lock(ctx: *mut c_void, lock: imgf_str, timeout_ms: u64) -> i32 {
    let act = |services: &HostServices| {
        // SAFETY: texts are readable for the call.
        services.lock(unsafe { name(lock, "the lock's name") }?.to_owned(), timeout_ms)
    };
    // SAFETY: ctx is the table's own.
    unsafe { serve(ctx, act) }
}

unsafe extern "C" fn unlock(ctx: *mut c_void, lock: imgf_str) -> i32 {
    let act = |services: &HostServices| {
        // SAFETY: texts are readable for the call.
        services.unlock(unsafe { name(lock, "the lock's name") }?.to_owned())
    };
    // SAFETY: ctx is the table's own.
    unsafe { serve(ctx, act) }
}

unsafe extern "C" fn next_listen_port(ctx: *mut c_void, out: *mut u32) -> i32 {
    // SAFETY: ctx is the table's own; out is writable for the call.
    unsafe { serve_out(ctx, out, 0, |services| services.next_listen_port().map(u32::from)) }
}

fn no_struct() -> HostFault {
    HostFault::argument("the struct is NULL, misaligned, or its struct_size is too small")
}
