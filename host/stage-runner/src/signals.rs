//! Signals of the runner's processes.
//!
//! The supervisor signals the whole group. Only the worker and the plugin's tools follow; the
//! processes around them must see how that ends, so they ignore what can be ignored.

/// Signals that mean "end, please".
const ENDING: [i32; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];

/// The outer processes wait for the worker instead of following a request to end.
pub fn outlast_requests() {
    for signal in ENDING {
        // SAFETY: ignoring a signal touches no memory.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Takes [`outlast_requests`] back, in the process that the requests are for.
pub fn follow_requests() {
    for signal in ENDING {
        // SAFETY: setting a disposition touches no memory.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Everything as a fresh program expects it, except SIGPIPE: a plugin that writes to a closed
/// connection gets an error and does not die.
pub fn reset() {
    for signal in 1..=libc::SIGRTMAX() {
        let disposition = if signal == libc::SIGPIPE { libc::SIG_IGN } else { libc::SIG_DFL };
        // SAFETY: setting a disposition touches no memory; numbers that cannot be set are refused.
        unsafe { libc::signal(signal, disposition) };
    }
    // SAFETY: sigset_t is plain bits; both calls write to and read from our own.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Writing to a closed connection is an error and no death.
pub fn survive_closed_connections() {
    // SAFETY: ignoring a signal touches no memory.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Ends this process as another one ended: by the same signal, or with the same status.
pub fn mirror(wait_status: i32) -> ! {
    if libc::WIFEXITED(wait_status) {
        crate::exit_status::leave(libc::WEXITSTATUS(wait_status));
    }
    let signal = libc::WTERMSIG(wait_status);
    // SAFETY: no memory is touched. Core files are forbidden by limit.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::kill(libc::getpid(), signal);
    }
    // A signal that does not end a process cannot have ended the other; shells write it so.
    crate::exit_status::leave(128 + signal)
}
