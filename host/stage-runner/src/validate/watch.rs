//! The outer process of a probe: forks the inner one, passes its lines on, ends it.
//!
//! Plugin code runs in the inner process only. The outer one is its subreaper, so that children
//! which called `setsid` or were orphaned come back to it: they are counted, named and killed. It
//! keeps the deadline and writes the last line, how it all ended. Where the kernel lets it, it
//! gives both a private mount namespace and an empty network first.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use imagefactory_model::stage::JournalEntry;
use imagefactory_model::validation::{Ended, Finding, PROBE_LINE_BYTES_MAX, ProbeLine, ProbeOrder};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal};

use super::Probe;
use super::bench::{Act, Bench};
use super::report::Report;

/// Children that are still on their way out when their parent has ended are given this long.
const LINGER: Duration = Duration::from_millis(300);
/// A fork bomb is killed in rounds; each round kills all that can be seen.
const KILL_ROUNDS_MAX: usize = 200;
/// What a plugin printed is told from its end.
const PRINTED_BYTES_MAX: u64 = 2 << 10;

/// Why a probe could not be run at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchError {
    #[error("{what}: {source}")]
    Io { what: &'static str, source: std::io::Error },
}

fn io(what: &'static str) -> impl FnOnce(rustix::io::Errno) -> WatchError {
    move |errno| WatchError::Io { what, source: errno.into() }
}

/// Runs all acts of the order's rule, one process each, and writes their lines to standard output.
pub(super) fn run(order: &ProbeOrder, probe: Probe) -> Result<(), WatchError> {
    let lines = own_lines_channel()?;
    confine(order.rule);
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(io("subreaper"))?;
    let deadline = Instant::now() + Duration::from_millis(order.timeout_ms);
    let mut journal = Vec::new();
    for act in Act::of(order) {
        if run_act(order, probe, act, &mut journal, (&lines, deadline))?.over {
            break;
        }
    }
    Ok(())
}

/// What decides whether another act follows.
struct ActSeen {
    over: bool,
}

/// One inner process from fork to the last of its children.
fn run_act(
    order: &ProbeOrder,
    probe: Probe,
    act: Act,
    journal: &mut Vec<JournalEntry>,
    (lines, deadline): (&OwnedFd, Instant),
) -> Result<ActSeen, WatchError> {
    let printed = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(order.folder.join("printed"))
        .map_err(|source| WatchError::Io { what: "a file for what the plugin prints", source })?;
    let (from_inner, to_outer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io("a pipe"))?;
    // SAFETY: this process has one thread, so the child may do whatever it likes after the fork.
    let pid = match unsafe { libc::fork() } {
        -1 => {
            return Err(WatchError::Io { what: "fork", source: std::io::Error::last_os_error() });
        }
        0 => {
            drop(from_inner);
            inner(order, probe, act, journal, (to_outer, &printed));
        }
        pid => pid,
    };
    drop(to_outer);
    let Some(pid) = Pid::from_raw(pid) else {
        return Err(WatchError::Io { what: "fork", source: std::io::Error::last_os_error() });
    };
    let handle = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        .map_err(io("a handle on the inner process"))?;
    let pump = pump(&from_inner, &handle, (lines, deadline), journal);
    let mut ended = end_of(pid, &handle, deadline);
    ended.leaked_processes = bury_descendants(&ended);
    // What was written between the last look and the end.
    let mut over = pump.finish(&from_inner, lines, journal) || act.is_last(order);
    ended.printed = tail(printed);
    if ended.signal.is_some() && ended.signal == act.expected_signal() && !ended.timed_out {
        ended.signal = None;
        ended.status = Some(0);
        write_line(lines, &ProbeLine::Done);
    }
    if act.forbids_leaks() && !ended.leaked_processes.is_empty() {
        let message = format!("after SIGTERM there is still {}", ended.leaked_processes.join(", "));
        write_line(lines, &ProbeLine::Finding(Finding { advice: false, message }));
        over = true;
    }
    over |= ended.timed_out || ended.status != Some(0);
    if over {
        write_line(lines, &ProbeLine::Ended(ended));
    }
    Ok(ActSeen { over })
}

