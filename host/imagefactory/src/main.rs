//! `imagefactory`: the factory as a command line. Parses its arguments and runs one command.
//!
//! - [`cli`]: the definition of all commands; [`commands`]: what each does
//! - [`inputs`], [`fetch_spec`]: what arguments name
//! - [`factory`]: what commands ask of a factory, [`local`] in this process or [`remote`] behind a
//!   daemon; [`image_view`]: an image as they show it
//! - [`output`], [`progress`], [`interrupt`], [`callbacks`], [`error`]: the rest
//! - [`plugin`]: `imagefactory plugin …`, for authors of plugins

mod callbacks;
mod cli;
mod commands;
mod error;
mod factory;
mod fetch_spec;
mod image_view;
mod inputs;
mod interrupt;
mod local;
mod output;
mod plugin;
mod progress;
mod remote;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use imagefactory_configuration::flags::with_hyphens;

fn main() -> ExitCode {
    let arguments = with_hyphens(std::env::args_os());
    let parsed = cli::Cli::command()
        .try_get_matches_from(arguments)
        .and_then(|matches| cli::Cli::from_arg_matches(&matches));
    match parsed {
        Ok(cli) => commands::run(cli),
        // Help and version too; they go to standard output with status 0.
        Err(error) => error.exit(),
    }
}
