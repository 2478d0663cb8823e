//! The host table that writes down what a plugin tells it.
//!
//! Paths are those of one temporary folder; secrets, refusals and the moment of a cancel are set by
//! the test beforehand. Every function copies at once, as the header promises.

use std::collections::BTreeMap;
use std::ffi::{CString, c_void};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use imagefactory_plugin_sdk::abi::{
    self, imgf_error, imgf_host, imgf_journal_entry, imgf_progress, imgf_str,
};
use serde_json::Value;

use super::copied;

/// Everything that was told, in order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Recorded {
    /// Messages of log lines.
    pub(crate) log: Vec<String>,
    /// (phase, done, total).
    pub(crate) progress: Vec<(String, u64, u64)>,
    /// (code, flags, message).
    pub(crate) errors: Vec<(i32, u32, String)>,
    /// Last value by key.
    pub(crate) results: BTreeMap<String, Value>,
    /// Journal entries.
    pub(crate) journal: Vec<Entry>,
    /// TargetContents.
    pub(crate) contents: Vec<Value>,
    /// Secrets that were got and not released.
    pub(crate) secrets_held: Vec<String>,
}

/// One journal entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// IMGF_JOURNAL_*.
    pub(crate) event: u32,
    /// As given.
    pub(crate) token: String,
    /// As given; "" = absent.
    pub(crate) resource_id: String,
}

/// The table with its state; pinned by a Box because the plugin holds its address.
pub(crate) struct RecordingHost {
    table: imgf_host,
    state: Box<State>,
}

struct State {
    recorded: Mutex<Recorded>,
    folder: PathBuf,
    paths: BTreeMap<u32, CString>,
    secrets: BTreeMap<String, CString>,
    cancelled: AtomicBool,
    cancel_fd: i32,
    cancel_at_progress: Mutex<Option<usize>>,
    journal_refused: AtomicBool,
    checkpoints: Mutex<BTreeMap<String, CString>>,
    checkpoint_table: abi::imgf_host_checkpoint_v1,
}

impl RecordingHost {
    /// A host whose images lie in `folder`: `input.raw`, `output.raw`.
    pub(crate) fn new(folder: &Path) -> RecordingHost {
        let path = |name: &str| CString::new(folder.join(name).to_str().unwrap()).unwrap();
        // SAFETY: eventfd has no preconditions.
        let cancel_fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        assert!(cancel_fd >= 0);
        let state = Box::new(State {
            recorded: Mutex::default(),
            folder: folder.to_owned(),
            paths: BTreeMap::from([
                (abi::IMGF_PATH_WORK_DIR, path("")),
                (abi::IMGF_PATH_INPUT_IMAGE, path("input.raw")),
                (abi::IMGF_PATH_OUTPUT_IMAGE, path("output.raw")),
                (abi::IMGF_PATH_STATE_DIR, path("")),
            ]),
            secrets: BTreeMap::new(),
            cancelled: AtomicBool::new(false),
            cancel_fd,
            cancel_at_progress: Mutex::new(None),
            journal_refused: AtomicBool::new(false),
            checkpoints: Mutex::default(),
            checkpoint_table: abi::imgf_host_checkpoint_v1 {
                struct_size: size_of::<abi::imgf_host_checkpoint_v1>() as u32,
                reserved0: 0,
                put: Some(checkpoint_put),
                get: Some(checkpoint_get),
            },
        });
        let table = imgf_host {
            struct_size: size_of::<imgf_host>() as u32,
            abi_version: abi::IMGF_ABI_1_0,
            ctx: (&raw const *state).cast_mut().cast(),
            log: Some(log),
            progress: Some(progress),
            is_cancelled: Some(is_cancelled),
            cancel_fd: Some(cancel_descriptor),
            report_error: Some(report_error),
            set_result: Some(set_result),
            journal: Some(journal),
            config_get: Some(config_get),
            path_get: Some(path_get),
            image_get: Some(config_get),
            secret_get: Some(secret_get),
            secret_release: Some(secret_release),
            add_cloud_plugin_content: Some(add_cloud_plugin_content),
            last_error: Some(last_error),
            get_interface: Some(get_interface),
        };
        RecordingHost { table, state }
    }

