//! The command line's definition: flags for all commands, and one variant a command. What a command
//! does stands in `commands`; help, man pages and completion are made from what stands here.
//!
//! Names are the original's, with underscores; hyphens are understood everywhere.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use imagefactory_configuration::flags::CommonFlags;
use uuid::Uuid;

use crate::plugin::PluginCommand;

/// Build system images and bring them to clouds.
///
/// Works in this process on the factory's own store, also beside a running daemon; with --url it is
/// a client of a daemon elsewhere.
#[derive(Debug, Parser)]
#[command(name = "imagefactory", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: CommonFlags,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
    #[command(flatten)]
    pub(crate) daemon: DaemonFlags,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How answers are written.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputFlags {
    /// What to write to standard output; progress always goes to standard error
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = OutputFormat::Log)]
    pub(crate) output: OutputFormat,
    /// Do not lay JSON out for people: one line
    #[arg(long, global = true)]
    pub(crate) raw: bool,
    /// The original's: less log. That is the default here
    #[arg(long, global = true, hide = true)]
    pub(crate) nodebug: bool,
}

/// The two ways to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Lines for people and for scripts that look for them
    Log,
    /// One JSON document
    Json,
}

/// Which daemon, and how to speak to it.
#[derive(Clone, Args)]
pub(crate) struct DaemonFlags {
    /// Work through the daemon at this address instead of in this process
    #[arg(long, global = true, value_name = "URL", help_heading = "A daemon elsewhere")]
    pub(crate) url: Option<String>,
    /// OAuth consumer key
    #[arg(
        long,
        global = true,
        value_name = "KEY",
        requires = "url",
        help_heading = "A daemon elsewhere"
    )]
    pub(crate) oauth_key: Option<String>,
    /// Its secret. Every user of this machine can read it in the process list: better use
    /// --oauth-secret-file, or neither, and be asked for it
    #[arg(
        long,
        global = true,
        value_name = "SECRET",
        requires = "oauth_key",
        conflicts_with = "oauth_secret_file",
        help_heading = "A daemon elsewhere"
    )]
    pub(crate) oauth_secret: Option<String>,
    /// File with the secret
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        requires = "oauth_key",
        help_heading = "A daemon elsewhere"
    )]
    pub(crate) oauth_secret_file: Option<PathBuf>,
    /// Certificate (PEM) to trust besides the system's: the daemon's own, where it made one
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        requires = "url",
        help_heading = "A daemon elsewhere"
    )]
    pub(crate) cacert: Option<PathBuf>,
    /// Trust any certificate: whoever sits in between can read and change everything
    #[arg(long, global = true, requires = "url", help_heading = "A daemon elsewhere")]
    pub(crate) insecure: bool,
}

impl std::fmt::Debug for DaemonFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DaemonFlags").field("url", &self.url).finish_non_exhaustive()
    }
}

