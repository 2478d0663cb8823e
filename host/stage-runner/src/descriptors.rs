//! The first thing a runner does: put its descriptors in order.
//!
//! The supervisor gives a socket as descriptor 0 and log pipes as 1 and 2. The socket goes to a
//! high close-on-exec number, where a plugin that reads standard input or closes low numbers does
//! not meet it; descriptor 0 becomes `/dev/null`; everything else is closed.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};

/// Lowest number for the runner's own descriptors: above those that shells and tools like to use.
const OWN_DESCRIPTORS_FROM: i32 = 10;

/// Takes the socket from descriptor 0 and closes what else was inherited.
///
/// Must be called once, before anything else opens a descriptor. Fails when descriptor 0 is no
/// socket: then no supervisor started this process.
pub fn take_socket() -> io::Result<OwnedFd> {
    let stdin = rustix::stdio::stdin();
    let mode = rustix::fs::fstat(stdin)?.st_mode;
    if FileType::from_raw_mode(mode) != FileType::Socket {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "standard input is no socket; imagefactoryd and imagefactory start this program, people do not",
        ));
    }
    let socket = rustix::io::fcntl_dupfd_cloexec(stdin, OWN_DESCRIPTORS_FROM)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    drop(null);
    let kept = socket.as_raw_fd() as u32;
    close_range(3, kept - 1)?;
    close_range(kept + 1, u32::MAX)?;
    Ok(socket)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: take_socket runs before anything in this process owns a descriptor above 2 but the
    // socket, which is outside both ranges.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
