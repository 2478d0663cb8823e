//! The functions of the mock host's tables, as `host.h` and the further host headers describe them.
//!
//! Each copies what it is given, checks it, records it, answers. Text that is not UTF-8 and JSON
//! that does not parse are rule 305, unknown keys and numbers rule 304, odd progress rule 302; a
//! journal entry without its required texts is rule 310.

use std::ffi::c_void;

use imagefactory_model::stage::{JournalEntry, JournalEvent, Operation};
use imagefactory_plugin_sdk::abi::*;
use serde_json::Value;
use std::time::Instant;

use super::host_texts::{answer, enter, host, json, last_error_text, nothing, refuse, text};
use super::mock_host::{Call, ErrorSeen, Secret};
use super::stage_input::{BASE_IMAGE_ID, CREDENTIAL_NAME};

/// The table; its ctx is set by the host.
pub(super) fn table(abi_version: u32) -> imgf_host {
    imgf_host {
        struct_size: size_of::<imgf_host>() as u32,
        abi_version,
        ctx: std::ptr::null_mut(),
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

/// Leaves the slot at `index` NULL; `false` behind the last one.
pub(super) fn clear_slot(table: &mut imgf_host, index: usize) -> bool {
    match index {
        0 => table.log = None,
        1 => table.progress = None,
        2 => table.is_cancelled = None,
        3 => table.cancel_fd = None,
        4 => table.report_error = None,
        5 => table.set_result = None,
        6 => table.journal = None,
        7 => table.config_get = None,
        8 => table.path_get = None,
        9 => table.image_get = None,
        10 => table.secret_get = None,
        11 => table.secret_release = None,
        12 => table.add_cloud_plugin_content = None,
        13 => table.last_error = None,
        14 => table.get_interface = None,
        _ => return false,
    }
    true
}

static CHECKPOINT: imgf_host_checkpoint_v1 = imgf_host_checkpoint_v1 {
    struct_size: size_of::<imgf_host_checkpoint_v1>() as u32,
    reserved0: 0,
    put: Some(checkpoint_put),
    get: Some(checkpoint_get),
};

static ARTIFACT: imgf_host_artifact_v1 = imgf_host_artifact_v1 {
    struct_size: size_of::<imgf_host_artifact_v1>() as u32,
    reserved0: 0,
    add: Some(artifact_add),
};

static RESERVE: imgf_host_reserve_v1 = imgf_host_reserve_v1 {
    struct_size: size_of::<imgf_host_reserve_v1>() as u32,
    reserved0: 0,
    lock: Some(lock),
    unlock: Some(unlock),
    next_listen_port: Some(next_listen_port),
};

/// `?` for functions that answer a status.
macro_rules! get {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(code) => return code,
        }
    };
}

// The functions. SAFETY, for all of them: ctx comes from our table, texts and structs are as
// text.h and the headers of the structs promise, out pointers are NULL or writable.

unsafe extern "C" fn log(ctx: *mut c_void, level: u32, message: imgf_str, fields: imgf_str) {
    // SAFETY: see above.
    let Ok(host) = (unsafe { enter(ctx, Call::Log) }) else { return };
    if !(IMGF_LOG_ERROR..=IMGF_LOG_TRACE).contains(&level) {
        host.state().violates(304, format!("log level {level} does not exist"));
    }
    // SAFETY: see above. A broken text is recorded; log itself cannot fail.
    unsafe {
        text(host, "the message of log", message).ok();
        json(host, "fields_json of log", fields).ok();
    }
}

