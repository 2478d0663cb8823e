//! The runner's end of the socket: frames in, frames out (`imagefactory_model::frames`).
//!
//! Every frame leaves whole, under a lock, whichever thread sends it. Only one process of the
//! runner speaks at a time: the one that is deepest in the sandbox. Bodies of received frames are
//! wiped after parsing, because a reply may carry a secret.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use imagefactory_model::frames::{self, FrameError, HostFrame, LENGTH_BYTES, RunnerFrame};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::wipe::wipe;

/// Why a frame did not come or go.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The daemon closed its end or died.
    #[error("the daemon is gone")]
    Closed,
    /// Not a frame that this runner knows, or none that may be sent.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The descriptor is not what it was: somebody in this process closed or replaced it.
    #[error("the socket to the daemon is broken: {0}")]
    Broken(#[source] io::Error),
}

/// The socket to the supervisor.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    writing: Mutex<()>,
}

impl Wire {
    /// Takes the socket over.
    pub fn new(socket: OwnedFd) -> Self {
        Wire { socket, writing: Mutex::new(()) }
    }

    /// The same socket, for a process that was just forked: its copy of the descriptor, its lock.
    ///
    /// The caller must not use its own `Wire` afterwards; two would mix their frames.
    pub(crate) fn inherit(&self) -> Wire {
        // SAFETY: the forked process owns a copy of the descriptor under this number, and the
        // caller, which never returns from here, does not close or use its own any more.
        Wire::new(unsafe { OwnedFd::from_raw_fd(self.socket.as_raw_fd()) })
    }

    /// The socket, to wait on.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Waits for the next frame. Only one thread receives.
    pub fn receive(&self) -> Result<HostFrame, WireError> {
        let mut length = [0u8; LENGTH_BYTES];
        self.receive_exactly(&mut length)?;
        let mut body = vec![0u8; frames::announced_length(length)?];
        self.receive_exactly(&mut body)?;
        let frame = frames::parse(&body);
        wipe(&mut body);
        Ok(frame?)
    }

    fn receive_exactly(&self, buffer: &mut [u8]) -> Result<(), WireError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match rustix::net::recv(&self.socket, &mut buffer[filled..], RecvFlags::empty()) {
                Ok((0, _)) => return Err(WireError::Closed),
                Ok((_, count)) => filled += count,
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Err(WireError::Closed),
                Err(errno) => return Err(WireError::Broken(errno.into())),
            }
        }
        Ok(())
    }

    /// Sends one frame, whole; waits while the daemon is behind with reading.
    pub fn send(&self, frame: &RunnerFrame) -> Result<(), WireError> {
        let buffer = frames::encode(frame)?;
        let _whole = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sent = 0;
        while sent < buffer.len() {
            match rustix::net::send(&self.socket, &buffer[sent..], SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(WireError::Closed),
                Err(errno) => return Err(WireError::Broken(errno.into())),
            }
        }
        Ok(())
    }
}
