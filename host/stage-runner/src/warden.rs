//! P0: what the supervisor starts, signals and waits for.
//!
//! ```text
//! P0 warden   reads Hello, checks the library, locks the attempt, splits off ...
//! P1 init     ... the first process of new namespaces, which prepares them and forks ...
//! P2 worker   ... the process that loads the plugin and speaks to the daemon
//! ```
//! P2's death ends P1, P1's death kills everything in the namespace, and only when all of it is
//! gone does P0 end, in the way P2 ended. The plugin cannot be P1, because a first process ignores
//! `abort()` and `raise()`. Where no namespace can be had there is no P1; P0 then adopts and kills
//! what P2 leaves behind. P0 also sees to it that nothing outlives the daemon for long.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use imagefactory_model::frames::{
    FrameError, Hello, HostFrame, PROTOCOL, RunnerTask, SandboxReport,
};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::FdFlags;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::error::RunnerError;
use crate::init::Inside;
use crate::library::CheckedLibrary;
use crate::sandbox::namespaces::{self, Side, Walls};
use crate::sandbox::profiles::{self, Caller, Layers};
use crate::sandbox::{self, kvm, limits};
use crate::wire::{Wire, WireError};
use crate::{descriptors, exit_status, init, library, orphans, signals, worker};

/// How much longer than its own ladder (cancel grace, then 5 s) a worker may take to end after the
/// daemon is gone; then it is killed.
const LADDER: Duration = Duration::from_secs(7);

/// Runs one task from Hello to the end of the process.
pub fn run() -> ! {
    let socket = match descriptors::take_socket() {
        Ok(socket) => socket,
        Err(error) => {
            eprintln!("imagefactory-stage-runner: {error}");
            exit_status::leave(exit_status::BROKEN_WIRE)
        }
    };
    let wire = Wire::new(socket);
    signals::reset();
    signals::outlast_requests();
    match start(&wire) {
        Ok(started) => guard(wire, started),
        Err(error) => worker::refuse(&wire, &error),
    }
}

/// A child that was split off.
struct Started {
    child: Pid,
    walls: Walls,
    status: std::io::PipeReader,
    cancel_grace: Duration,
    /// Held until nothing of the attempt lives.
    _lock: Option<OwnedFd>,
}

fn start(wire: &Wire) -> Result<Started, RunnerError> {
    let hello = receive_hello(wire)?;
    limits::forbid_core_files()?;
    let library = match hello.task {
        RunnerTask::Probe => library::open_nothing()?,
        RunnerTask::Describe | RunnerTask::Stage => library::open_checked(&hello.plugin)?,
    };
    let caller = Caller::current();
    let layers = profiles::layers(&hello.sandbox, caller);
    let report = sandbox::empty_report(&hello.sandbox);
    let lock = hello.lock_file.as_deref().map(lock_attempt).transpose()?;
    split(wire, hello, library, (layers, caller), report, lock)
}

fn split(
    wire: &Wire,
    hello: Hello,
    library: CheckedLibrary,
    (layers, caller): (Layers, Caller),
    mut report: SandboxReport,
    lock: Option<OwnedFd>,
) -> Result<Started, RunnerError> {
    let pipe = |error| RunnerError::layer("cannot make a pipe", error);
    let (go, gone) = std::io::pipe().map_err(pipe)?;
    let (status, status_writer) = std::io::pipe().map_err(pipe)?;
    let cancel_grace = Duration::from_millis(hello.sandbox.cancel_grace_ms);
    let warden = std::process::id();
    orphans::adopt();
    let kvm = kvm::node_for(&layers);
    let (walls, side) = namespaces::split(&layers, &mut report)
        .map_err(|error| RunnerError::layer("cannot start a process", error))?;
    let child = match side {
        Side::Outside(child) => child,
        Side::Inside => {
            drop((gone, status));
            let wire = wire.inherit();
            if !walls.processes_and_mounts {
                drop((go, status_writer));
                init::follow(warden);
                if let Err(error) = keep_for_tools(lock.as_ref()) {
                    worker::refuse(&wire, &error);
                }
                let layers = layers.without_namespaces(&hello.sandbox, caller);
                worker::work_without_init(wire, hello, library, layers, walls, report)
            }
            let status = status_writer;
            init::run(Inside { wire, hello, library, layers, walls, report, kvm, go, status })
        }
    };
    drop((go, status_writer));
    match map_ids(child, &layers, walls, caller).and_then(|word| tell(gone, &word)) {
        Ok(()) => Ok(Started { child, walls, status, cancel_grace, _lock: lock }),
        Err(error) => {
            // It waits for a word that will not come; its end is the pipe's.
            orphans::kill_and_bury(child);
            Err(error)
        }
    }
}

