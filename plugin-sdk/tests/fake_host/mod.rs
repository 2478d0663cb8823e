//! A host for tests: keeps what a plugin says, answers what the test wants, and drives a plugin
//! through its tables as the runner does. The tests of the mock plugins include these files too.

#![allow(dead_code, unused_imports)] // each test crate uses its part

pub(crate) mod driver;
mod manifest;
mod services;

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::io::Write;
use std::os::unix::io::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use imagefactory_plugin_sdk::abi::*;

pub(crate) use driver::{PluginInstance, StageTexts};
pub(crate) use manifest::check_manifest;

/// One error record as the plugin handed it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ErrorRecord {
    pub(crate) code: i32,
    pub(crate) flags: u32,
    pub(crate) os_errno: i32,
    pub(crate) retry_after_ms: u64,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) vendor_code: Option<String>,
    pub(crate) details_json: Option<String>,
}

/// One journal entry as the plugin wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JournalRecord {
    pub(crate) event: u32,
    pub(crate) scratch: bool,
    pub(crate) token: String,
    pub(crate) kind: String,
    pub(crate) resource_id: Option<String>,
    pub(crate) details_json: Option<String>,
}

/// One log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) level: u32,
    pub(crate) message: String,
    pub(crate) fields_json: Option<String>,
}

/// What the plugin said, and what it is to be answered.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) lines: Vec<Line>,
    pub(crate) progress: Vec<(String, u64, u64)>,
    pub(crate) errors: Vec<ErrorRecord>,
    pub(crate) results: BTreeMap<String, String>,
    pub(crate) journal: Vec<JournalRecord>,
    pub(crate) contents: Vec<String>,
    pub(crate) artifacts: Vec<(String, String, String)>,
    pub(crate) locks: Vec<String>,
    pub(crate) checkpoints: BTreeMap<String, String>,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) paths: BTreeMap<u32, String>,
    pub(crate) secrets: BTreeMap<String, String>,
    pub(crate) secrets_released: usize,
    /// What `last_error` says; text that was handed out stays alive in `handed_out`.
    last_error: Option<String>,
    handed_out: Vec<Box<str>>,
}

/// The host. Its table is valid as long as it lives.
pub(crate) struct FakeHost {
    record: Mutex<Record>,
    cancelled: AtomicBool,
    cancel_fd: Mutex<(UnixStream, UnixStream)>,
    pub(crate) has_interfaces: AtomicBool,
    pub(crate) calls: AtomicUsize,
    /// How often `cancel_fd` was asked for: the plugin is about to wait on it.
    pub(crate) descriptor_asked: AtomicUsize,
}

impl FakeHost {
    /// A host that has every interface, no paths, no secrets.
    pub(crate) fn new() -> Box<FakeHost> {
        Box::new(FakeHost {
            record: Mutex::default(),
            cancelled: AtomicBool::new(false),
            cancel_fd: Mutex::new(UnixStream::pair().unwrap()),
            has_interfaces: AtomicBool::new(true),
            calls: AtomicUsize::new(0),
            descriptor_asked: AtomicUsize::new(0),
        })
    }

    /// What was said so far; hold it shortly.
    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Asks the stage to end: flag and descriptor.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.cancel_fd.lock().unwrap().1.write_all(b"!").unwrap();
    }

    /// The only error record; fails the test if there is none or more than one.
    pub(crate) fn the_error(&self) -> ErrorRecord {
        let errors = self.record().errors.clone();
        assert_eq!(errors.len(), 1, "{errors:?}");
        errors.into_iter().next().unwrap()
    }

    /// A result as it was set, in JSON.
    pub(crate) fn result(&self, key: &str) -> Option<String> {
        self.record().results.get(key).cloned()
    }

    /// The table, as `create` gets it.
    pub(crate) fn table(&self) -> imgf_host {
        services::table(self as *const FakeHost as *mut c_void)
    }

    fn descriptor(&self) -> i32 {
        self.descriptor_asked.fetch_add(1, Ordering::SeqCst);
        self.cancel_fd.lock().unwrap().0.as_raw_fd()
    }
}
