//! The state of this process that belongs to the host: taken before and after plugin code ran.
//!
//! Everything is read from the kernel or the C library; what cannot be read counts as unchanged.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::path::{Path, PathBuf};

/// One look at the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ProcessState {
    threads: usize,
    descriptors: BTreeMap<i32, String>,
    children: Vec<String>,
    cwd: Option<PathBuf>,
    umask: String,
    masks: String,
    handlers: Vec<(usize, i32)>,
    locale: String,
    environment: BTreeMap<Vec<u8>, Vec<u8>>,
    limits: String,
    mounts: Vec<String>,
    printed_bytes: u64,
}

impl ProcessState {
    /// Looks now.
    pub(super) fn take() -> ProcessState {
        use std::os::unix::ffi::OsStringExt;
        // SAFETY: flushes what plugin code printed through the C library; NULL = all streams.
        unsafe { libc::fflush(std::ptr::null_mut()) };
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let lines = |keys: &[&str]| {
            let wanted = status.lines().filter(|line| keys.iter().any(|key| line.starts_with(key)));
            wanted.collect::<Vec<_>>().join(" ")
        };
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        ProcessState {
            threads: entries(Path::new("/proc/self/task")).len(),
            descriptors: descriptors(),
            children: children(),
            cwd: std::env::current_dir().ok(),
            umask: lines(&["Umask:"]),
            masks: signal_masks(&status),
            handlers: (1..=64).map(handler).collect(),
            locale: locale(),
            environment: std::env::vars_os()
                .map(|(key, value)| (key.into_vec(), value.into_vec()))
                .collect(),
            limits: std::fs::read_to_string("/proc/self/limits").unwrap_or_default(),
            mounts: mounts.lines().map(str::to_owned).collect(),
            printed_bytes: printed_bytes(),
        }
    }

    /// Everything that changed since `before`, one phrase each.
    pub(super) fn changes_since(&self, before: &ProcessState) -> Vec<String> {
        let mut changes = self.leaks_since(before);
        changes.extend(self.settings_since(before));
        if self.printed_bytes != before.printed_bytes {
            let bytes = self.printed_bytes.saturating_sub(before.printed_bytes);
            changes.push(format!("{bytes} bytes were printed"));
        }
        changes
    }

    /// What is there now and was not: threads, descriptors, children, mounts.
    pub(super) fn leaks_since(&self, before: &ProcessState) -> Vec<String> {
        let mut leaks = Vec::new();
        if self.threads > before.threads {
            leaks.push(format!("{} threads instead of {}", self.threads, before.threads));
        }
        for (fd, what) in &self.descriptors {
            if before.descriptors.get(fd) != Some(what) {
                leaks.push(format!("descriptor {fd} ({what}) is open"));
            }
        }
        for fd in before.descriptors.keys().filter(|fd| !self.descriptors.contains_key(fd)) {
            leaks.push(format!("descriptor {fd} of the host is closed"));
        }
        for child in self.children.iter().filter(|child| !before.children.contains(child)) {
            leaks.push(format!("{child} is there"));
        }
        for mount in self.mounts.iter().filter(|mount| !before.mounts.contains(mount)) {
            leaks.push(format!("mounted: {mount}"));
        }
        leaks
    }

    /// Settings of the process that are not the plugin's to change.
    pub(super) fn settings_since(&self, before: &ProcessState) -> Vec<String> {
        let mut changes = Vec::new();
        let mut compare = |what: &str, now: String, then: String| {
            if now != then {
                changes.push(format!("{what}: {now} instead of {then}"));
            }
        };
        compare("current folder", format!("{:?}", self.cwd), format!("{:?}", before.cwd));
        compare("umask", self.umask.clone(), before.umask.clone());
        compare("signal masks", self.masks.clone(), before.masks.clone());
        compare("locale", self.locale.clone(), before.locale.clone());
        compare("resource limits", self.limits.clone(), before.limits.clone());
        for (at, (now, then)) in self.handlers.iter().zip(&before.handlers).enumerate() {
            if now != then {
                changes.push(format!("the handler of signal {} was changed", at + 1));
            }
        }
        for (name, value) in &self.environment {
            if before.environment.get(name) != Some(value) {
                changes.push(format!("${} was set", String::from_utf8_lossy(name)));
            }
        }
        for name in before.environment.keys().filter(|name| !self.environment.contains_key(*name)) {
            changes.push(format!("${} was removed", String::from_utf8_lossy(name)));
        }
        changes
    }

    /// Bytes on standard output and error so far.
    pub(super) fn printed_bytes(&self) -> u64 {
        self.printed_bytes
    }
}

/// Resident memory in bytes.
pub(super) fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// Bytes that this process has handed to write calls.
pub(super) fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
}

/// All files below `folder`, with size and kind; sorted. Bounded by what a probe can have made.
pub(super) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(next) = left.pop() {
        for path in entries(&next) {
            let is_folder = std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
            if is_folder {
                left.push(path.clone());
            }
            found.push(path);
            if found.len() > 100_000 {
                return found;
            }
        }
    }
    found.sort();
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(read) = std::fs::read_dir(folder) else { return Vec::new() };
    read.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn descriptors() -> BTreeMap<i32, String> {
    let mut found = BTreeMap::new();
    for path in entries(Path::new("/proc/self/fd")) {
        let fd = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        // The folder that is being read right now is gone by the time of the look.
        if let (Some(fd), Ok(what)) = (fd, std::fs::read_link(&path)) {
            found.insert(fd, what.to_string_lossy().into_owned());
        }
    }
    found
}

fn children() -> Vec<String> {
    let mut found = Vec::new();
    for task in entries(Path::new("/proc/self/task")) {
        let pids = std::fs::read_to_string(task.join("children")).unwrap_or_default();
        found.extend(pids.split_ascii_whitespace().map(|pid| format!("child {pid}")));
    }
    found
}

/// Blocked and ignored signals, without the two that glibc keeps for its threads (32 and 33).
fn signal_masks(status: &str) -> String {
    const OF_GLIBC: u64 = 0b11 << 31;
    let mask = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.unwrap_or(0) & !OF_GLIBC
    };
    format!("blocked {:#x}, ignored {:#x}", mask("SigBlk:"), mask("SigIgn:"))
}

fn handler(signal: i32) -> (usize, i32) {
    // SAFETY: only asks; `old` is plain data and written by the call.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        match libc::sigaction(signal, std::ptr::null(), &mut old) {
            0 => (old.sa_sigaction, old.sa_flags),
            _ => (0, 0),
        }
    }
}

fn locale() -> String {
    // SAFETY: asks for the name; the C library owns the text, which is copied at once.
    unsafe {
        let name = libc::setlocale(libc::LC_ALL, std::ptr::null());
        if name.is_null() {
            String::new()
        } else {
            CStr::from_ptr(name).to_string_lossy().into_owned()
        }
    }
}

fn printed_bytes() -> u64 {
    rustix::fs::fstat(rustix::stdio::stdout()).map_or(0, |stat| stat.st_size as u64)
}