unsafe extern "C" fn progress(ctx: *mut c_void, p: *const imgf_progress) -> i32 {
    // SAFETY: see above.
    let host = get!(unsafe { enter(ctx, Call::Progress) });
    // SAFETY: see above.
    let Some(p) = (unsafe { read_growing(p) }) else {
        return refuse(IMGF_E_INVALID_ARGUMENT, "no progress record");
    };
    // SAFETY: see above.
    let phase = get!(unsafe { text(host, "the phase of progress", p.phase) }).unwrap_or_default();
    // SAFETY: see above.
    get!(unsafe { text(host, "the message of progress", p.message) });
    let mut state = host.state();
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if phase.is_empty() || !phase.bytes().all(known) {
        state.violates(302, format!("phase {phase:?} is not of a-z, 0-9 and -"));
    }
    if p.total != 0 && p.done > p.total {
        state.violates(302, format!("phase {phase}: {} of {} done", p.done, p.total));
    }
    let before = state.recorded().phases.insert(phase.clone(), p.done);
    if let Some(before) = before.filter(|before| *before > p.done) {
        state.violates(302, format!("phase {phase} fell from {before} to {}", p.done));
    }
    state.recorded().progress.push(Instant::now());
    if host.is_cancelled() {
        state.told_cancelled();
        return refuse(IMGF_E_CANCELLED, "the stage is to end");
    }
    IMGF_OK
}

unsafe extern "C" fn is_cancelled(ctx: *mut c_void) -> i32 {
    // SAFETY: see above.
    let Ok(host) = (unsafe { enter(ctx, Call::IsCancelled) }) else { return 0 };
    if host.is_cancelled() {
        host.state().told_cancelled();
        return 1;
    }
    0
}

unsafe extern "C" fn cancel_fd(ctx: *mut c_void) -> i32 {
    // SAFETY: see above.
    match unsafe { enter(ctx, Call::CancelFd) } {
        Ok(host) => host.cancel_descriptor(),
        Err(_) => -1,
    }
}

unsafe extern "C" fn report_error(ctx: *mut c_void, e: *const imgf_error) -> i32 {
    // SAFETY: see above.
    let host = get!(unsafe { enter(ctx, Call::ReportError) });
    // SAFETY: see above.
    let Some(e) = (unsafe { read_growing(e) }) else {
        return refuse(IMGF_E_INVALID_ARGUMENT, "no error record");
    };
    // SAFETY: see above.
    let message = get!(unsafe { text(host, "the message of an error", e.message) });
    // SAFETY: see above.
    unsafe {
        get!(text(host, "the hint of an error", e.hint));
        get!(text(host, "the vendor code of an error", e.vendor_code));
        get!(json(host, "details_json of an error", e.details_json));
    }
    let mut state = host.state();
    let message = message.unwrap_or_default();
    state.recorded().errors.push(ErrorSeen { code: e.code, flags: e.flags, message });
    if state.recorded().errors.len() > 1 {
        return refuse(IMGF_E_INVALID_STATE, "an error record was given before");
    }
    IMGF_OK
}

unsafe extern "C" fn set_result(ctx: *mut c_void, key: imgf_str, value: imgf_str) -> i32 {
    // SAFETY: see above.
    let host = get!(unsafe { enter(ctx, Call::SetResult) });
    // SAFETY: see above.
    let key = get!(unsafe { text(host, "a result's key", key) }).unwrap_or_default();
    // SAFETY: see above.
    let value = get!(unsafe { json(host, "a result's value", value) });
    let mut state = host.state();
    let operation = state.operation();
    let keys = operation.map_or(&[][..], Operation::result_keys);
    let operation = operation.map_or("create or destroy", Operation::name);
    if !keys.contains(&key.as_str()) {
        state.violates(304, format!("{operation} has no result {key:?}, only {}", keys.join(", ")));
        return refuse(IMGF_E_INVALID_ARGUMENT, "no such result");
    }
    let Some(value) = value else {
        return refuse(IMGF_E_INVALID_ARGUMENT, "a result without a value");
    };
    let right = match key.as_str() {
        "properties" | "effective_parameters" => value.is_object(),
        "verified" => value["ok"].is_boolean() && value["how"].is_string(),
        _ => value.is_string(),
    };
    if !right {
        state.violates(304, format!("{operation}: the result {key} may not be {value}"));
        return refuse(IMGF_E_INVALID_ARGUMENT, "a result of another type");
    }
    state.recorded().results.insert(key, value);
    IMGF_OK
}

