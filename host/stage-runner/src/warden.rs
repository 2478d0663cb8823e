//! P0: what the supervisor starts, signals and waits for.

use imagefactory_model::frames::{Hello, HostFrame, PROTOCOL, SandboxReport};

use crate::error::RunnerError;
use crate::exit_status;
use crate::wire::{Wire, WireError};
use crate::{descriptors, library, worker};

/// Runs one task from Hello to the end of the process.
pub fn run() -> ! {
    let socket = match descriptors::take_socket() {
        Ok(socket) => socket,
        Err(error) => {
            eprintln!("imagefactory-stage-runner: {error}");
            exit_status::leave(exit_status::BROKEN_WIRE)
        }
    };
    let wire = Wire::new(socket);
    let hello = match receive_hello(&wire) {
        Ok(hello) => hello,
        Err(error) => worker::refuse(&wire, &error),
    };
    let library = match library::open_checked(&hello.plugin) {
        Ok(library) => library,
        Err(error) => worker::refuse(&wire, &error),
    };
    let sandbox =
        SandboxReport { profile: hello.sandbox.profile, active: Vec::new(), missing: Vec::new() };
    worker::work(wire, hello, library, sandbox)
}

fn receive_hello(wire: &Wire) -> Result<Hello, RunnerError> {
    let unexpected = |got| RunnerError::UnexpectedFrame { got, expected: "Hello" };
    let hello = match wire.receive() {
        Ok(HostFrame::Hello(hello)) => *hello,
        Ok(HostFrame::Start(_)) => return Err(unexpected("Start")),
        Ok(HostFrame::Reply { .. }) => return Err(unexpected("Reply")),
        Ok(HostFrame::Cancel) => return Err(unexpected("Cancel")),
        Err(WireError::Closed) => exit_status::leave(exit_status::ORPHANED),
        Err(WireError::TooLong { .. }) => return Err(unexpected("an oversized frame")),
        Err(WireError::Malformed(_)) => return Err(unexpected("an unreadable frame")),
        Err(WireError::Broken(_)) => exit_status::leave(exit_status::BROKEN_WIRE),
    };
    if hello.protocol == PROTOCOL {
        Ok(hello)
    } else {
        Err(RunnerError::ProtocolVersion { daemon: hello.protocol })
    }
}
