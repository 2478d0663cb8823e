//! P1: the first process of the stage's pid namespace.
//!
//! Arranges what can be seen, becomes who the stage is, starts the worker, buries orphans, and
//! ends when the worker ends: then the kernel kills whatever is left in the namespace. It tells the
//! warden how the worker ended, because a first process cannot die by the same signal itself.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::parent_id;

use imagefactory_model::frames::{Hello, SandboxReport};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal};

use crate::error::RunnerError;
use crate::library::CheckedLibrary;
use crate::sandbox::namespaces::Walls;
use crate::sandbox::profiles::Layers;
use crate::sandbox::{identity, limits, mounts};
use crate::wire::Wire;
use crate::{exit_status, signals, worker};

/// What the warden gives to the process inside.
#[derive(Debug)]
pub struct Inside {
    /// To the daemon.
    pub wire: Wire,
    /// Which plugin, which sandbox.
    pub hello: Hello,
    /// Checked and open.
    pub library: CheckedLibrary,
    /// What to put up.
    pub layers: Layers,
    /// What stands already.
    pub walls: Walls,
    /// So far.
    pub report: SandboxReport,
    /// /dev/kvm for the stage, mounted nowhere yet.
    pub kvm: Option<std::os::fd::OwnedFd>,
    /// The warden's word that ids are mapped; its end without a word is the warden's end.
    pub go: std::io::PipeReader,
    /// Takes the worker's wait status.
    pub status: std::io::PipeWriter,
}

/// Runs as the first process of the namespaces; never returns.
pub fn run(mut inside: Inside) -> ! {
    if let Err(error) = prepare(&mut inside) {
        worker::refuse(&inside.wire, &error);
    }
    match fork() {
        Ok(None) => {
            drop((inside.go, inside.status));
            let Inside { wire, hello, library, layers, walls, report, .. } = inside;
            worker::confine_and_work(wire, hello, library, layers, walls, report)
        }
        Ok(Some(child)) => {
            // From here on only the worker speaks.
            drop((inside.wire, inside.library));
            bury_until(child, inside.status)
        }
        Err(error) => {
            worker::refuse(&inside.wire, &RunnerError::layer("cannot start the worker", error))
        }
    }
}

fn prepare(inside: &mut Inside) -> Result<(), RunnerError> {
    signals::outlast_requests();
    if inside.walls.users {
        wait_for_ids(inside);
    }
    let (layers, sandbox) = (&inside.layers, &inside.hello.sandbox);
    if let Some(mapping) = layers.user_namespace {
        identity::enter_user_namespace(mapping)?;
    }
    let kvm = inside.kvm.take();
    mounts::arrange((layers, sandbox), inside.walls, kvm, &mut inside.report)?;
    identity::take(layers, inside.walls.users, &mut inside.report)?;
    if layers.sealed {
        identity::hide()?;
    }
    limits::forbid_core_files()?;
    die_with_the_warden(inside);
    Ok(())
}

/// The lines are what the warden found missing or made.
fn wait_for_ids(inside: &mut Inside) {
    let mut word = String::new();
    if inside.go.read_to_string(&mut word).is_err() || word.is_empty() {
        exit_status::leave(exit_status::DEFECT);
    }
    for line in word.lines() {
        if let Some(missing) = line.strip_prefix("missing ") {
            inside.report.missing.push(missing.into());
        } else if let Some(active) = line.strip_prefix("active ") {
            inside.report.active.push(active.into());
        }
    }
}

/// After the ids were taken: taking ids makes the kernel forget the wish.
fn die_with_the_warden(inside: &Inside) {
    // The warden has one thread, so "parent thread" and "parent" are the same. A kernel that
    // refuses a valid signal number does not exist.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).ok();
    // It may have died before: then nobody reads the status any more.
    let mut reader = [PollFd::from_borrowed_fd(inside.status.as_fd(), PollFlags::OUT)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    if rustix::event::poll(&mut reader, Some(&at_once)).is_err()
        || reader[0].revents().contains(PollFlags::ERR)
    {
        exit_status::leave(exit_status::ORPHANED);
    }
}

/// `None` = this is the child.
pub(crate) fn fork() -> std::io::Result<Option<Pid>> {
    // SAFETY: this process has one thread, so the child's copy of memory holds no foreign lock.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()),
        child => Ok(Pid::from_raw(child)),
    }
}

fn bury_until(worker: Pid, mut status: std::io::PipeWriter) -> ! {
    loop {
        let mut wait_status = 0;
        // SAFETY: waitpid writes one int, which is ours.
        let ended = unsafe { libc::waitpid(-1, &mut wait_status, 0) };
        if ended == worker.as_raw_nonzero().get() {
            // A warden that is gone needs no status.
            status.write_all(&wait_status.to_ne_bytes()).ok();
            exit_status::leave(exit_status::FINISHED);
        }
        if ended == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD) {
            exit_status::leave(exit_status::DEFECT);
        }
    }
}

/// Without a pid namespace the worker itself asks to die with the warden.
pub(crate) fn follow(warden: u32) {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).ok();
    if parent_id() != warden {
        exit_status::leave(exit_status::ORPHANED);
    }
}