    /// Grants a secret.
    pub(crate) fn with_secret(mut self, name: &str, text: &str) -> RecordingHost {
        self.state.secrets.insert(name.into(), CString::new(text).unwrap());
        self.table.ctx = (&raw const *self.state).cast_mut().cast();
        self
    }

    /// Puts a checkpoint as an earlier attempt would have.
    pub(crate) fn with_checkpoint(self, key: &str, json: &str) -> RecordingHost {
        let kept = CString::new(json).unwrap();
        self.state.checkpoints.lock().unwrap().insert(key.into(), kept);
        self
    }

    /// What was put last, as JSON text.
    pub(crate) fn checkpoint(&self, key: &str) -> Option<String> {
        let kept = self.state.checkpoints.lock().unwrap();
        kept.get(key).map(|text| text.to_str().unwrap().to_owned())
    }

    /// The table, valid as long as self stays where it is.
    pub(crate) fn table(&self) -> *const imgf_host {
        &raw const self.table
    }

    /// Where the output is expected.
    pub(crate) fn output(&self) -> PathBuf {
        self.state.folder.join("output.raw")
    }

    /// Where the input lies.
    pub(crate) fn input(&self) -> PathBuf {
        self.state.folder.join("input.raw")
    }

    /// A copy of what was told so far.
    pub(crate) fn recorded(&self) -> Recorded {
        self.state.recorded.lock().unwrap().clone()
    }

    /// Flag and descriptor say: end.
    pub(crate) fn cancel(&self) {
        self.state.cancel();
    }

    /// Cancels at the nth progress report.
    pub(crate) fn cancel_at_progress(&self, nth: usize) {
        *self.state.cancel_at_progress.lock().unwrap() = Some(nth);
    }

    /// From now on the journal cannot be written.
    pub(crate) fn refuse_journal(&self) {
        self.state.journal_refused.store(true, Ordering::SeqCst);
    }
}

impl State {
    fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        let one = 1_u64;
        // SAFETY: eight bytes for our own eventfd.
        let written = unsafe { libc::write(self.cancel_fd, (&raw const one).cast(), 8) };
        assert_eq!(written, 8);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // SAFETY: our own descriptor, closed once.
        unsafe { libc::close(self.cancel_fd) };
    }
}

fn state<'a>(ctx: *mut c_void) -> &'a State {
    // SAFETY: ctx is the State of a RecordingHost, which outlives the instance that calls us.
    unsafe { &*ctx.cast::<State>() }
}

fn with<T>(ctx: *mut c_void, change: impl FnOnce(&mut Recorded) -> T) -> T {
    change(&mut state(ctx).recorded.lock().unwrap())
}

unsafe extern "C" fn log(ctx: *mut c_void, _level: u32, message: imgf_str, fields: imgf_str) {
    if !fields.is_absent() {
        serde_json::from_str::<Value>(&copied(fields)).expect("log fields are JSON");
    }
    with(ctx, |r| r.log.push(copied(message)));
}

unsafe extern "C" fn progress(ctx: *mut c_void, p: *const imgf_progress) -> i32 {
    // SAFETY: valid for the call, and of the first size, which the assertion checks.
    let p = unsafe { &*p };
    assert!(p.struct_size as usize >= size_of::<imgf_progress>());
    let count = with(ctx, |r| {
        r.progress.push((copied(p.phase), p.done, p.total));
        r.progress.len()
    });
    let state = state(ctx);
    if *state.cancel_at_progress.lock().unwrap() == Some(count) {
        state.cancel();
    }
    if state.cancelled.load(Ordering::SeqCst) { abi::IMGF_E_CANCELLED } else { abi::IMGF_OK }
}

unsafe extern "C" fn is_cancelled(ctx: *mut c_void) -> i32 {
    state(ctx).cancelled.load(Ordering::SeqCst).into()
}

unsafe extern "C" fn cancel_descriptor(ctx: *mut c_void) -> i32 {
    state(ctx).cancel_fd
}

unsafe extern "C" fn report_error(ctx: *mut c_void, e: *const imgf_error) -> i32 {
    // SAFETY: valid for the call, and of the first size, which the assertion checks.
    let e = unsafe { &*e };
    assert!(e.struct_size as usize >= size_of::<imgf_error>());
    with(ctx, |r| r.errors.push((e.code, e.flags, copied(e.message))));
    abi::IMGF_OK
}

