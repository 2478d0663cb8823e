//! Waits for processes, and without a pid namespace finds and kills what the worker left behind.

use std::fs;

use rustix::process::{Pid, Signal};

/// Waits until the child has ended; its wait status.
pub fn bury(child: Pid) -> i32 {
    let mut wait_status = 0;
    loop {
        // SAFETY: waitpid writes one int, which is ours.
        let ended = unsafe { libc::waitpid(child.as_raw_nonzero().get(), &mut wait_status, 0) };
        let interrupted = std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR);
        if ended != -1 || !interrupted {
            return wait_status;
        }
    }
}

/// Ends a child at once.
pub fn kill_and_bury(child: Pid) {
    // One that has ended already is buried all the same.
    rustix::process::kill_process(child, Signal::KILL).ok();
    bury(child);
}

/// From now on orphaned descendants become children of this process.
pub fn adopt() {
    let own = rustix::process::getpid();
    // Linux 3.4; without it orphans go to the supervisor, which looks for them too.
    rustix::process::set_child_subreaper(Some(own)).ok();
}

/// Kills all children, and the children that they leave, until there are none.
pub fn kill_all() {
    loop {
        for child in children() {
            // Whoever ends meanwhile needs no signal.
            rustix::process::kill_process(child, Signal::KILL).ok();
        }
        let mut wait_status = 0;
        // SAFETY: waitpid writes one int, which is ours.
        let ended = unsafe { libc::waitpid(-1, &mut wait_status, 0) };
        if ended == -1 && std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return;
        }
    }
}

fn children() -> Vec<Pid> {
    let list = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    list.split_whitespace().filter_map(|id| Pid::from_raw(id.parse().ok()?)).collect()
}
