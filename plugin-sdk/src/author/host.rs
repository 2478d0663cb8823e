//! The handle on the host's services. Clones are cheap; every method may be called from any thread.
//!
//! What a service answers is copied at once, so nothing here borrows from the host. After the
//! instance has ended every call is refused with [`ErrorCode::InvalidState`]. Journal, secrets and
//! the further host tables have files of their own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::{ErrorCode, PluginError, Result};
use super::host_table::HostTable;
use super::json;
use crate::abi::*;

/// Severities of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// The operation fails because of this.
    Error,
    /// Odd, but it goes on.
    Warn,
    /// One line per thing that a reader of the build log wants to see.
    Info,
    /// For the plugin's developers.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    fn number(self) -> u32 {
        match self {
            LogLevel::Error => IMGF_LOG_ERROR,
            LogLevel::Warn => IMGF_LOG_WARN,
            LogLevel::Info => IMGF_LOG_INFO,
            LogLevel::Debug => IMGF_LOG_DEBUG,
            LogLevel::Trace => IMGF_LOG_TRACE,
        }
    }
}

/// The host, as one plugin instance sees it.
#[derive(Clone)]
pub struct Host {
    pub(super) table: Arc<HostTable>,
}

impl Host {
    /// Adds one line to the stage's log. No secrets in it.
    pub fn log(&self, level: LogLevel, message: &str) {
        self.log_with_fields(level, message, None);
    }

    /// The same with a JSON object of fields ([`json::Object`] writes one).
    pub fn log_with_fields(&self, level: LogLevel, message: &str, fields_json: Option<&str>) {
        let (text, fields) = (imgf_str::new(message), imgf_str::optional(fields_json));
        // A line after the end of the instance is lost: there is nobody left to tell.
        self.table.visit(|host| {
            // SAFETY: the slot's contract; both texts outlive the call.
            unsafe { (host.log)(host.ctx, level.number(), text, fields) }
        });
    }

    /// [`LogLevel::Info`].
    pub fn info(&self, message: &str) {
        self.log(LogLevel::Info, message);
    }

    /// [`LogLevel::Warn`].
    pub fn warn(&self, message: &str) {
        self.log(LogLevel::Warn, message);
    }

    /// Tells how far the operation is: `done` of `total` units (0 = unknown) of a phase with a
    /// stable id (`install`, `upload`). [`ErrorCode::Cancelled`] when the stage is to end, so that
    /// `?` ends it.
    pub fn progress(&self, phase: &str, message: &str, done: u64, total: u64) -> Result<()> {
        let report = imgf_progress {
            struct_size: imgf_progress::SIZE,
            flags: 0,
            done,
            total,
            phase: imgf_str::new(phase),
            message: imgf_str::new(message),
        };
        // SAFETY: the slot's contract; the report and its texts outlive the call.
        self.table.call("progress", |host| unsafe { (host.progress)(host.ctx, &report) })
    }

    /// Is the stage to end early? Also true once the instance has ended.
    pub fn is_cancelled(&self) -> bool {
        // SAFETY: the slot's contract.
        self.table.visit(|host| unsafe { (host.is_cancelled)(host.ctx) }) != Some(0)
    }

    /// [`ErrorCode::Cancelled`] when the stage is to end, so that `?` ends it.
    pub fn check_cancelled(&self) -> Result<()> {
        if self.is_cancelled() {
            Err(PluginError::cancelled())
        } else {
            Ok(())
        }
    }

    /// A descriptor that becomes readable once the stage is to end, for `poll()` beside others; the
    /// host's, neither to be read nor closed. `None`: there is none, ask [`Host::is_cancelled`].
    pub fn cancel_fd(&self) -> Option<i32> {
        // SAFETY: the slot's contract.
        self.table.visit(|host| unsafe { (host.cancel_fd)(host.ctx) }).filter(|fd| *fd >= 0)
    }

    /// Sleeps, but wakes and returns [`ErrorCode::Cancelled`] as soon as the stage is to end.
    pub fn sleep_unless_cancelled(&self, pause: Duration) -> Result<()> {
        let until = Instant::now() + pause;
        loop {
            self.check_cancelled()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            super::cancel::wait_readable(self.cancel_fd(), left);
        }
    }