fn map_ids(
    child: Pid,
    layers: &Layers,
    walls: Walls,
    caller: Caller,
) -> Result<String, RunnerError> {
    let mut word = String::from("go\n");
    if let Some(mapping) = layers.user_namespace.filter(|_| walls.users) {
        let mapped = namespaces::map_ids(child, mapping, caller)?;
        let active = mapped.active.iter().map(|line| format!("active {line}\n"));
        let missing = mapped.missing.iter().map(|line| format!("missing {line}\n"));
        word.extend(active.chain(missing));
    }
    Ok(word)
}

fn tell(mut gone: std::io::PipeWriter, word: &str) -> Result<(), RunnerError> {
    match gone.write_all(word.as_bytes()) {
        Ok(()) => Ok(()),
        // Whoever has no use for it has closed its end; how it ends is seen by waiting.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(RunnerError::layer("cannot start the sandbox", error)),
    }
}

/// Waits for the child and ends as the worker ended.
fn guard(wire: Wire, started: Started) -> ! {
    let Started { child, walls, mut status, cancel_grace, _lock } = started;
    wait_or_kill(&wire, child, cancel_grace + LADDER);
    let mut wait_status = orphans::bury(child);
    if walls.processes_and_mounts {
        let mut of_worker = [0; 4];
        if status.read_exact(&mut of_worker).is_ok() {
            wait_status = i32::from_ne_bytes(of_worker);
        }
    } else {
        orphans::kill_all();
    }
    signals::mirror(wait_status)
}

/// Returns when the child has ended. Kills it when the daemon is gone for `patience`.
fn wait_or_kill(wire: &Wire, child: Pid, patience: Duration) {
    let Ok(child_fd) = rustix::process::pidfd_open(child, PidfdFlags::empty()) else {
        // Not on Linux 5.3 and newer. bury() waits then; only the watch over the daemon is lost.
        return;
    };
    let mut deadline: Option<Instant> = None;
    loop {
        let mut watched = vec![PollFd::new(&child_fd, PollFlags::IN)];
        let socket = wire.socket();
        if deadline.is_none() {
            watched.push(PollFd::from_borrowed_fd(socket, PollFlags::RDHUP));
        }
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let polled = rustix::event::poll(&mut watched, timeout.as_ref());
        match polled {
            Ok(0) => {
                // It may just have ended; then there is nothing to kill.
                rustix::process::pidfd_send_signal(&child_fd, Signal::KILL).ok();
                return;
            }
            Ok(_) if !watched[0].revents().is_empty() => return,
            Ok(_) => deadline = Some(Instant::now() + patience),
            Err(_) => {}
        }
    }
}

/// Locks the attempt until the last process that has the descriptor is gone.
fn lock_attempt(path: &Path) -> Result<OwnedFd, RunnerError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let locked = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).and_then(|file| {
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map(|()| file)
    });
    locked.map_err(|errno| RunnerError::Lock { path: path.to_owned(), source: errno.into() })
}

/// Without a pid namespace, programs that the plugin starts may outlive everything: they keep the
/// lock too, so that recovery sees them.
fn keep_for_tools(lock: Option<&OwnedFd>) -> Result<(), RunnerError> {
    let inherited = lock.map(|lock| rustix::io::fcntl_setfd(lock, FdFlags::empty()));
    inherited
        .unwrap_or(Ok(()))
        .map_err(|errno| RunnerError::layer("cannot hand the lock to tools", errno))
}

fn receive_hello(wire: &Wire) -> Result<Hello, RunnerError> {
    let unexpected = |got| RunnerError::UnexpectedFrame { got, expected: "Hello" };
    let hello = match wire.receive() {
        Ok(HostFrame::Hello(hello)) => *hello,
        Ok(HostFrame::Start(_)) => return Err(unexpected("Start")),
        Ok(HostFrame::Reply { .. }) => return Err(unexpected("Reply")),
        Ok(HostFrame::Cancel) => return Err(unexpected("Cancel")),
        Err(WireError::Closed) => exit_status::leave(exit_status::ORPHANED),
        Err(WireError::Frame(FrameError::TooLong { .. })) => {
            return Err(unexpected("an oversized frame"));
        }
        Err(WireError::Frame(_)) => return Err(unexpected("an unreadable frame")),
        Err(WireError::Broken(_)) => exit_status::leave(exit_status::BROKEN_WIRE),
    };
    if hello.protocol == PROTOCOL {
        Ok(hello)
    } else {
        Err(RunnerError::ProtocolVersion { daemon: hello.protocol })
    }
}