unsafe extern "C" fn set_result(ctx: *mut c_void, key: imgf_str, value: imgf_str) -> i32 {
    let value = serde_json::from_str(&copied(value)).expect("a result is JSON");
    with(ctx, |r| r.results.insert(copied(key), value));
    abi::IMGF_OK
}

unsafe extern "C" fn journal(ctx: *mut c_void, e: *const imgf_journal_entry) -> i32 {
    if state(ctx).journal_refused.load(Ordering::SeqCst) {
        return abi::IMGF_E_IO;
    }
    // SAFETY: valid for the call, and of the first size, which the assertion checks.
    let e = unsafe { &*e };
    assert!(e.struct_size as usize >= size_of::<imgf_journal_entry>());
    let entry =
        Entry { event: e.event, token: copied(e.token), resource_id: copied(e.resource_id) };
    with(ctx, |r| r.journal.push(entry));
    abi::IMGF_OK
}

unsafe extern "C" fn config_get(_: *mut c_void, _: imgf_str, out: *mut imgf_str) -> i32 {
    // SAFETY: out points to a place for the answer.
    unsafe { *out = imgf_str::ABSENT };
    abi::IMGF_E_NOT_FOUND
}

unsafe extern "C" fn path_get(ctx: *mut c_void, which: u32, out: *mut imgf_str) -> i32 {
    answer(state(ctx).paths.get(&which), out)
}

unsafe extern "C" fn secret_get(ctx: *mut c_void, name: imgf_str, out: *mut imgf_str) -> i32 {
    let name = copied(name);
    let status = answer(state(ctx).secrets.get(&name), out);
    if status == abi::IMGF_OK {
        with(ctx, |r| r.secrets_held.push(name));
    }
    status
}

unsafe extern "C" fn secret_release(ctx: *mut c_void, name: imgf_str) {
    let name = copied(name);
    with(ctx, |r| r.secrets_held.retain(|held| *held != name));
}

unsafe extern "C" fn add_cloud_plugin_content(ctx: *mut c_void, content: imgf_str) -> i32 {
    let content = serde_json::from_str(&copied(content)).expect("target content is JSON");
    with(ctx, |r| r.contents.push(content));
    abi::IMGF_OK
}

unsafe extern "C" fn last_error(_: *mut c_void, out: *mut imgf_str) -> i32 {
    // SAFETY: out points to a place for the answer; the text is static.
    unsafe { *out = imgf_str::new("refused by the test") };
    abi::IMGF_OK
}

unsafe extern "C" fn get_interface(ctx: *mut c_void, id: imgf_str) -> *const c_void {
    match copied(id).as_str() {
        abi::IMGF_HOST_CHECKPOINT_V1 => (&raw const state(ctx).checkpoint_table).cast(),
        _ => std::ptr::null(),
    }
}

unsafe extern "C" fn checkpoint_put(ctx: *mut c_void, key: imgf_str, value: imgf_str) -> i32 {
    let value = copied(value);
    serde_json::from_str::<Value>(&value).expect("a checkpoint is JSON");
    // A value that was lent stays readable until destroy, so a replaced one is leaked.
    let value = CString::new(value).unwrap();
    let replaced = state(ctx).checkpoints.lock().unwrap().insert(copied(key), value);
    replaced.map(CString::into_raw);
    abi::IMGF_OK
}

unsafe extern "C" fn checkpoint_get(ctx: *mut c_void, key: imgf_str, out: *mut imgf_str) -> i32 {
    answer(state(ctx).checkpoints.lock().unwrap().get(&copied(key)), out)
}

fn answer(text: Option<&CString>, out: *mut imgf_str) -> i32 {
    let (lent, status) = match text {
        Some(text) => {
            let bytes = text.as_bytes();
            (imgf_str { ptr: bytes.as_ptr(), len: bytes.len() }, abi::IMGF_OK)
        }
        None => (imgf_str::ABSENT, abi::IMGF_E_NOT_FOUND),
    };
    // SAFETY: out points to a place for the answer.
    unsafe { *out = lent };
    status
}
