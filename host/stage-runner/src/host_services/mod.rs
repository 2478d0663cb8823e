//! What the host does for a plugin, as safe functions: `imgf_host` without its pointers.
//!
//! `table.rs` is the C side: it reads arguments and calls in here. What the runner knows is
//! answered at once (configuration, paths, checkpoints); what only the daemon knows becomes a Call
//! that blocks the plugin's thread until its Reply (`pending_calls.rs`). Every function may be
//! called on any thread. After `destroy` all of them refuse.

mod arguments;
mod last_error;
mod pending_calls;
mod result_types;
mod table;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use imagefactory_model::frames::{CallReply, FrameError, HostCall, PluginErrorReport, RunnerFrame};
use imagefactory_model::stage::{
    Artifact, JournalEntry, LogLevel, Operation, Progress, StageOrder, StagePaths,
};
use imagefactory_plugin_sdk::abi::{
    IMGF_E_CANCELLED, IMGF_E_INTERNAL, IMGF_E_INVALID_ARGUMENT, IMGF_E_INVALID_STATE, IMGF_E_IO,
    IMGF_E_NOT_FOUND, IMGF_PATH_CACHE_DIR, IMGF_PATH_INPUT_IMAGE, IMGF_PATH_OUTPUT_IMAGE,
    IMGF_PATH_PLUGIN_DATA, IMGF_PATH_STATE_DIR, IMGF_PATH_WORK_DIR, imgf_str,
};
use serde_json::{Map, Value};

use crate::cancellation::Cancellation;
use crate::exit_status;
use crate::secrets::{SecretFault, Secrets};
use crate::status::known_status;
use crate::texts::{InnerNul, KeptTexts};
use crate::wire::{Wire, WireError};

pub use pending_calls::PendingCalls;
pub use table::HostTable;

/// A host function that does not return IMGF_OK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFault {
    /// `IMGF_E_*`.
    pub code: i32,
    /// For `last_error`.
    pub message: String,
}

impl HostFault {
    fn new(code: i32, message: impl Into<String>) -> Self {
        HostFault { code, message: message.into() }
    }

    fn argument(message: impl Into<String>) -> Self {
        HostFault::new(IMGF_E_INVALID_ARGUMENT, message)
    }
}

impl From<InnerNul> for HostFault {
    fn from(error: InnerNul) -> Self {
        HostFault::new(IMGF_E_INTERNAL, error.to_string())
    }
}

/// The services of one stage.
#[derive(Debug)]
pub struct HostServices {
    wire: Arc<Wire>,
    cancellation: Arc<Cancellation>,
    calls: Arc<PendingCalls>,
    operation: Operation,
    config: Map<String, Value>,
    paths: StagePaths,
    checkpoints: Mutex<BTreeMap<String, String>>,
    kept: KeptTexts,
    secrets: Secrets,
    error_reported: AtomicBool,
    ended: AtomicBool,
}

impl HostServices {
    /// The services for one order.
    pub fn new(
        wire: Arc<Wire>,
        cancellation: Arc<Cancellation>,
        calls: Arc<PendingCalls>,
        order: &StageOrder,
    ) -> Self {
        HostServices {
            wire,
            cancellation,
            calls,
            operation: order.operation,
            config: order.config.clone(),
            paths: order.paths.clone(),
            checkpoints: Mutex::new(order.checkpoints.clone()),
            kept: KeptTexts::default(),
            secrets: Secrets::default(),
            error_reported: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        }
    }

