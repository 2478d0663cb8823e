//! What must not be there when the daemon has nothing to do: processes, files, locks.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use super::records::Records;
use crate::daemon::Daemon;

/// Killed processes and removed folders take a moment on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// From now on every process whose parent dies is a child of this one, so that none can hide.
pub(super) fn adopt_orphans() {
    // SAFETY: PR_SET_CHILD_SUBREAPER takes one number and touches no memory.
    let adopted = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    assert_eq!(adopted, 0, "Linux 3.4 has subreapers");
}

/// Looks until nothing is left behind; answers what still is.
pub(super) fn wait_until_gone(daemon: &Daemon, records: &Records) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut left = processes(daemon.pid());
        left.extend(files(daemon.folder.path(), records));
        if left.is_empty() || Instant::now() >= deadline {
            return left;
        }
        // Nothing announces the end of a process that is not our child: look again.
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Processes of stages below the daemon.
pub(super) fn runners_of(daemon: u32) -> Vec<i32> {
    let daemon = i32::try_from(daemon).expect("a process id");
    let all = processes_with_parents();
    let below = below(&all, daemon);
    below.into_iter().filter(|pid| name_of(*pid).starts_with("imagefactory-st")).collect()
}

/// This process adopts its orphans (it is a subreaper), so all that any daemon ever started is
/// below it. Dead ones are buried here; living ones but the daemon are told.
fn processes(daemon: u32) -> Vec<String> {
    let daemon = i32::try_from(daemon).expect("a process id");
    let ours = i32::try_from(std::process::id()).expect("a process id");
    let mut left = Vec::new();
    for pid in below(&processes_with_parents(), ours) {
        if pid == daemon {
            continue;
        }
        // SAFETY: a null status is allowed; the only child that anybody else waits for is the
        // daemon.
        let buried = unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) } == pid;
        if !buried {
            left.push(format!("process {pid} {} is left", name_of(pid)));
        }
    }
    left
}

fn below(all: &[(i32, i32)], root: i32) -> Vec<i32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// Every process with its parent.
fn processes_with_parents() -> Vec<(i32, i32)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // `pid (name) state parent …`, and a name may hold anything.
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        let parent = after_name.split(' ').nth(1).and_then(|word| word.parse::<i32>().ok());
        all.extend(parent.map(|parent| (pid, parent)));
    }
    all
}

fn name_of(pid: i32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

/// Files and folders that belong to nothing that is recorded.
fn files(folder: &Path, records: &Records) -> Vec<String> {
    let storage = folder.join("storage");
    let mut left = Vec::new();
    for empty in ["storage/stages", "storage/staging", "storage/vault", "tmp"] {
        left.extend(
            names(&folder.join(empty)).iter().map(|name| format!("{empty}/{name} is left")),
        );
    }
    let locks = names(&storage.join("owners"));
    if locks.len() != 1 {
        left.push(format!("one process works here, and there are the locks {locks:?}"));
    }
    for of_images in ["storage/logs", "storage/artifacts"] {
        let strangers = names(&folder.join(of_images));
        let strangers = strangers.iter().filter(|name| !records.knows(name));
        left.extend(strangers.map(|name| format!("{of_images}/{name} is of no image")));
    }
    let fixed: BTreeSet<&str> = [
        "artifacts",
        "logs",
        "stages",
        "staging",
        "vault",
        "vault.key",
        "owners",
        "daemon.lock",
        "imagefactory.sqlite",
        "imagefactory.sqlite-wal",
        "imagefactory.sqlite-shm",
        "plugins.described.json",
        "opening.lock",
    ]
    .into();
    for name in names(&storage) {
        let of_image = match name.rsplit_once('.') {
            Some((id, "body")) => records.has_body(id),
            Some((id, "meta")) => records.knows(id),
            _ => false,
        };
        if !of_image && !fixed.contains(name.as_str()) {
            left.push(format!("storage/{name} belongs to nothing"));
        }
    }
    left
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
