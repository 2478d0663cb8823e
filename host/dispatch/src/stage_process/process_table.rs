//! What `/proc` says of processes: who is who, who descends from whom.
//!
//! A pid alone names nothing for long, so everything that kills by pid goes through a start time
//! and a pidfd here. Orphans of stages exist only where neither a pid namespace nor a cgroup held
//! them; the daemon adopts those as a subreaper and [`end_orphans`] finds them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, pidfd_open, pidfd_send_signal, waitid,
};

/// Variable in the environment of every runner; its value is `STAGE_ID-ATTEMPT`. It says to whom an
/// orphan belongs. No secret, and nothing relies on it for containment.
pub(super) const MARKER: &str = "IMAGEFACTORY_STAGE";

/// The facts of `/proc/PID/stat` that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessFacts {
    /// `R`, `S`, `D`, `Z`, …
    pub(super) state: u8,
    /// Parent.
    pub(super) parent: i32,
    /// Process group.
    pub(super) group: i32,
    /// Clock ticks after boot.
    pub(super) start_time: u64,
}

/// `/proc/sys/kernel/random/boot_id`, without its line end.
pub(super) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim_end().to_owned())
}

/// The facts of a process; `None` = there is none of this pid.
pub(super) fn facts(pid: i32) -> Option<ProcessFacts> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The second field is the program's name in parentheses and may hold anything, parentheses and
/// line ends included; the last `)` ends it.
fn parse_stat(stat: &[u8]) -> Option<ProcessFacts> {
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let rest = str::from_utf8(stat.get(after_name..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(ProcessFacts {
        state: *fields.first()?.as_bytes().first()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        start_time: fields.get(19)?.parse().ok()?,
    })
}

/// A handle to the process with this pid *and* start time; `None` = it is gone (a stranger that got
/// its pid later is not it).
pub(super) fn open_exactly(pid: u32, start_time: u64) -> io::Result<Option<OwnedFd>> {
    let Some(target) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    let handle = match pidfd_open(target, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Read after opening: if the start time is right now, the handle is of that very process.
    match facts(target.as_raw_nonzero().get()) {
        Some(found) if found.start_time == start_time && found.state != b'Z' => Ok(Some(handle)),
        _ => Ok(None),
    }
}

/// Kills orphans of the stage `marker` that this process has adopted, with all that descends from
/// them, and reaps them. Returns how many it found. Knows direct children only by the marker or by
/// the runner's process group, so other children of the daemon are never touched; the runner is
/// left to its own waiter. Blocks for some milliseconds.
pub(super) fn end_orphans(marker: &str, runner: i32) -> usize {
    let mut found = 0;
    // A process may fork while it is looked at; each round sees what the one before left. Bounded,
    // because a fork bomb without a cgroup can outrun any number of rounds.
    for _ in 0..16 {
        let all = all_processes();
        let me = getpid().as_raw_nonzero().get();
        // A zombie has no environment any more.
        let of_stage = |pid: i32, facts: &ProcessFacts| {
            pid != runner && facts.parent == me && (facts.group == runner || is_marked(pid, marker))
        };
        let mut doomed: Vec<i32> =
            all.iter().filter(|(pid, facts)| of_stage(**pid, facts)).map(|(&pid, _)| pid).collect();
        if doomed.is_empty() {
            return found;
        }
        let mut next = 0;
        while let Some(&parent) = doomed.get(next) {
            doomed.extend(all.iter().filter(|(_, f)| f.parent == parent).map(|(&pid, _)| pid));
            next += 1;
        }
        found += doomed.len();
        doomed.iter().for_each(|&pid| kill(pid));
        // Parents first: their children come to us when they are gone.
        doomed.iter().for_each(|&pid| reap(pid));
    }
    found
}

fn kill(pid: i32) {
    let Some(target) = Pid::from_raw(pid) else { return };
    if let Ok(handle) = pidfd_open(target, PidfdFlags::empty()) {
        // Gone already: as good as killed.
        let _gone = pidfd_send_signal(handle, Signal::KILL);
    }
}

/// Waits for a killed child of ours that nobody else waits for. A process in an uninterruptible
/// system call stays; it is reaped by init when the daemon ends.
fn reap(pid: i32) {
    let Some(target) = Pid::from_raw(pid) else { return };
    for _ in 0..50 {
        match waitid(WaitId::Pid(target), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(None) => std::thread::sleep(std::time::Duration::from_millis(2)),
            Ok(Some(_)) | Err(_) => return,
        }
    }
}

fn is_marked(pid: i32, marker: &str) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    environment.split(|&byte| byte == 0).any(|variable| {
        variable
            .strip_prefix(MARKER.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"="))
            .is_some_and(|value| OsStr::from_bytes(value) == marker)
    })
}

fn all_processes() -> BTreeMap<i32, ProcessFacts> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, facts(pid)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_program_name_with_parentheses_and_line_ends_does_not_shift_the_fields() {
        let mut stat = b"7 (a) R 1\n) (b) S 42 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 ".to_vec();
        stat.extend_from_slice(b"98765 1000 10 18446744073709551615");
        let facts = parse_stat(&stat).unwrap();
        assert_eq!((facts.state, facts.parent, facts.group), (b'S', 42, 7));
        assert_eq!(facts.start_time, 98765);
        assert_eq!(parse_stat(b"no parenthesis"), None);
        assert_eq!(parse_stat(b"7 (x) S"), None);
    }

    #[test]
    fn a_process_is_opened_only_with_its_own_start_time() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let start = facts(i32::try_from(child.id()).unwrap()).unwrap().start_time;
        assert!(open_exactly(child.id(), start).unwrap().is_some());
        assert!(
            open_exactly(child.id(), start + 1).unwrap().is_none(),
            "a recycled pid was opened"
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(open_exactly(child.id(), start).unwrap().is_none());
    }
}
