//! The functions behind the fake host's table.

use std::ffi::c_void;
use std::sync::atomic::Ordering;

use imagefactory_plugin_sdk::abi::*;

use super::{ErrorRecord, FakeHost, JournalRecord, Line, Record};

type Ctx = *mut c_void;

pub(super) fn table(ctx: Ctx) -> imgf_host {
    imgf_host {
        struct_size: imgf_host::SIZE,
        abi_version: IMGF_ABI_1_0,
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
        last_error: Some(last_error),
        get_interface: Some(get_interface),
    }
}

fn host<'a>(ctx: Ctx) -> &'a FakeHost {
    // SAFETY: the table's ctx is the FakeHost, which outlives every instance of a test.
    let host = unsafe { &*(ctx as *const FakeHost) };
    host.calls.fetch_add(1, Ordering::SeqCst);
    host
}

fn text(value: imgf_str) -> Option<String> {
    // SAFETY: the SDK's texts are readable during the call.
    unsafe { value.text() }.expect("the SDK sends UTF-8").map(str::to_owned)
}

/// Hands text out: kept alive as long as the host.
fn hand_out(record: &mut Record, value: &str, out: *mut imgf_str) {
    record.handed_out.push(value.to_owned().into_boxed_str());
    let kept = record.handed_out.last().unwrap();
    // SAFETY: the SDK passes a place for text.
    unsafe { *out = imgf_str { ptr: kept.as_ptr(), len: kept.len() } };
}

/// Answers a question for text that may not be there.
fn answer(ctx: Ctx, out: *mut imgf_str, look: impl Fn(&Record) -> Option<String>) -> i32 {
    let mut record = host(ctx).record();
    match look(&record) {
        Some(value) => {
            hand_out(&mut record, &value, out);
            IMGF_OK
        }
        None => {
            record.last_error = Some("there is no such thing here".to_owned());
            IMGF_E_NOT_FOUND
        }
    }
}

unsafe extern "C" fn log(ctx: Ctx, level: u32, message: imgf_str, fields: imgf_str) {
    let line =
        Line { level, message: text(message).unwrap_or_default(), fields_json: text(fields) };
    host(ctx).record().lines.push(line);
}

unsafe extern "C" fn progress(ctx: Ctx, report: *const imgf_progress) -> i32 {
    // SAFETY: the SDK passes a whole struct.
    let report = unsafe { &*report };
    let host = host(ctx);
    let step = (text(report.phase).unwrap_or_default(), report.done, report.total);
    host.record().progress.push(step);
    if host.cancelled.load(Ordering::Acquire) {
        host.record().last_error = Some("the stage is cancelled".to_owned());
        return IMGF_E_CANCELLED;
    }
    IMGF_OK
}

unsafe extern "C" fn is_cancelled(ctx: Ctx) -> i32 {
    host(ctx).cancelled.load(Ordering::Acquire) as i32
}

unsafe extern "C" fn cancel_fd(ctx: Ctx) -> i32 {
    host(ctx).descriptor()
}

unsafe extern "C" fn report_error(ctx: Ctx, error: *const imgf_error) -> i32 {
    // SAFETY: the SDK passes a whole struct.
    let error = unsafe { &*error };
    assert_eq!(error.struct_size, imgf_error::SIZE);
    host(ctx).record().errors.push(ErrorRecord {
        code: error.code,
        flags: error.flags,
        os_errno: error.os_errno,
        retry_after_ms: error.retry_after_ms,
        message: text(error.message).unwrap_or_default(),
        hint: text(error.hint),
        vendor_code: text(error.vendor_code),
        details_json: text(error.details_json),
    });
    IMGF_OK
}

unsafe extern "C" fn set_result(ctx: Ctx, key: imgf_str, value: imgf_str) -> i32 {
    let (key, value) = (text(key).unwrap(), text(value).unwrap());
    let mut record = host(ctx).record();
    if key == "refused" {
        record.last_error = Some("this operation has no result of that name".to_owned());
        return IMGF_E_INVALID_ARGUMENT;
    }
    record.results.insert(key, value);
    IMGF_OK
}

