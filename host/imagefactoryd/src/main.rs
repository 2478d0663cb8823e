//! `imagefactoryd`: the Image Factory daemon.
//!
//! - [`flags`]: the command line; [`logging`]: where the log goes
//! - [`plan`]: what flags and configuration mean for serving
//! - [`daemon`]: start order, signals, shutdown
//! - [`listen`], [`tls`], [`preface`], [`stall`], [`serve`]: sockets, certificate, first bytes,
//!   clients that do not read, the accept loop
//! - [`rest`]: REST API 2.0 on warp

mod daemon;
mod error;
mod flags;
mod listen;
mod logging;
mod plan;
mod preface;
mod rest;
mod serve;
mod stall;
mod tls;

use std::process::ExitCode;

use clap::Parser;

use crate::flags::Flags;

/// Exit status of a wrong command line or configuration (sysexits.h: EX_CONFIG).
const EXIT_CONFIGURATION: u8 = 78;

fn main() -> ExitCode {
    let arguments = imagefactory_configuration::flags::with_hyphens(std::env::args_os());
    let flags = Flags::parse_from(arguments);
    let plan = match plan::Plan::load(&flags) {
        Ok(plan) => plan,
        Err(error) => return refused(&error, EXIT_CONFIGURATION),
    };
    if flags.check_config {
        return check_config(&plan);
    }
    logging::start(plan.verbosity);
    match daemon::run(plan, flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refused(&error, 1),
    }
}

/// Says on standard error what was found; the exit status is for scripts.
fn check_config(plan: &plan::Plan) -> ExitCode {
    use std::io::Write;
    let mut said = plan.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    said = [said, "the configuration is valid\n".to_owned()].concat();
    // Nobody to tell that nobody can be told.
    std::io::stderr().write_all(said.as_bytes()).ok();
    ExitCode::SUCCESS
}

fn refused(error: &dyn std::error::Error, status: u8) -> ExitCode {
    use std::io::Write;
    let text = format!("imagefactoryd: {}\n", error::chain(error));
    // As above.
    std::io::stderr().write_all(text.as_bytes()).ok();
    ExitCode::from(status)
}
