//! Waiting that ends when the host asks the stage to end.

use std::os::raw::{c_int, c_short, c_ulong};
use std::thread;
use std::time::Duration;

/// `struct pollfd` of poll.h.
#[repr(C)]
struct PollFd {
    fd: c_int,
    events: c_short,
    revents: c_short,
}

/// "There is data to read"; the same number on every Linux.
const POLLIN: c_short = 1;

extern "C" {
    // The C library's own; the core has no dependency that could declare it.
    fn poll(fds: *mut PollFd, count: c_ulong, timeout_ms: c_int) -> c_int;
}

/// How often the flag is looked at when the host has no descriptor: a fiftieth of the 5 s that
/// plugin.h allows between two looks.
const FLAG_INTERVAL: Duration = Duration::from_millis(100);

/// Returns when `fd` is readable, `pause` is over, or a signal came; the caller looks again.
pub(super) fn wait_readable(fd: Option<i32>, pause: Duration) {
    match fd {
        Some(fd) => {
            let mut one = PollFd { fd, events: POLLIN, revents: 0 };
            // Rounded up, so that less than a millisecond does not become a busy loop.
            let timeout_ms = (pause.as_nanos() + 999_999) / 1_000_000;
            let timeout_ms = timeout_ms.min(c_int::MAX as u128) as c_int;
            // SAFETY: one valid pollfd, which lives through the call.
            let ready = unsafe { poll(&mut one, 1, timeout_ms) };
            let broken = ready > 0 && one.revents & POLLIN == 0;
            if broken {
                // A descriptor that is no longer one is always "ready": wait as if there was none.
                thread::sleep(pause.min(FLAG_INTERVAL));
            }
        }
        None => thread::sleep(pause.min(FLAG_INTERVAL)),
    }
}