/// The inner process: its own session, what it prints in a file, then the probe.
fn inner(
    order: &ProbeOrder,
    probe: Probe,
    act: Act,
    journal: &[JournalEntry],
    (to_outer, printed): (OwnedFd, &File),
) -> ! {
    let parent = rustix::process::getppid();
    // An outer process that dies takes this one along. Ids and limits are as the outer set them.
    let prepared = rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .and_then(|()| rustix::process::setsid().map(|_| ()))
        .and_then(|()| rustix::stdio::dup2_stdout(printed))
        .and_then(|()| rustix::stdio::dup2_stderr(printed));
    // Rust's own handlers swallow the first of these when it was sent by `raise`.
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: back to what a C program has; nothing of ours relies on the handlers.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    if prepared.is_ok() && parent == rustix::process::getppid() {
        let report = Report::new(to_outer);
        let bench = Bench::new(order, act, journal.to_vec(), report);
        probe(&bench);
        bench.report.done();
    }
    // SAFETY: ends this process without running destructors of the library, as the real host does.
    unsafe { libc::_exit(0) }
}

/// Reads lines until the inner process closes its end or the deadline passes.
struct Pump {
    rest: Vec<u8>,
    over: bool,
}

fn pump(
    from: &OwnedFd,
    process: &OwnedFd,
    (to, deadline): (&OwnedFd, Instant),
    journal: &mut Vec<JournalEntry>,
) -> Pump {
    let mut pump = Pump { rest: Vec::new(), over: false };
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Not the end of the stream alone: a forked child may hold the other end open.
        let (line, ended) = (PollFd::new(from, PollFlags::IN), PollFd::new(process, PollFlags::IN));
        let mut fds = [line, ended];
        if left.is_zero() || !wait_for(&mut fds, left) {
            return pump;
        }
        let nothing_to_read = fds[0].revents().is_empty();
        if nothing_to_read || !pump.read(from, to, journal) {
            return pump;
        }
    }
}

impl Pump {
    /// Reads once; `false` at the end of the stream.
    fn read(&mut self, from: &OwnedFd, to: &OwnedFd, journal: &mut Vec<JournalEntry>) -> bool {
        let mut buffer = [0u8; 16 << 10];
        match rustix::io::read(from, &mut buffer) {
            Ok(0) => return false,
            Ok(count) => self.rest.extend_from_slice(&buffer[..count]),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.pass_on(&line, to, journal);
        }
        if self.rest.len() > PROBE_LINE_BYTES_MAX {
            self.rest.clear(); // nothing of ours is that long
        }
        true
    }

    fn pass_on(&mut self, line: &[u8], to: &OwnedFd, journal: &mut Vec<JournalEntry>) {
        // A plugin may have written to the descriptor; what is no line of ours is dropped.
        let Ok(line) = serde_json::from_slice::<ProbeLine>(line) else { return };
        match &line {
            ProbeLine::Journal(entry) => journal.push(entry.clone()),
            ProbeLine::Skip(_) => self.over = true,
            ProbeLine::Finding(finding) if !finding.advice => self.over = true,
            ProbeLine::Ended(_) => return,
            _ => {}
        }
        write_line(to, &line);
    }

    /// Reads what is left without waiting; answers whether nothing more need be tried.
    fn finish(mut self, from: &OwnedFd, to: &OwnedFd, journal: &mut Vec<JournalEntry>) -> bool {
        while readable(from, Duration::ZERO) && self.read(from, to, journal) {}
        self.over
    }
}

fn readable(fd: &OwnedFd, wait: Duration) -> bool {
    wait_for(&mut [PollFd::new(fd, PollFlags::IN)], wait)
}