    /// `destroy` has returned: nothing is served any more, secrets are gone.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.secrets.release_all();
    }

    /// Did the plugin hand over an error record?
    pub fn error_was_reported(&self) -> bool {
        self.error_reported.load(Ordering::Acquire)
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn log(&self, level: LogLevel, message: String, fields: Option<Value>) {
        // A line that does not get through fails nobody; a daemon that is gone ends the stage.
        self.send(&RunnerFrame::Log { level, message, fields }).ok();
    }

    fn progress(&self, progress: Progress) -> Result<(), HostFault> {
        if self.cancellation.is_asked() {
            return Err(HostFault::new(IMGF_E_CANCELLED, "the stage is to end"));
        }
        self.send(&RunnerFrame::Progress(progress))
    }

    fn report_error(&self, mut report: PluginErrorReport) -> Result<(), HostFault> {
        if report.code == 0 {
            return Err(HostFault::argument("an error record with code 0 (IMGF_OK)"));
        }
        report.code = known_status(report.code);
        if self.error_reported.swap(true, Ordering::AcqRel) {
            let message = "an error record was given before; the first one stands";
            return Err(HostFault::new(IMGF_E_INVALID_STATE, message));
        }
        self.send(&RunnerFrame::Error(Box::new(report)))
    }

    fn set_result(&self, key: String, value: Value) -> Result<(), HostFault> {
        result_types::check(self.operation, &key, &value).map_err(HostFault::argument)?;
        self.send(&RunnerFrame::Result { key, value })
    }

    fn journal(&self, entry: JournalEntry) -> Result<(), HostFault> {
        self.call_done(HostCall::Journal(entry))
    }

    fn config_get(&self, key: &str) -> Result<imgf_str, HostFault> {
        let value = self.config.get(key).ok_or_else(|| {
            HostFault::new(IMGF_E_NOT_FOUND, format!("{key} is not configured for this plugin"))
        })?;
        Ok(self.kept.keep("config", key, &value.to_string())?)
    }

    fn path_get(&self, which: u32) -> Result<imgf_str, HostFault> {
        let (name, path) = match which {
            IMGF_PATH_WORK_DIR => ("WORK_DIR", Some(&self.paths.work_dir)),
            IMGF_PATH_INPUT_IMAGE => ("INPUT_IMAGE", self.paths.input_image.as_ref()),
            IMGF_PATH_OUTPUT_IMAGE => ("OUTPUT_IMAGE", self.paths.output_image.as_ref()),
            IMGF_PATH_PLUGIN_DATA => ("PLUGIN_DATA", self.paths.plugin_data.as_ref()),
            IMGF_PATH_STATE_DIR => ("STATE_DIR", Some(&self.paths.state_dir)),
            IMGF_PATH_CACHE_DIR => ("CACHE_DIR", self.paths.cache_dir.as_ref()),
            other => return Err(HostFault::argument(format!("there is no path number {other}"))),
        };
        let operation = self.operation;
        let path = path.ok_or_else(|| {
            HostFault::new(IMGF_E_NOT_FOUND, format!("{operation} has no IMGF_PATH_{name}"))
        })?;
        let path = path.to_str().ok_or_else(|| {
            HostFault::new(IMGF_E_INTERNAL, format!("IMGF_PATH_{name} is not UTF-8"))
        })?;
        Ok(self.kept.keep("path", name, path)?)
    }

    fn image_get(&self, id: &str) -> Result<imgf_str, HostFault> {
        match self.call(HostCall::ImageGet { id: id.to_owned() })? {
            CallReply::Text(image) => Ok(self.kept.keep("image", id, &image)?),
            other => Err(odd_reply(&other)),
        }
    }

    fn secret_get(&self, name: &str) -> Result<imgf_str, HostFault> {
        match self.call(HostCall::SecretGet { name: name.to_owned() })? {
            CallReply::Text(secret) => self.secrets.keep(name, secret).map_err(|fault| {
                let code = match fault {
                    SecretFault::Text(_) => IMGF_E_INVALID_ARGUMENT,
                    SecretFault::Memory(_) => IMGF_E_IO,
                };
                HostFault::new(code, format!("secret {name} {fault}"))
            }),
            other => Err(odd_reply(&other)),
        }
    }

    fn secret_release(&self, name: &str) {
        self.secrets.release(name);
    }

    fn add_cloud_plugin_content(&self, content: Value) -> Result<(), HostFault> {
        if self.operation != Operation::BuilderWillCreateTargetImage {
            let message = format!(
                "content for the OS plugin is taken in {}, not in {}",
                Operation::BuilderWillCreateTargetImage,
                self.operation
            );
            return Err(HostFault::new(IMGF_E_INVALID_STATE, message));
        }
        self.send(&RunnerFrame::TargetContent { content })
    }

    fn checkpoint_put(&self, key: &str, value: String) -> Result<(), HostFault> {
        self.call_done(HostCall::CheckpointPut { key: key.to_owned(), value: value.clone() })?;
        let mut checkpoints = self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
        checkpoints.insert(key.to_owned(), value);
        Ok(())
    }

    fn checkpoint_get(&self, key: &str) -> Result<imgf_str, HostFault> {
        let checkpoints = self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let value = checkpoints.get(key).ok_or_else(|| {
            HostFault::new(IMGF_E_NOT_FOUND, format!("no checkpoint {key} was put"))
        })?;
        Ok(self.kept.keep("checkpoint", key, value)?)
    }

    fn artifact_add(&self, artifact: Artifact) -> Result<(), HostFault> {
        self.call_done(HostCall::ArtifactAdd(artifact))
    }

    fn lock(&self, name: String, timeout_ms: u64) -> Result<(), HostFault> {
        self.call_done(HostCall::Lock { name, timeout_ms })
    }

    fn unlock(&self, name: String) -> Result<(), HostFault> {
        self.call_done(HostCall::Unlock { name })
    }

    fn next_listen_port(&self) -> Result<u16, HostFault> {
        match self.call(HostCall::NextListenPort)? {
            CallReply::Port(port) => Ok(port),
            other => Err(odd_reply(&other)),
        }
    }

    fn call_done(&self, call: HostCall) -> Result<(), HostFault> {
        match self.call(call)? {
            CallReply::Done => Ok(()),
            other => Err(odd_reply(&other)),
        }
    }

    /// Asks the daemon and waits for its answer.
    fn call(&self, call: HostCall) -> Result<CallReply, HostFault> {
        let reply = self.calls.call(call, |id, call| self.send(&RunnerFrame::Call { id, call }))?;
        match reply {
            CallReply::Failed { code, message } => {
                Err(HostFault { code: known_status(code), message })
            }
            reply => Ok(reply),
        }
    }

    fn send(&self, frame: &RunnerFrame) -> Result<(), HostFault> {
        match self.wire.send(frame) {
            Ok(()) => Ok(()),
            // The control thread sees it too and ends the stage in good order.
            Err(WireError::Closed) => Err(HostFault::new(IMGF_E_IO, "the daemon is gone")),
            Err(WireError::Frame(FrameError::TooLong { bytes })) => {
                Err(HostFault::argument(format!("{bytes} bytes are too long")))
            }
            Err(WireError::Frame(error)) => Err(HostFault::argument(error.to_string())),
            // Somebody in this process closed or replaced the socket: nothing can be told any
            // more, so success cannot be either.
            Err(WireError::Broken(_)) => exit_status::leave(exit_status::BROKEN_WIRE),
        }
    }
}