    /// Sets a result to a JSON value; the last write of a key wins. The keys of each operation
    /// stand at `imgf_host.set_result` in host.h.
    pub fn set_result_json(&self, key: &str, value_json: &str) -> Result<()> {
        let (key, value) = (imgf_str::new(key), imgf_str::new(value_json));
        // SAFETY: the slot's contract; both texts outlive the call.
        self.table.call("set_result", |host| unsafe { (host.set_result)(host.ctx, key, value) })
    }

    /// Sets a result to a text.
    pub fn set_result_text(&self, key: &str, value: &str) -> Result<()> {
        self.set_result_json(key, &json::quote(value))
    }

    /// One value of the configuration as JSON: the plugin's own section, or a public key of the
    /// host. `None` = not configured.
    pub fn config_json(&self, key: &str) -> Result<Option<String>> {
        let key = imgf_str::new(key);
        // SAFETY: the slot's contract; key and out outlive the call.
        let call = self.table.call_for_text("config_get", |host, out| unsafe {
            (host.config_get)(host.ctx, key, out)
        });
        none_if_not_found(call)
    }

    /// Another image of the store as a JSON object, by an id that stands in this stage's
    /// parameters or lineage.
    pub fn image_json(&self, image_id: &str) -> Result<String> {
        let id = imgf_str::new(image_id);
        // SAFETY: the slot's contract; id and out outlive the call.
        self.table
            .call_for_text("image_get", |host, out| unsafe { (host.image_get)(host.ctx, id, out) })
    }

    /// In `builder_will_create_target_image`: a TargetContent document for the OS plugin.
    pub fn add_cloud_plugin_content_json(&self, content_json: &str) -> Result<()> {
        let content = imgf_str::new(content_json);
        // SAFETY: the slot's contract; the text outlives the call.
        self.table.call("add_cloud_plugin_content", |host| unsafe {
            (host.add_cloud_plugin_content)(host.ctx, content)
        })
    }

    /// Private scratch of this attempt; the host removes it afterwards.
    pub fn work_dir(&self) -> Result<PathBuf> {
        self.path(IMGF_PATH_WORK_DIR)
    }

    /// The image to start from; never written.
    pub fn input_image(&self) -> Result<PathBuf> {
        self.path(IMGF_PATH_INPUT_IMAGE)
    }

    /// The image file to make; does not exist yet.
    pub fn output_image(&self) -> Result<PathBuf> {
        self.path(IMGF_PATH_OUTPUT_IMAGE)
    }

    /// Kept over all attempts of this stage.
    pub fn state_dir(&self) -> Result<PathBuf> {
        self.path(IMGF_PATH_STATE_DIR)
    }

    /// Read-only data that the plugin's package installed, if there is any.
    pub fn plugin_data(&self) -> Result<Option<PathBuf>> {
        none_if_not_found(self.path(IMGF_PATH_PLUGIN_DATA))
    }

    /// Of this plugin, shared by its stages, if the host has one; what lies there may vanish
    /// between stages.
    pub fn cache_dir(&self) -> Result<Option<PathBuf>> {
        none_if_not_found(self.path(IMGF_PATH_CACHE_DIR))
    }

    fn path(&self, which: u32) -> Result<PathBuf> {
        // SAFETY: the slot's contract; out outlives the call.
        let call = self.table.call_for_text("path_get", |host, out| unsafe {
            (host.path_get)(host.ctx, which, out)
        });
        call.map(PathBuf::from)
    }

    /// Hands over the error record; only the boundary calls it, once.
    pub(super) fn report(&self, error: &PluginError) {
        error.with_abi(|record| {
            self.table.visit(|host| {
                // SAFETY: the slot's contract; the record and its texts outlive the call. Its own
                // status has no one to go to: the operation's status says the rest.
                unsafe { (host.report_error)(host.ctx, record) }
            })
        });
    }
}

/// `NotFound` as `None`.
pub(super) fn none_if_not_found<T>(call: Result<T>) -> Result<Option<T>> {
    match call {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
