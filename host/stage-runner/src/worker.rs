//! The innermost process: two threads, one that meets the plugin and one that listens.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use imagefactory_model::frames::{Hello, RunnerFrame, SandboxReport};

use crate::cancellation::Cancellation;
use crate::control::Control;
use crate::error::RunnerError;
use crate::exit_status;
use crate::host_services::PendingCalls;
use crate::library::CheckedLibrary;
use crate::sandbox::limits::ProcessCount;
use crate::sandbox::namespaces::Walls;
use crate::sandbox::profiles::Layers;
use crate::sandbox::{self, identity, landlock, limits, seccomp};
use crate::signals;
use crate::stage_thread::StageThread;
use crate::wire::Wire;

/// What a C program's main thread has, and what C plugins are written for.
const STAGE_STACK_BYTES: usize = 8 << 20;

/// The last steps into the sandbox, then the task.
pub fn confine_and_work(
    wire: Wire,
    hello: Hello,
    library: CheckedLibrary,
    layers: Layers,
    walls: Walls,
    mut report: SandboxReport,
) -> ! {
    signals::follow_requests();
    if let Err(error) = confine(&hello, &layers, walls, &mut report) {
        refuse(&wire, &error);
    }
    work(wire, hello, library, report)
}

/// As the warden's own child, where no namespaces can be had.
pub fn work_without_init(
    wire: Wire,
    hello: Hello,
    library: CheckedLibrary,
    layers: Layers,
    walls: Walls,
    mut report: SandboxReport,
) -> ! {
    if let Err(error) = identity::take(&layers, false, &mut report) {
        refuse(&wire, &error);
    }
    confine_and_work(wire, hello, library, layers, walls, report)
}

fn confine(
    hello: &Hello,
    layers: &Layers,
    walls: Walls,
    report: &mut SandboxReport,
) -> Result<(), RunnerError> {
    let order = &hello.sandbox;
    // A user namespace counts its own processes, and so do ids that only this stage has.
    let own_count = walls.users || layers.identity.is_some();
    let count = if own_count { ProcessCount::OfTheStage } else { ProcessCount::OfOthers };
    limits::set_all(&order.limits, count, report)?;
    if layers.sealed {
        identity::seal(report)?;
    }
    if layers.landlock {
        landlock::confine(order, walls, report)?;
    }
    if let Some(rules) = layers.seccomp {
        seccomp::confine(rules, order.network || walls.network, report);
    }
    sandbox::insist(order, report)
}

/// Runs the task of `hello` in the sandbox that already stands, and ends the process.
fn work(wire: Wire, hello: Hello, library: CheckedLibrary, sandbox: SandboxReport) -> ! {
    let wire = Arc::new(wire);
    let cancellation = match Cancellation::new() {
        Ok(cancellation) => Arc::new(cancellation),
        Err(error) => refuse(&wire, &RunnerError::layer("cannot make an eventfd", error)),
    };
    let calls = Arc::new(PendingCalls::default());
    let (orders, taken_orders) = sync_channel(1);
    let stage_thread = Arc::new(OnceLock::new());
    let started = stage_thread.clone();
    let cancel_grace = Duration::from_millis(hello.sandbox.cancel_grace_ms);
    let stage = StageThread {
        wire: wire.clone(),
        cancellation: cancellation.clone(),
        calls: calls.clone(),
        orders: taken_orders,
        hello,
        library,
        sandbox,
    };
    let body = move || {
        // Empty until now: nobody else sets it.
        started.set(rustix::thread::gettid().as_raw_nonzero().get()).ok();
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stage.run()));
        exit_status::leave(run.unwrap_or(exit_status::DEFECT))
    };
    let builder = std::thread::Builder::new().name("stage".into()).stack_size(STAGE_STACK_BYTES);
    if let Err(error) = builder.spawn(body) {
        refuse(&wire, &RunnerError::layer("cannot start the stage thread", error));
    }
    Control { wire, cancellation, calls, orders, stage_thread, cancel_grace }.run()
}

/// Tells the supervisor why not, and ends the process.
pub fn refuse(wire: &Wire, error: &RunnerError) -> ! {
    match wire.send(&RunnerFrame::Refused(error.refused())) {
        Ok(()) => exit_status::leave(exit_status::REFUSED),
        Err(_) => exit_status::leave(exit_status::BROKEN_WIRE),
    }
}