unsafe extern "C" fn journal(ctx: *mut c_void, e: *const imgf_journal_entry) -> i32 {
    // SAFETY: see above. A failing journal tells which token it did not record.
    let entered = unsafe { enter(ctx, Call::Journal) };
    // SAFETY: see above.
    let read = unsafe { read_growing(e) };
    let (host, e) = match (entered, read) {
        (Ok(host), Some(e)) => (host, e),
        (Ok(_), None) => return refuse(IMGF_E_INVALID_ARGUMENT, "no journal entry"),
        (Err(code), read) => {
            // SAFETY: see above.
            let token = read.and_then(|e| unsafe { e.token.text() }.ok().flatten());
            // SAFETY: see above.
            if let (Some(host), Some(token)) = (unsafe { host(ctx) }, token) {
                host.state().recorded().unrecorded.push(token.to_owned());
            }
            return code;
        }
    };
    // SAFETY: see above.
    let (token, kind, resource_id, details) = unsafe {
        (
            get!(text(host, "the token of a journal entry", e.token)).unwrap_or_default(),
            get!(text(host, "the kind of a journal entry", e.kind)).unwrap_or_default(),
            get!(text(host, "the resource_id of a journal entry", e.resource_id)),
            get!(json(host, "details_json of a journal entry", e.details_json)),
        )
    };
    let event = match e.event {
        IMGF_JOURNAL_WILL_CREATE => JournalEvent::WillCreate,
        IMGF_JOURNAL_CREATED => JournalEvent::Created,
        IMGF_JOURNAL_REMOVED => JournalEvent::Removed,
        other => {
            host.state().violates(304, format!("journal event {other} does not exist"));
            return refuse(IMGF_E_INVALID_ARGUMENT, "no such journal event");
        }
    };
    if token.is_empty() || kind.is_empty() {
        host.state()
            .violates(310, format!("a journal entry without token or kind ({token:?}, {kind:?})"));
        return refuse(IMGF_E_INVALID_ARGUMENT, "token and kind are required");
    }
    let scratch = e.flags & IMGF_JOURNAL_SCRATCH != 0;
    let entry = JournalEntry { event, scratch, token, kind, resource_id, details };
    host.pass_on(&entry);
    let resources = host.folders.ledger_count();
    let mut state = host.state();
    let known = state.recorded().journal.iter().any(|other| other.token == entry.token);
    let cleaning = state.operation() == Some(Operation::Cleanup);
    if entry.event == JournalEvent::Created && !known && !cleaning {
        let token = &entry.token;
        state.violates(310, format!("CREATED of {token} came without a WILL_CREATE before it"));
    }
    if entry.event == JournalEvent::WillCreate && !known && !cleaning {
        let announced = super::stage_input::open_entries(&state.recorded().journal).len();
        if resources > announced {
            let token = &entry.token;
            let text = format!(
                "at WILL_CREATE of {token} there were {resources} outside resources already, and \
                 {announced} announced"
            );
            state.violates(310, text);
        }
    }
    state.recorded().journal.push(entry);
    IMGF_OK
}

unsafe extern "C" fn config_get(ctx: *mut c_void, key: imgf_str, out: *mut imgf_str) -> i32 {
    // SAFETY: see above.
    unsafe {
        nothing(out, IMGF_OK);
        let host = get!(enter(ctx, Call::ConfigGet));
        let key = get!(text(host, "a configuration key", key)).unwrap_or_default();
        match host.config.get(&key) {
            Some(value) => answer(host, &value.to_string(), out),
            None => refuse(IMGF_E_NOT_FOUND, "not configured"),
        }
    }
}

