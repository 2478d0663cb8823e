//! The control thread: receives frames, keeps the pulse, and ends the stage when the daemon dies.
//!
//! It never calls the plugin itself except through `abort`, and that on a thread of its own, so no
//! plugin can stop it. The ladder when the daemon is gone is the same that the daemon would climb:
//! cancel, grace, SIGTERM to the group, 5 s, end.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use imagefactory_model::frames::{HostFrame, RunnerFrame};
use imagefactory_model::stage::StageOrder;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;

use crate::cancellation::Cancellation;
use crate::exit_status;
use crate::host_services::PendingCalls;
use crate::wire::{Wire, WireError};

/// The supervisor takes a runner for hung when several of these are missing.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Between SIGTERM and the end, as the daemon does it (plugin-abi.md 3.3, cancel ladder).
const TERMINATION_GRACE: Duration = Duration::from_secs(5);

/// What the control thread works with.
#[derive(Debug)]
pub struct Control {
    /// To the daemon.
    pub wire: Arc<Wire>,
    /// To the plugin.
    pub cancellation: Arc<Cancellation>,
    /// Of the plugin's threads.
    pub calls: Arc<PendingCalls>,
    /// To the stage thread.
    pub orders: SyncSender<StageOrder>,
    /// Kernel's id of the stage thread; empty until it has begun.
    pub stage_thread: Arc<OnceLock<i32>>,
    /// Between cancel and SIGTERM.
    pub cancel_grace: Duration,
}

impl Control {
    /// Runs until the process ends.
    pub fn run(self) -> ! {
        let mut next_heartbeat = Instant::now() + HEARTBEAT;
        loop {
            let until_heartbeat = next_heartbeat.saturating_duration_since(Instant::now());
            if until_heartbeat.is_zero() {
                self.heartbeat();
                next_heartbeat += HEARTBEAT;
                continue;
            }
            match self.wait_for_frame(until_heartbeat) {
                Ok(false) => {}
                Ok(true) => match self.wire.receive() {
                    Ok(frame) => self.take(frame),
                    Err(WireError::Closed) => self.daemon_is_gone(),
                    Err(_) => exit_status::leave(exit_status::BROKEN_WIRE),
                },
                Err(_) => exit_status::leave(exit_status::BROKEN_WIRE),
            }
        }
    }

    /// True = a frame (or the end) is there.
    fn wait_for_frame(&self, at_most: Duration) -> rustix::io::Result<bool> {
        let mut socket = [PollFd::from_borrowed_fd(self.wire.socket(), PollFlags::IN)];
        let at_most = Timespec::try_from(at_most).ok();
        match rustix::event::poll(&mut socket, at_most.as_ref()) {
            Ok(_) => {
                let seen = socket[0].revents();
                if seen.contains(PollFlags::NVAL) {
                    return Err(rustix::io::Errno::BADF);
                }
                Ok(!seen.is_empty())
            }
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn heartbeat(&self) {
        if !self.stage_thread_lives() {
            // pthread_exit or the like: nobody is left who could send End.
            exit_status::leave(exit_status::ABANDONED);
        }
        match self.wire.send(&RunnerFrame::Heartbeat) {
            // A daemon that is gone is seen on the next receive.
            Ok(()) | Err(WireError::Closed) => {}
            Err(_) => exit_status::leave(exit_status::BROKEN_WIRE),
        }
    }

    fn stage_thread_lives(&self) -> bool {
        let Some(&thread) = self.stage_thread.get() else { return true };
        let process = rustix::process::getpid().as_raw_nonzero().get();
        // SAFETY: signal 0 is never delivered; it only asks whether the thread exists.
        let answer = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, 0) };
        answer == 0
    }

    fn take(&self, frame: HostFrame) {
        match frame {
            // The channel holds one order and the stage thread takes one: a second Start is out
            // of order.
            HostFrame::Start(order) => {
                if self.orders.try_send(*order).is_err() {
                    exit_status::leave(exit_status::BROKEN_WIRE);
                }
            }
            HostFrame::Reply { id, reply } => self.calls.answer(id, reply),
            HostFrame::Cancel => self.cancel(),
            HostFrame::Hello(_) => exit_status::leave(exit_status::BROKEN_WIRE),
        }
    }

    /// Flag, descriptor, `abort()`, and no more waiting for locks.
    fn cancel(&self) {
        // Flag first and here: an order that comes next must find it.
        self.cancellation.ask();
        self.calls.cancel();
        let cancellation = self.cancellation.clone();
        let builder = std::thread::Builder::new().name("abort".into());
        // Without a thread (limit reached) flag and descriptor must do.
        builder.spawn(move || cancellation.abort()).ok();
    }

    fn daemon_is_gone(&self) -> ! {
        self.calls.close();
        self.cancel();
        // The stage thread ends the process as soon as the operation returns; these sleeps are the
        // ladder's own steps, not a wait for something that could be watched.
        std::thread::sleep(self.cancel_grace);
        // Our own death by this signal would take the rest with it at once; tools get 5 s.
        // SAFETY: ignoring a signal touches no memory; the process is about to end.
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
        // Nobody there to be told if this fails, and the end comes anyway.
        rustix::process::kill_current_process_group(Signal::TERM).ok();
        std::thread::sleep(TERMINATION_GRACE);
        exit_status::leave(exit_status::ORPHANED)
    }
}
