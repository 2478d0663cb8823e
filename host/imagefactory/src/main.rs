//! `imagefactory`: the factory as a command line. Parses its arguments and runs one command.

mod cli;
mod plugin;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::Cli::parse().run()
}
