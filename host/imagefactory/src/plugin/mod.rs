//! `imagefactory plugin`: what plugin authors, packagers and operators ask about one plugin.
//!
//! - [`validate`]: holds a plugin to its duties (`rules`); each rule that runs plugin code has a
//!   runner process of its own (`probe`)
//! - [`describe`]: what a plugin is, or why it does not load
//! - [`scaffold`]: a new plugin that builds and validates
//!
//! This program never loads a plugin. The command line is defined here and run by [`run`]; the
//! other commands stand beside it in `cli.rs`.

mod describe;
mod elf;
mod error;
mod junit;
mod library_rules;
mod manifest_rules;
mod probe;
mod report;
mod report_text;
mod rules;
mod scaffold;
mod scenario;
mod seen;
mod subject;
mod validate;

#[cfg(test)]
mod guide_tests;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use error::PluginError;
use report::{Report, Verdict};
use validate::ValidateOptions;

/// Exit status when a plugin fails.
const FAILED: u8 = 1;
/// Exit status of wrong use, as clap's own.
const USAGE: u8 = 2;
/// Exit status with `--strict` when there are warnings only.
const WARNINGS: u8 = 3;

/// The commands about one plugin.
#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Say what a plugin is, or why it does not load
    Describe(DescribeArguments),
    /// Hold a plugin to its duties, rule by rule
    Validate(ValidateArguments),
    /// Write a new plugin that builds and validates
    New(NewArguments),
}

/// Of `plugin describe`.
#[derive(Debug, Args)]
pub(crate) struct DescribeArguments {
    /// Manifest (.json), library (.so) with its manifest beside it, or id
    plugin: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The stage runner's program
    #[arg(long, value_name = "PROGRAM")]
    runner: Option<PathBuf>,
}

/// Of `plugin validate`.
#[derive(Debug, Args)]
pub(crate) struct ValidateArguments {
    /// Manifest (.json), library (.so) with its manifest beside it, or id
    plugin: String,
    /// 1: files, load, describe; 2: life cycle, operations too; 3: faults, cancel; 4: hygiene
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=5))]
    level: u8,
    /// Only rules whose id begins with or matches this: IMGF-P-1, 101, '5..$'
    #[arg(long, value_name = "REGEX")]
    only: Option<String>,
    /// Chooses the points at which operations are disturbed; the report names it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// For each rule, in seconds
    #[arg(long, value_name = "S", default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// How long a cancelled operation may take, in seconds; plugin.h allows 10
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    cancel_grace: f64,
    /// How often create and destroy are repeated
    #[arg(long, default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    rounds: u32,
    /// At how many points each operation is disturbed
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    points: u32,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    /// Write JUnit XML to this file besides
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Exit with status 3 if there are warnings
    #[arg(long)]
    strict: bool,
    /// The stage runner's program
    #[arg(long, value_name = "PROGRAM")]
    runner: Option<PathBuf>,
}

/// Of `plugin new`.
#[derive(Debug, Args)]
pub(crate) struct NewArguments {
    /// Id of the plugin: letters, digits, '.', '_', '-'
    id: String,
    /// What to write it in
    #[arg(long, value_enum, default_value_t = scaffold::Language::Rust)]
    language: scaffold::Language,
    /// Folder to make; the id if it is not given
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Rust: take the SDK from this folder instead of the registry
    #[arg(long, value_name = "FOLDER")]
    sdk: Option<PathBuf>,
}

/// Runs a command; the answer goes to standard output, errors to standard error.
pub(crate) fn run(command: PluginCommand) -> ExitCode {
    let answered = match command {
        PluginCommand::Describe(arguments) => {
            describe::describe(&arguments.plugin, arguments.runner.as_deref()).map(|description| {
                let text = if arguments.json { description.json() } else { description.text() };
                print(&text);
                if description.loads() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
            })
        }
        PluginCommand::Validate(arguments) => run_validate(&arguments),
        PluginCommand::New(arguments) => {
            let folder = arguments.folder.unwrap_or_else(|| PathBuf::from(&arguments.id));
            scaffold::write(&arguments.id, arguments.language, &folder, arguments.sdk.as_deref())
                .map(|text| {
                    print(&text);
                    ExitCode::SUCCESS
                })
        }
    };
    answered.unwrap_or_else(|error| {
        eprintln!("imagefactory: {error}");
        ExitCode::from(USAGE)
    })
}

fn run_validate(arguments: &ValidateArguments) -> Result<ExitCode, PluginError> {
    let options = ValidateOptions {
        plugin: arguments.plugin.clone(),
        level: arguments.level,
        only: arguments.only.clone(),
        seed: arguments.seed,
        timeout: Duration::from_secs(arguments.timeout),
        cancel_grace: Duration::try_from_secs_f64(arguments.cancel_grace)
            .unwrap_or(Duration::from_secs(10)),
        rounds: arguments.rounds,
        points: arguments.points,
        runner: arguments.runner.clone(),
    };
    let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let report = validate::validate(&options, |rule| {
        if !arguments.json {
            print(&report_text::rule_lines(rule, coloured));
        }
    })?;
    if arguments.json {
        let mut text = serde_json::to_string_pretty(&report).unwrap_or_default();
        text.push('\n');
        print(&text);
    } else {
        print(&report_text::summary(&report, coloured));
    }
    if let Some(path) = &arguments.junit {
        std::fs::write(path, junit::junit(&report))
            .map_err(|source| PluginError::File { path: path.clone(), source })?;
    }
    Ok(status_of(&report, arguments.strict))
}

fn status_of(report: &Report, strict: bool) -> ExitCode {
    match report.verdict {
        Verdict::Failed => ExitCode::from(FAILED),
        Verdict::PassedWithWarnings if strict => ExitCode::from(WARNINGS),
        Verdict::PassedWithWarnings | Verdict::Passed => ExitCode::SUCCESS,
    }
}

fn print(text: &str) {
    // Whoever has closed the pipe does not want to read on.
    std::io::stdout().lock().write_all(text.as_bytes()).ok();
}