unsafe extern "C" fn journal(ctx: Ctx, entry: *const imgf_journal_entry) -> i32 {
    // SAFETY: the SDK passes a whole struct.
    let entry = unsafe { &*entry };
    host(ctx).record().journal.push(JournalRecord {
        event: entry.event,
        scratch: entry.flags & IMGF_JOURNAL_SCRATCH != 0,
        token: text(entry.token).unwrap(),
        kind: text(entry.kind).unwrap(),
        resource_id: text(entry.resource_id),
        details_json: text(entry.details_json),
    });
    IMGF_OK
}

unsafe extern "C" fn config_get(ctx: Ctx, key: imgf_str, out: *mut imgf_str) -> i32 {
    let key = text(key).unwrap();
    answer(ctx, out, |record| record.config.get(&key).cloned())
}

unsafe extern "C" fn path_get(ctx: Ctx, which: u32, out: *mut imgf_str) -> i32 {
    answer(ctx, out, |record| record.paths.get(&which).cloned())
}

unsafe extern "C" fn image_get(ctx: Ctx, _id: imgf_str, out: *mut imgf_str) -> i32 {
    answer(ctx, out, |_| None)
}

unsafe extern "C" fn secret_get(ctx: Ctx, name: imgf_str, out: *mut imgf_str) -> i32 {
    let name = text(name).unwrap();
    answer(ctx, out, |record| record.secrets.get(&name).cloned())
}

unsafe extern "C" fn secret_release(ctx: Ctx, _name: imgf_str) {
    host(ctx).record().secrets_released += 1;
}

unsafe extern "C" fn add_cloud_plugin_content(ctx: Ctx, content: imgf_str) -> i32 {
    host(ctx).record().contents.push(text(content).unwrap());
    IMGF_OK
}

unsafe extern "C" fn last_error(ctx: Ctx, out: *mut imgf_str) -> i32 {
    answer(ctx, out, |record| record.last_error.clone())
}

unsafe extern "C" fn get_interface(ctx: Ctx, id: imgf_str) -> *const c_void {
    if !host(ctx).has_interfaces.load(Ordering::Acquire) {
        return std::ptr::null();
    }
    match text(id).as_deref() {
        Some(IMGF_HOST_CHECKPOINT_V1) => address(&CHECKPOINT),
        Some(IMGF_HOST_ARTIFACT_V1) => address(&ARTIFACT),
        Some(IMGF_HOST_RESERVE_V1) => address(&RESERVE),
        _ => std::ptr::null(),
    }
}

fn address<T>(table: &'static T) -> *const c_void {
    table as *const T as *const c_void
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

unsafe extern "C" fn checkpoint_put(ctx: Ctx, key: imgf_str, value: imgf_str) -> i32 {
    host(ctx).record().checkpoints.insert(text(key).unwrap(), text(value).unwrap());
    IMGF_OK
}

unsafe extern "C" fn checkpoint_get(ctx: Ctx, key: imgf_str, out: *mut imgf_str) -> i32 {
    let key = text(key).unwrap();
    answer(ctx, out, |record| record.checkpoints.get(&key).cloned())
}

unsafe extern "C" fn artifact_add(
    ctx: Ctx,
    name: imgf_str,
    media: imgf_str,
    path: imgf_str,
) -> i32 {
    let artifact = (text(name).unwrap(), text(media).unwrap(), text(path).unwrap());
    host(ctx).record().artifacts.push(artifact);
    IMGF_OK
}

unsafe extern "C" fn lock(ctx: Ctx, name: imgf_str, _timeout_ms: u64) -> i32 {
    host(ctx).record().locks.push(text(name).unwrap());
    IMGF_OK
}

unsafe extern "C" fn unlock(ctx: Ctx, name: imgf_str) -> i32 {
    let name = text(name).unwrap();
    host(ctx).record().locks.retain(|held| *held != name);
    IMGF_OK
}

unsafe extern "C" fn next_listen_port(_ctx: Ctx, out: *mut u32) -> i32 {
    // SAFETY: the SDK passes a place for a number.
    unsafe { *out = 49152 };
    IMGF_OK
}
