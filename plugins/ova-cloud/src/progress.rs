//! Tells the host how far the packing is; hears each time whether the stage is to end.

use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::author::{Host, Result};

/// Progress is told so often.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// The progress of one phase.
pub(crate) struct Progress<'p> {
    host: &'p Host,
    phase: &'static str,
    message: String,
    total: u64,
    told_at: Option<Instant>,
}

impl<'p> Progress<'p> {
    /// `total` in whatever `tell` counts.
    pub(crate) fn new(host: &'p Host, phase: &'static str, message: String, total: u64) -> Self {
        Progress { host, phase, message, total, told_at: None }
    }

    /// So much is done. The error says that the stage is to end.
    pub(crate) fn tell(&mut self, done: u64) -> Result<()> {
        let due = self.told_at.is_none_or(|told_at| told_at.elapsed() >= TELL_EVERY);
        if !due && done < self.total {
            return self.host.check_cancelled();
        }
        self.told_at = Some(Instant::now());
        self.host.progress(self.phase, &self.message, done.min(self.total), self.total)
    }
}