/// All commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build a base image from a template
    #[command(name = "base_image", alias = "base-image")]
    BaseImage(BaseImageArguments),
    /// Customise an image for a target, a kind of cloud
    #[command(name = "target_image", alias = "target-image")]
    TargetImage(TargetImageArguments),
    /// Bring an image to a provider, one cloud
    #[command(name = "provider_image", alias = "provider-image")]
    ProviderImage(ProviderImageArguments),
    /// Take a finished disk image as a base image
    #[command(name = "import_base_image", alias = "import-base-image")]
    ImportBaseImage(ImportArguments),
    /// List images, or show one
    Images {
        /// JSON object: each key must have this value in the image's metadata, '{}' is all.
        /// Example: '{"type": "BaseImage", "status": "COMPLETE"}'
        #[arg(value_name = "FETCH_SPEC_JSON")]
        fetch_spec: String,
    },
    /// Delete an image, on its provider too
    Delete(DeleteArguments),
    /// List the plugins, or show one
    Plugins {
        /// Only this plugin
        #[arg(long, value_name = "ID")]
        id: Option<String>,
    },
    /// What concerns templates
    #[command(subcommand)]
    Template(TemplateCommand),
    /// Print the log of an image's build
    Logs {
        /// Which image
        #[arg(value_name = "UUID")]
        id: Uuid,
        /// Go on until the image is final
        #[arg(short, long)]
        follow: bool,
    },
    /// List what failed cleanups left at providers; it is tried again for days
    Leftovers {
        /// Forget this one: it was removed by hand, or nobody cares
        #[arg(long, value_name = "UUID")]
        drop: Option<Uuid>,
    },
    /// End the work on an image
    Cancel {
        /// Which image
        #[arg(value_name = "UUID")]
        id: Uuid,
    },
    /// Tell of changes: of one image until it is final, or of all until you interrupt
    Watch {
        /// Which image
        #[arg(value_name = "UUID")]
        id: Option<Uuid>,
    },
    /// Describe, validate and begin plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Print a completion script for a shell
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a folder
    #[command(hide = true)]
    Man {
        /// Where to
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

/// What concerns templates.
#[derive(Debug, Subcommand)]
pub(crate) enum TemplateCommand {
    /// Judge a template without building: every finding, and which plugin would build it
    Check {
        /// TDL file, or '-' for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Parameters of a build. Later ones win; `--parameter` and `--file-parameter` win over the file.
#[derive(Debug, Args)]
pub(crate) struct ParameterFlags {
    /// JSON file with parameters for the plugins
    #[arg(long, value_name = "FILE")]
    pub(crate) parameters: Option<PathBuf>,
    /// One parameter; can be repeated
    #[arg(long, num_args = 2, value_names = ["NAME", "VALUE"], allow_hyphen_values = true)]
    pub(crate) parameter: Vec<String>,
    /// One parameter whose value is the text of a file; can be repeated
    #[arg(long, num_args = 2, value_names = ["NAME", "FILE"])]
    pub(crate) file_parameter: Vec<OsString>,
}

/// Of `base_image`.
#[derive(Debug, Args)]
pub(crate) struct BaseImageArguments {
    /// TDL file, or '-' for standard input
    pub(crate) template: PathBuf,
    #[command(flatten)]
    pub(crate) parameters: ParameterFlags,
}

/// What a derived image is made from.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct SourceFlags {
    /// The image that it is made from
    #[arg(long, value_name = "UUID")]
    pub(crate) id: Option<Uuid>,
    /// A template, from which what is missing is made first
    #[arg(long, value_name = "FILE")]
    pub(crate) template: Option<PathBuf>,
}

/// Of `target_image`.
#[derive(Debug, Args)]
pub(crate) struct TargetImageArguments {
    /// The kind of cloud: ec2, openstack-kvm, …
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) source: SourceFlags,
    #[command(flatten)]
    pub(crate) parameters: ParameterFlags,
}

/// Of `provider_image`.
#[derive(Debug, Args)]
pub(crate) struct ProviderImageArguments {
    /// The kind of cloud: ec2, openstack-kvm, …
    pub(crate) target: String,
    /// File with the provider's definition, or '@' and the definition itself: '@ec2-us-east-1'
    pub(crate) provider: String,
    /// File with the credentials, or '@' and the name of credentials in the configuration
    pub(crate) credentials: String,
    #[command(flatten)]
    pub(crate) source: SourceFlags,
    /// Build on the provider and take a snapshot there, without a target image
    #[arg(long)]
    pub(crate) snapshot: bool,
    #[command(flatten)]
    pub(crate) parameters: ParameterFlags,
}

/// Of `import_base_image`.
#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// The disk image; it is copied, holes stay holes
    pub(crate) file: PathBuf,
    /// Its format, where its first bytes do not say it
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// TDL that describes what is in it; target images need one
    #[arg(long, value_name = "FILE")]
    pub(crate) template: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) parameters: ParameterFlags,
}

/// Of `delete`. Target, provider and credentials matter for provider images only.
#[derive(Debug, Args)]
pub(crate) struct DeleteArguments {
    /// Which image
    #[arg(value_name = "UUID")]
    pub(crate) id: Uuid,
    /// File with the provider's definition, or '@' and the definition itself; where it was pushed
    /// to if it is not given
    #[arg(long)]
    pub(crate) provider: Option<String>,
    /// File with the credentials, or '@' and the name of credentials in the configuration
    #[arg(long)]
    pub(crate) credentials: Option<String>,
    /// The kind of cloud; where it was pushed to if it is not given
    #[arg(long)]
    pub(crate) target: Option<String>,
    /// Drop the record even though no plugin can remove the image from its provider
    #[arg(long)]
    pub(crate) forget: bool,
    #[command(flatten)]
    pub(crate) parameters: ParameterFlags,
}
