//! The command line's definition: one variant a command. What a command does stands in the module
//! of its name.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::plugin::{self, PluginCommand};

/// Build system images and bring them to clouds.
#[derive(Debug, Parser)]
#[command(name = "imagefactory", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// All commands.
#[derive(Debug, Subcommand)]
enum Command {
    /// Describe, validate and begin plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
}

impl Cli {
    /// Runs the command.
    pub(crate) fn run(self) -> ExitCode {
        match self.command {
            Command::Plugin(command) => plugin::run(command),
        }
    }
}