fn odd_reply(reply: &CallReply) -> HostFault {
    let kind = match reply {
        CallReply::Done => "Done",
        CallReply::Text(_) => "Text",
        CallReply::Port(_) => "Port",
        CallReply::Failed { .. } => "Failed",
    };
    HostFault::new(IMGF_E_INTERNAL, format!("the daemon's answer has the wrong form ({kind})"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;

    use imagefactory_plugin_sdk::abi::{IMGF_OK, imgf_host};
    use uuid::Uuid;

    use super::*;

    fn order() -> StageOrder {
        StageOrder {
            operation: Operation::CreateBaseImage,
            stage_id: Uuid::nil(),
            image_id: Uuid::nil(),
            attempt: 1,
            deadline_unix_ms: 0,
            target: None,
            provider: None,
            template_xml: None,
            template_json: None,
            parameters: Map::new(),
            images: Map::new(),
            resources: Map::new(),
            credential_name: None,
            config: Map::new(),
            target_contents: Vec::new(),
            checkpoints: BTreeMap::new(),
            journal: Vec::new(),
            paths: StagePaths {
                work_dir: PathBuf::from("/work"),
                input_image: None,
                output_image: None,
                plugin_data: None,
                state_dir: PathBuf::from("/state"),
                cache_dir: None,
            },
        }
    }

    #[test]
    fn after_destroy_every_function_refuses_and_nothing_is_sent() {
        let (ours, daemons) = UnixStream::pair().unwrap();
        daemons.set_nonblocking(true).unwrap();
        let services = HostServices::new(
            Arc::new(Wire::new(ours.into())),
            Arc::new(Cancellation::new().unwrap()),
            Arc::new(PendingCalls::default()),
            &order(),
        );
        let host = HostTable::new(services, 1);
        let mut out = imgf_str::ABSENT;
        // SAFETY: the table was just made and is never freed; `out` is ours.
        let (host_ptr, path_get, cancel_fd, secret_get) = unsafe {
            let table: &imgf_host = &*host.as_ptr();
            (
                table.ctx,
                table.path_get.unwrap(),
                table.cancel_fd.unwrap(),
                table.secret_get.unwrap(),
            )
        };
        // SAFETY: as above.
        unsafe {
            assert_eq!(path_get(host_ptr, IMGF_PATH_WORK_DIR, &mut out), IMGF_OK);
            assert_eq!(out.text().unwrap(), Some("/work"));
            assert!(cancel_fd(host_ptr) >= 0);
        }
        host.services().end();
        // SAFETY: as above; calling late is what is tried here.
        unsafe {
            assert_eq!(path_get(host_ptr, IMGF_PATH_WORK_DIR, &mut out), IMGF_E_INVALID_STATE);
            assert!(out.is_absent());
            let name = imgf_str::new("ec2");
            assert_eq!(secret_get(host_ptr, name, &mut out), IMGF_E_INVALID_STATE);
            assert_eq!(cancel_fd(host_ptr), -1);
        }
        let mut byte = [0; 1];
        let nothing = std::io::Read::read(&mut &daemons, &mut byte).unwrap_err();
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    }
}
