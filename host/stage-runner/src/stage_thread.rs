//! The thread that meets the plugin: load, negotiate, create, one operation, destroy, End.
//!
//! It ends the process itself once End is sent. What it may not do is wait for frames: the control
//! thread (`control.rs`) hands it the order.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use imagefactory_model::frames::{
    Hello, LayoutCheck, PROTOCOL, PluginErrorReport, PluginFacts, PluginLibrary, Ready,
    RunnerFrame, RunnerTask, SandboxReport,
};
use imagefactory_model::stage::{Operation, StageOrder};
use imagefactory_plugin_sdk::abi::{
    IMGF_E_CANCELLED, IMGF_E_INVALID_ARGUMENT, IMGF_E_UNSUPPORTED, IMGF_OK,
};

use crate::cancellation::{AbortCall, Cancellation};
use crate::error::RunnerError;
use crate::exit_status;
use crate::host_services::{HostServices, HostTable, PendingCalls};
use crate::instance::{Instance, NotCreated};
use crate::library::CheckedLibrary;
use crate::negotiation::{self, ABI_RANGE, LoadedPlugin};
use crate::stage_input::StageInput;
use crate::status::{known_status, status_name};
use crate::wire::{Wire, WireError};
use crate::{cleanup_calls, cloud_calls, os_calls};

/// What the stage thread works with.
#[derive(Debug)]
pub struct StageThread {
    /// To the daemon.
    pub wire: Arc<Wire>,
    /// Asked by the control thread.
    pub cancellation: Arc<Cancellation>,
    /// Answered by the control thread.
    pub calls: Arc<PendingCalls>,
    /// The order, once it came.
    pub orders: Receiver<StageOrder>,
    /// Which plugin, and End's nonce.
    pub hello: Hello,
    /// Checked before the sandbox.
    pub library: CheckedLibrary,
    /// For Ready.
    pub sandbox: SandboxReport,
}

/// How the operation ended.
struct Ending {
    code: i32,
    should: Option<bool>,
}

/// Why nothing was called to its end.
enum Stop {
    Refused(RunnerError),
    Wire(WireError),
    NoOrder,
}

impl From<RunnerError> for Stop {
    fn from(error: RunnerError) -> Self {
        Stop::Refused(error)
    }
}

impl From<WireError> for Stop {
    fn from(error: WireError) -> Self {
        Stop::Wire(error)
    }
}

impl StageThread {
    /// Does everything and returns the status to leave with.
    pub fn run(&self) -> i32 {
        match self.stage() {
            Ok(ending) => self.finish(ending),
            Err(Stop::Refused(error)) => {
                match self.wire.send(&RunnerFrame::Refused(error.refused())) {
                    Ok(()) => exit_status::REFUSED,
                    Err(error) => status_of(&error),
                }
            }
            Err(Stop::Wire(error)) => status_of(&error),
            Err(Stop::NoOrder) => exit_status::ORPHANED,
        }
    }

    fn finish(&self, ending: Ending) -> i32 {
        // What the plugin printed through C's stdio still waits in its buffers; _exit would lose
        // it. Before End, so that a plugin that hangs here is a hang and no success.
        // SAFETY: fflush(NULL) flushes all streams and takes no memory of ours.
        unsafe { libc::fflush(std::ptr::null_mut()) };
        let nonce = self.hello.nonce.clone();
        let end = RunnerFrame::End { code: ending.code, should: ending.should, nonce };
        match self.wire.send(&end) {
            Ok(()) => exit_status::FINISHED,
            Err(error) => status_of(&error),
        }
    }

    fn stage(&self) -> Result<Ending, Stop> {
        if self.hello.task == RunnerTask::Probe {
            let (facts, sandbox) = (facts_of_nothing(&self.hello.plugin), self.sandbox.clone());
            let ready = Ready { protocol: PROTOCOL, facts, sandbox };
            self.wire.send(&RunnerFrame::Ready(Box::new(ready)))?;
            return Ok(Ending { code: IMGF_OK, should: None });
        }
        let plugin_id = &self.hello.plugin.id;
        let entry = negotiation::load(&self.library, plugin_id)?;
        let (task, manifest) = (self.hello.task, &self.hello.plugin);
        let plugin = negotiation::negotiate(entry, task, manifest, &self.library.sha256)?;
        let (facts, sandbox) = (plugin.facts.clone(), self.sandbox.clone());
        let ready = Ready { protocol: PROTOCOL, facts, sandbox };
        self.wire.send(&RunnerFrame::Ready(Box::new(ready)))?;
        if task == RunnerTask::Describe {
            return Ok(Ending { code: IMGF_OK, should: None });
        }
        let order = self.orders.recv().map_err(|_| Stop::NoOrder)?;
        if !plugin.tables.has(order.operation) {
            return nothing_to_call(plugin_id, order.operation).map_err(Stop::Refused);
        }
        if self.cancellation.is_asked() {
            return Ok(self.ended_before_the_call(&order)?);
        }
        Ok(self.run_order(&plugin, &order)?)
    }

    fn ended_before_the_call(&self, order: &StageOrder) -> Result<Ending, WireError> {
        let message = format!("{} was cancelled before it was called", order.operation);
        self.send_error(IMGF_E_CANCELLED, message)?;
        Ok(Ending { code: IMGF_E_CANCELLED, should: None })
    }

