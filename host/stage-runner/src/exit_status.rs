//! With which status a runner process ends, when no signal ends it.
//!
//! A stage that was called to its end leaves with 0, whatever the plugin answered: the answer is
//! in the End frame. The others are for the supervisor's log; it judges by the frames.

/// The operation was called and End was sent.
pub const FINISHED: i32 = 0;
/// A defect of the runner (EX_SOFTWARE).
pub const DEFECT: i32 = 70;
/// The plugin ended the thread that called it (EX_OSERR).
pub const ABANDONED: i32 = 71;
/// The daemon went away; the stage was ended (EX_TEMPFAIL).
pub const ORPHANED: i32 = 75;
/// The socket broke or carried something else than frames (EX_PROTOCOL).
pub const BROKEN_WIRE: i32 = 76;
/// The plugin was refused; the Refused frame says why (EX_CONFIG).
pub const REFUSED: i32 = 78;

/// Ends the process at once: no destructor, no `atexit` handler of a plugin runs.
pub fn leave(status: i32) -> ! {
    // SAFETY: _exit takes any status, touches no memory of ours and does not return.
    unsafe { libc::_exit(status) }
}
