//! `imagefactory-stage-runner`: started by imagefactoryd and imagefactory, one process a stage.
//! Takes no arguments but `--version` and `--validate` (of `imagefactory plugin validate`):
//! everything it needs comes through its socket.
//!
//! Without the standard library's own beginning (`no_main`): it looks for the stack of the main
//! thread in /proc and installs handlers that the runner takes away again, a twentieth of what an
//! empty stage costs.

#![no_main]

use std::ffi::c_char;
use std::io::Write;

use imagefactory_stage_runner::{signals, validate, warden};

/// Of a command line that is none (EX_USAGE).
const USAGE: i32 = 64;
/// What the `main` of every Rust program ends with when it panics.
const PANICKED: i32 = 101;

/// Called by libc. The arguments are read where every Rust program on Linux finds them.
// SAFETY: nobody else defines `main` in a program with `no_main`; the type is that of C.
#[unsafe(no_mangle)]
pub extern "C" fn main(_count: i32, _arguments: *const *const c_char) -> i32 {
    let status = std::panic::catch_unwind(run).unwrap_or(PANICKED);
    // What is not taken any more is nobody's loss.
    std::io::stdout().flush().ok();
    status
}

#[expect(clippy::print_stdout, reason = "the answer to --version belongs to standard output")]
fn run() -> i32 {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        None => warden::run(),
        Some(argument) if argument == "--version" => {
            println!("imagefactory-stage-runner {}", env!("CARGO_PKG_VERSION"));
            0
        }
        Some(argument) if argument == validate::ARGUMENT => {
            signals::survive_closed_connections();
            validate::main()
        }
        Some(argument) => {
            eprintln!(
                "imagefactory-stage-runner: unknown argument {}; imagefactoryd starts this program",
                argument.display()
            );
            USAGE
        }
    }
}