unsafe extern "C" fn path_get(ctx: *mut c_void, which: u32, out: *mut imgf_str) -> i32 {
    // SAFETY: see above.
    unsafe {
        nothing(out, IMGF_OK);
        let host = get!(enter(ctx, Call::PathGet));
        let operation = host.state().operation();
        let path = match which {
            IMGF_PATH_WORK_DIR => Some(host.folders.work.clone()),
            IMGF_PATH_INPUT_IMAGE => host.input_image(operation),
            IMGF_PATH_OUTPUT_IMAGE => host.output_image(operation),
            IMGF_PATH_PLUGIN_DATA => None,
            IMGF_PATH_STATE_DIR => Some(host.folders.state.clone()),
            IMGF_PATH_CACHE_DIR => Some(host.folders.cache.clone()),
            other => {
                host.state().violates(304, format!("path {other} does not exist"));
                return refuse(IMGF_E_INVALID_ARGUMENT, "no such path");
            }
        };
        match path {
            Some(path) => answer(host, &path.to_string_lossy(), out),
            None => refuse(IMGF_E_NOT_FOUND, "this operation has no such path"),
        }
    }
}

unsafe extern "C" fn image_get(ctx: *mut c_void, id: imgf_str, out: *mut imgf_str) -> i32 {
    // SAFETY: see above.
    unsafe {
        nothing(out, IMGF_OK);
        let host = get!(enter(ctx, Call::ImageGet));
        match get!(text(host, "an image id", id)).as_deref() {
            Some(BASE_IMAGE_ID) => answer(host, &host.images, out),
            _ => refuse(IMGF_E_PERMISSION, "not an image of this stage"),
        }
    }
}

unsafe extern "C" fn secret_get(ctx: *mut c_void, name: imgf_str, out: *mut imgf_str) -> i32 {
    // SAFETY: see above.
    unsafe {
        nothing(out, IMGF_OK);
        let host = get!(enter(ctx, Call::SecretGet));
        let name = get!(text(host, "a secret's name", name)).unwrap_or_default();
        host.state().recorded().secrets.push(name.clone());
        if name != CREDENTIAL_NAME {
            return refuse(IMGF_E_PERMISSION, "not granted to this stage");
        }
        match (&host.script().secret, &host.credentials) {
            (Secret::Text(text), _) => answer(host, text, out),
            (Secret::Given, Some(text)) => answer(host, text, out),
            (Secret::Given, None) | (Secret::Missing, _) => {
                refuse(IMGF_E_NOT_FOUND, "there is no such secret")
            }
        }
    }
}

unsafe extern "C" fn secret_release(ctx: *mut c_void, name: imgf_str) {
    // SAFETY: see above.
    unsafe {
        if let Ok(host) = enter(ctx, Call::SecretRelease) {
            text(host, "a secret's name", name).ok(); // recorded there; this function cannot fail
        }
    }
}

unsafe extern "C" fn add_cloud_plugin_content(ctx: *mut c_void, content: imgf_str) -> i32 {
    // SAFETY: see above.
    let host = get!(unsafe { enter(ctx, Call::AddCloudPluginContent) });
    // SAFETY: see above.
    let content = get!(unsafe { json(host, "content_json", content) });
    let mut state = host.state();
    if state.operation() != Some(Operation::BuilderWillCreateTargetImage) {
        return refuse(
            IMGF_E_INVALID_STATE,
            "only builder_will_create_target_image may add content",
        );
    }
    const KEYS: [&str; 4] = ["repositories", "packages", "files", "commands"];
    match content.as_ref().and_then(Value::as_object) {
        None => refuse(IMGF_E_INVALID_ARGUMENT, "content_json is no object"),
        Some(fields) => {
            if let Some(key) = fields.keys().find(|key| !KEYS.contains(&key.as_str())) {
                state.violates(304, format!("TargetContent has no key {key:?}"));
                return refuse(IMGF_E_INVALID_ARGUMENT, "unknown key in content_json");
            }
            state.recorded().contents.extend(content);
            IMGF_OK
        }
    }
}

unsafe extern "C" fn last_error(ctx: *mut c_void, out: *mut imgf_str) -> i32 {
    // SAFETY: see above.
    unsafe {
        nothing(out, IMGF_OK);
        let host = get!(enter(ctx, Call::LastError));
        let why = last_error_text();
        if why.is_empty() {
            return IMGF_E_NOT_FOUND;
        }
        answer(host, &why, out)
    }
}