    fn run_order(&self, plugin: &LoadedPlugin, order: &StageOrder) -> Result<Ending, WireError> {
        let plugin_id = &self.hello.plugin.id;
        let input = match StageInput::new(order) {
            Ok(input) => input,
            Err(error) => {
                self.send_error(IMGF_E_INVALID_ARGUMENT, error.to_string())?;
                return Ok(Ending { code: IMGF_E_INVALID_ARGUMENT, should: None });
            }
        };
        let (wire, cancellation) = (self.wire.clone(), self.cancellation.clone());
        let services = HostServices::new(wire, cancellation, self.calls.clone(), order);
        let host = HostTable::new(services, ABI_RANGE.1);
        let instance = match Instance::create(plugin, &host) {
            Ok(instance) => instance,
            Err(NotCreated { status, claimed_success }) => {
                host.services().end();
                let code = known_status(status);
                if claimed_success {
                    let message = format!(
                        "create of plugin {plugin_id} answered IMGF_OK without an instance"
                    );
                    self.send_error(code, message)?;
                } else if !host.services().error_was_reported() {
                    self.send_error(code, silent_failure(plugin_id, "create", status))?;
                }
                return Ok(Ending { code, should: None });
            }
        };
        let abort = plugin.tables.abort(order.operation);
        if let Some(function) = abort {
            self.cancellation.arm(AbortCall { function, instance: instance.as_ptr() });
        }
        let (status, should) = call(plugin, &instance, order.operation, &input);
        self.cancellation.disarm();
        instance.destroy();
        host.services().end();
        let code = known_status(status);
        if code != IMGF_OK && !host.services().error_was_reported() {
            self.send_error(code, silent_failure(plugin_id, order.operation.name(), status))?;
        }
        Ok(Ending { code, should: should.filter(|_| code == IMGF_OK) })
    }

    fn send_error(&self, code: i32, message: String) -> Result<(), WireError> {
        let report = PluginErrorReport { code, message, ..PluginErrorReport::default() };
        self.wire.send(&RunnerFrame::Error(Box::new(report)))
    }
}

/// A probe loads nothing, so nothing is there to tell.
fn facts_of_nothing(asked: &PluginLibrary) -> PluginFacts {
    PluginFacts {
        id: asked.id.clone(),
        version: asked.version.clone(),
        kind: asked.kind,
        abi_compiled: String::new(),
        abi_chosen: String::new(),
        interfaces: Vec::new(),
        operations: Vec::new(),
        layout: LayoutCheck::Absent,
        sha256: String::new(),
        warnings: Vec::new(),
    }
}

fn silent_failure(plugin_id: &str, function: &str, status: i32) -> String {
    let name = status_name(status);
    format!("{function} of plugin {plugin_id} returned {status} ({name}) without a reason")
}

/// The hooks of a cloud plugin are optional: one that is not there has nothing to do.
fn nothing_to_call(plugin_id: &str, operation: Operation) -> Result<Ending, RunnerError> {
    match operation {
        Operation::BuilderShouldCreateTargetImage => {
            Ok(Ending { code: IMGF_OK, should: Some(true) })
        }
        Operation::BuilderWillCreateTargetImage | Operation::BuilderDidCreateTargetImage => {
            Ok(Ending { code: IMGF_OK, should: None })
        }
        Operation::CreateBaseImage
        | Operation::CreateTargetImage
        | Operation::ResolveInputs
        | Operation::VerifyImage
        | Operation::PushImageToProvider
        | Operation::SnapshotImageOnProvider
        | Operation::DeleteFromProvider
        | Operation::Cleanup => Err(RunnerError::Unsupported {
            plugin: plugin_id.to_owned(),
            operation: operation.name(),
        }),
    }
}

fn call(
    plugin: &LoadedPlugin,
    on: &Instance,
    operation: Operation,
    input: &StageInput,
) -> (i32, Option<bool>) {
    let tables = &plugin.tables;
    let status = match operation {
        Operation::CreateBaseImage => os_calls::create_base_image(tables, on, input),
        Operation::CreateTargetImage => os_calls::create_target_image(tables, on, input),
        Operation::ResolveInputs => os_calls::resolve_inputs(tables, on, input),
        Operation::VerifyImage => os_calls::verify_image(tables, on, input),
        Operation::BuilderShouldCreateTargetImage => {
            let answer = cloud_calls::builder_should_create_target_image(tables, on, input);
            let (status, yes) = answer.unwrap_or((IMGF_E_UNSUPPORTED, true));
            return (status, Some(yes));
        }
        Operation::BuilderWillCreateTargetImage => {
            cloud_calls::builder_will_create_target_image(tables, on, input)
        }
        Operation::BuilderDidCreateTargetImage => {
            cloud_calls::builder_did_create_target_image(tables, on, input)
        }
        Operation::PushImageToProvider => cloud_calls::push_image_to_provider(tables, on, input),
        Operation::SnapshotImageOnProvider => {
            cloud_calls::snapshot_image_on_provider(tables, on, input)
        }
        Operation::DeleteFromProvider => cloud_calls::delete_from_provider(tables, on, input),
        Operation::Cleanup => cleanup_calls::cleanup(tables, on, input),
    };
    (status.unwrap_or(IMGF_E_UNSUPPORTED), None)
}

fn status_of(error: &WireError) -> i32 {
    match error {
        WireError::Closed => exit_status::ORPHANED,
        WireError::Frame(_) => exit_status::DEFECT,
        WireError::Broken(_) => exit_status::BROKEN_WIRE,
    }
}
