//! Bytes sent, told to the host now and then. Several requests may share one count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::author::{Host, Result};

/// Often enough for a bar that moves, seldom enough to cost nothing.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// How far an upload is. Clones share the count.
#[derive(Clone)]
pub struct Progress {
    shared: Arc<Shared>,
}

struct Shared {
    phase: String,
    message: String,
    total: u64,
    done: AtomicU64,
    told: Mutex<Told>,
}

struct Told {
    at: Option<Instant>,
    done: u64,
}

impl Progress {
    /// Of so many bytes (0 = unknown), in a phase with a stable id.
    pub fn new(phase: &str, message: &str, total: u64) -> Progress {
        let told = Mutex::new(Told { at: None, done: 0 });
        let (phase, message) = (phase.to_owned(), message.to_owned());
        Progress { shared: Arc::new(Shared { phase, message, total, done: 0.into(), told }) }
    }

    /// Counts bytes that are done without being sent, as those of an earlier attempt.
    pub fn add(&self, bytes: u64) {
        self.shared.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Begins to count anew, for an upload that is repeated as a whole.
    pub fn restart(&self) {
        self.shared.done.store(0, Ordering::Relaxed);
    }

    /// Takes back what an attempt had sent that has to be repeated.
    pub(crate) fn take_back(&self, bytes: u64) {
        self.shared.done.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes so far.
    pub fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// Tells the host, if it is time to. What was told never goes down again.
    pub fn tell(&self, host: &Host) -> Result<()> {
        let total = self.shared.total;
        let done = if total == 0 { self.done() } else { self.done().min(total) };
        {
            let mut told = self.shared.told.lock().unwrap_or_else(|poison| poison.into_inner());
            let due = told.at.is_none_or(|at| at.elapsed() >= TELL_EVERY);
            let complete = total > 0 && done == total && told.done < total;
            if !(due || complete) || (told.at.is_some() && done <= told.done) {
                return Ok(());
            }
            *told = Told { at: Some(Instant::now()), done };
        }
        host.progress(&self.shared.phase, &self.shared.message, done, total)
    }
}