fn wait_for(fds: &mut [PollFd<'_>], wait: Duration) -> bool {
    let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos() as i64 };
    loop {
        match poll(fds, Some(&wait)) {
            Ok(count) => return count > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Waits for the inner process until the deadline, then kills it.
fn end_of(pid: Pid, handle: &OwnedFd, deadline: Instant) -> Ended {
    let left = deadline.saturating_duration_since(Instant::now());
    let mut ended = Ended {
        status: None,
        signal: None,
        timed_out: !readable(handle, left),
        leaked_processes: Vec::new(),
        printed: String::new(),
    };
    if ended.timed_out {
        // Fails only if it ended meanwhile.
        rustix::process::kill_process(pid, Signal::KILL).ok();
    }
    loop {
        match rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()) {
            Ok(Some((_, status))) => {
                ended.status = status.exit_status();
                ended.signal = status.terminating_signal();
                return ended;
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return ended,
        }
    }
}

/// Kills every descendant that is left and answers their names. All are children of ours by now or
/// will be once their parents are dead, because this process is their subreaper.
fn bury_descendants(ended: &Ended) -> Vec<String> {
    let linger = Instant::now() + LINGER;
    if !ended.timed_out {
        while Instant::now() < linger && !living_children().is_empty() {
            reap();
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let mut names = Vec::new();
    for _ in 0..KILL_ROUNDS_MAX {
        reap();
        let children = living_children();
        if children.is_empty() {
            break;
        }
        for (pid, name) in children {
            if names.len() < 16 && !names.contains(&name) {
                names.push(name);
            }
            if let Some(pid) = Pid::from_raw(pid) {
                rustix::process::kill_process(pid, Signal::KILL).ok(); // it may be gone
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    names
}

fn reap() {
    while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
}

/// Children of this process that are no zombies, with their names.
fn living_children() -> Vec<(i32, String)> {
    let path = format!("/proc/self/task/{}/children", std::process::id());
    let Ok(pids) = std::fs::read_to_string(path) else { return Vec::new() };
    let pids = pids.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        (!rest.trim_start().starts_with('Z')).then(|| (pid, format!("child {name} (pid {pid})")))
    })
    .collect()
}

/// The last bytes of what was printed.
fn tail(mut printed: File) -> String {
    let Ok(length) = printed.seek(SeekFrom::End(0)) else { return String::new() };
    let start = length.saturating_sub(PRINTED_BYTES_MAX);
    let mut bytes = Vec::new();
    if printed.seek(SeekFrom::Start(start)).is_err() {
        return String::new();
    }
    match printed.take(PRINTED_BYTES_MAX).read_to_end(&mut bytes) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

fn write_line(to: &OwnedFd, line: &ProbeLine) {
    let Ok(mut bytes) = serde_json::to_vec(line) else { return };
    bytes.push(b'\n');
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Ok(written) => rest = &rest[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return, // the command line is gone
        }
    }
}

/// Moves standard output to a descriptor that no plugin expects, and leaves nothing readable on 0.
fn own_lines_channel() -> Result<OwnedFd, WatchError> {
    let lines = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 40)
        .map_err(io("a descriptor for the lines"))?;
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|source| WatchError::Io { what: "/dev/null", source })?;
    rustix::stdio::dup2_stdin(&null).map_err(io("standard input"))?;
    rustix::stdio::dup2_stdout(&null).map_err(io("standard output"))?;
    Ok(lines)
}

/// The first rule that runs an operation: what comes before has no business on the network, and an
/// empty network costs the kernel more than everything else of a probe.
const FIRST_WITH_OPERATIONS: u16 = 204;

/// A private mount namespace and a network with nothing but loopback, where they can be had.
/// Also: no core files, they would hold the secrets of whoever validates with real ones.
fn confine(rule: u16) {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).ok(); // lowering is always allowed
    let network = if rule >= FIRST_WITH_OPERATIONS { libc::CLONE_NEWNET } else { 0 };
    let spaces = libc::CLONE_NEWNS | network;
    // SAFETY: unshare takes flags only; this process has one thread.
    let got = unsafe { libc::unshare(spaces) } == 0 || own_user_namespace(spaces);
    if !got {
        return; // an ordinary user without user namespaces: validate what can be validated
    }
    // Mounts of the plugin shall not reach the machine.
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
    )
    .ok(); // a container may forbid it; the namespace is ours all the same
    if network != 0 {
        raise_loopback();
    }
}

/// The same as an ordinary user: a user namespace in which the ids stay what they are.
fn own_user_namespace(spaces: libc::c_int) -> bool {
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    // SAFETY: as above.
    if unsafe { libc::unshare(spaces | libc::CLONE_NEWUSER) } != 0 {
        return false;
    }
    let map = |file: &str, text: String| {
        File::options()
            .write(true)
            .open(Path::new("/proc/self").join(file))
            .and_then(|mut to| to.write_all(text.as_bytes()))
    };
    map("setgroups", "deny".into()).is_ok()
        && map("uid_map", format!("{0} {0} 1", uid.as_raw())).is_ok()
        && map("gid_map", format!("{0} {0} 1", gid.as_raw())).is_ok()
}

/// A new network namespace has its loopback down; the mock provider listens on it.
fn raise_loopback() {
    // SAFETY: plain socket call; the result is checked.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return;
    }
    // SAFETY: a descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: ifreq is plain data; zero is valid for all its fields.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request outlives the call. Failure means no loopback; rule 410 then skips.
    unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCSIFFLAGS, &request) };
}
