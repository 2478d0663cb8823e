//! Tells the host how far a work has come, and hears from it whether the stage is to end.
//!
//! The disk toolkit asks after each MiB; the host hears a few times a second. Called by whatever
//! reads or writes a whole image.

use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};

use crate::directory::ImageDirectory;

/// Progress is told so often; a cancel is heard each time.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// One work's progress.
pub(crate) struct Teller<'t> {
    host: &'t Host,
    phase: &'t str,
    message: &'t str,
    total: u64,
    told_at: Option<Instant>,
}

impl<'t> Teller<'t> {
    /// `total` in bytes.
    pub(crate) fn new(host: &'t Host, phase: &'t str, message: &'t str, total: u64) -> Teller<'t> {
        Teller { host, phase, message, total, told_at: None }
    }

    /// So many bytes are done. The error says that the stage is to end.
    pub(crate) fn tell(&mut self, done: u64) -> Result<()> {
        let due = self.told_at.is_none_or(|told_at| told_at.elapsed() >= TELL_EVERY);
        if !due && done < self.total {
            return self.host.check_cancelled();
        }
        self.told_at = Some(Instant::now());
        // The file may have grown since it was looked at.
        self.host.progress(self.phase, self.message, done.min(self.total), self.total)
    }

    /// What ended the work, in words: a cancel needs none.
    pub(crate) fn told(&self, error: PluginError, directory: &ImageDirectory) -> PluginError {
        match error.code() {
            ErrorCode::Cancelled => error,
            ErrorCode::Quota => error.while_doing(self.message).hint(directory.room()),
            _ => error.while_doing(self.message),
        }
    }
}
