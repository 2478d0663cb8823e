//! What each command does. [`run`] opens the factory that a command needs and turns its end into an
//! exit status: 0 done, 1 failed, 2 wrong use, 130 interrupted.

mod build;
mod delete;
mod images;
mod import;
mod leftovers;
mod logs;
mod manual;
mod plugins;
mod template;
mod watch;

use std::io::IsTerminal;
use std::process::ExitCode;

use imagefactory_configuration::settings::{Settings, Verbosity};
pub(crate) use template::Judgement;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command, TemplateCommand};
use crate::error::CommandError;
use crate::factory::Factory;
use crate::local::LocalFactory;
use crate::output::Output;
use crate::remote::RemoteFactory;

/// What a command works with.
pub(crate) struct Context {
    factory: Box<dyn Factory>,
    output: Output,
    verbosity: Verbosity,
}

/// Runs the command.
pub(crate) fn run(cli: Cli) -> ExitCode {
    let output = Output::new(cli.output);
    let done = match cli.command {
        Command::Plugin(command) => return crate::plugin::run(command),
        Command::Completion { shell } => manual::completion(shell, output),
        Command::Man { folder } => manual::write(&folder),
        command => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(CommandError::Start)
            .and_then(|runtime| runtime.block_on(run_in_factory(Cli { command, ..cli }, output))),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(CommandError::ReaderGone) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("imagefactory: {}", error.report());
            ExitCode::from(error.exit_status())
        }
    }
}

async fn run_in_factory(cli: Cli, output: Output) -> Result<u8, CommandError> {
    // Callbacks and the client speak TLS. An error says that it is installed already.
    rustls::crypto::ring::default_provider().install_default().ok();
    let settings = Settings::load(&cli.common)?;
    log_to_stderr(settings.verbosity);
    for warning in &settings.warnings {
        tracing::warn!("{}: {warning}", cli.common.config.display());
    }
    let verbosity = settings.verbosity;
    let daemon = match &cli.daemon.url {
        Some(_) => Some(RemoteFactory::connect(&cli.daemon)?),
        None => None,
    };
    let factory: Box<dyn Factory> = match (&cli.command, daemon) {
        (Command::Template(TemplateCommand::Check { file }), Some(daemon)) => {
            return template::check_there(file, &daemon, output).await;
        }
        (Command::Template(TemplateCommand::Check { file }), None) => {
            return template::check_here(file, &settings, output);
        }
        (_, Some(daemon)) => Box::new(daemon),
        (
            Command::Images { .. }
            | Command::Logs { .. }
            | Command::Cancel { .. }
            | Command::Leftovers { .. }
            | Command::Watch { .. },
            None,
        ) => Box::new(LocalFactory::open_records(&settings).await?),
        (_, None) => Box::new(LocalFactory::open(settings).await?),
    };
    let context = Context { factory, output, verbosity };
    let done = run_command(cli.command, &context).await;
    context.factory.close().await;
    done
}

async fn run_command(command: Command, context: &Context) -> Result<u8, CommandError> {
    match command {
        Command::BaseImage(arguments) => build::base_image(context, &arguments).await,
        Command::TargetImage(arguments) => build::target_image(context, arguments).await,
        Command::ProviderImage(arguments) => build::provider_image(context, arguments).await,
        Command::ImportBaseImage(arguments) => import::import(context, arguments).await,
        Command::Images { fetch_spec } => images::images(context, &fetch_spec).await,
        Command::Delete(arguments) => delete::delete(context, arguments).await,
        Command::Plugins { id } => plugins::plugins(context, id.as_deref()).await,
        Command::Logs { id, follow } => logs::logs(context, id, follow).await,
        Command::Leftovers { drop } => leftovers::leftovers(context, drop).await,
        Command::Cancel { id } => watch::cancel(context, id).await,
        Command::Watch { id: Some(id) } => watch::one(context, id).await,
        Command::Watch { id: None } => watch::all(context).await,
        // Run before there is a factory.
        Command::Template(_)
        | Command::Plugin(_)
        | Command::Completion { .. }
        | Command::Man { .. } => Ok(0),
    }
}

/// Warnings always; what the engine does with `--verbose`; all with `--debug`.
fn log_to_stderr(verbosity: Verbosity) {
    let filter = match verbosity {
        Verbosity::Normal => "warn",
        // Changes of images are shown by the commands themselves.
        Verbosity::Verbose => {
            "warn,imagefactory_dispatch=info,imagefactory_dispatch::progress=warn"
        }
        Verbosity::Debug => {
            "info,imagefactory=debug,imagefactory_dispatch=debug,imagefactory_store=debug,\
             imagefactory_registry=debug,imagefactory_notifications=debug,\
             imagefactory_dispatch::progress=warn"
        }
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .finish();
    // Set already: only in a test of this program.
    tracing::subscriber::set_global_default(subscriber).ok();
}