unsafe extern "C" fn get_interface(ctx: *mut c_void, id: imgf_str) -> *const c_void {
    // SAFETY: see above.
    let Ok(host) = (unsafe { enter(ctx, Call::GetInterface) }) else { return std::ptr::null() };
    if host.script().no_interfaces {
        return std::ptr::null();
    }
    // SAFETY: see above.
    match unsafe { text(host, "an interface id", id) } {
        Ok(Some(id)) => match id.as_str() {
            IMGF_HOST_CHECKPOINT_V1 => (&raw const CHECKPOINT).cast(),
            IMGF_HOST_ARTIFACT_V1 => (&raw const ARTIFACT).cast(),
            IMGF_HOST_RESERVE_V1 => (&raw const RESERVE).cast(),
            _ => std::ptr::null(),
        },
        _ => std::ptr::null(),
    }
}

unsafe extern "C" fn checkpoint_put(ctx: *mut c_void, key: imgf_str, value: imgf_str) -> i32 {
    // SAFETY: see above.
    unsafe {
        let host = get!(enter(ctx, Call::CheckpointPut));
        let key = get!(text(host, "a checkpoint's key", key)).unwrap_or_default();
        let value = get!(json(host, "a checkpoint's value", value));
        let Some(value) = value else { return refuse(IMGF_E_INVALID_ARGUMENT, "no value") };
        host.state().checkpoints().insert(key, value.to_string());
        IMGF_OK
    }
}

unsafe extern "C" fn checkpoint_get(ctx: *mut c_void, key: imgf_str, out: *mut imgf_str) -> i32 {
    // SAFETY: see above.
    unsafe {
        nothing(out, IMGF_OK);
        let host = get!(enter(ctx, Call::CheckpointGet));
        let key = get!(text(host, "a checkpoint's key", key)).unwrap_or_default();
        let value = host.state().checkpoints().get(&key).cloned();
        match value {
            Some(value) => answer(host, &value, out),
            None => refuse(IMGF_E_NOT_FOUND, "no such checkpoint"),
        }
    }
}

unsafe extern "C" fn artifact_add(
    ctx: *mut c_void,
    name: imgf_str,
    media_type: imgf_str,
    path: imgf_str,
) -> i32 {
    // SAFETY: see above.
    unsafe {
        let host = get!(enter(ctx, Call::ArtifactAdd));
        get!(text(host, "an artefact's name", name));
        get!(text(host, "an artefact's media type", media_type));
        let path = get!(text(host, "an artefact's path", path)).unwrap_or_default();
        if !std::path::Path::new(&path).is_file() {
            return refuse(IMGF_E_NOT_FOUND, "no such file");
        }
        host.state().recorded().artifacts += 1;
        IMGF_OK
    }
}

unsafe extern "C" fn lock(ctx: *mut c_void, name: imgf_str, _timeout_ms: u64) -> i32 {
    // SAFETY: see above.
    unsafe {
        let host = get!(enter(ctx, Call::Lock));
        get!(text(host, "a lock's name", name));
        IMGF_OK
    }
}

unsafe extern "C" fn unlock(ctx: *mut c_void, name: imgf_str) -> i32 {
    // SAFETY: see above.
    unsafe {
        let host = get!(enter(ctx, Call::Unlock));
        get!(text(host, "a lock's name", name));
        IMGF_OK
    }
}

unsafe extern "C" fn next_listen_port(ctx: *mut c_void, out: *mut u32) -> i32 {
    // SAFETY: see above.
    unsafe {
        get!(enter(ctx, Call::NextListenPort));
        if out.is_null() {
            return refuse(IMGF_E_INVALID_ARGUMENT, "out is NULL");
        }
        // Of the dynamic range; the network namespace of a probe is empty.
        *out = 49_152;
        IMGF_OK
    }
}
