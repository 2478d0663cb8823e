//! The command line of `imagefactoryd`: the original's flags, and `--check-config`.

use std::path::PathBuf;

use clap::Parser;
use imagefactory_configuration::flags::CommonFlags;

/// Builds images and pushes them to clouds; serves REST API 2.0.
#[derive(Debug, Clone, Parser)]
#[command(name = "imagefactoryd", version)]
pub(crate) struct Flags {
    /// What both programs share.
    #[command(flatten)]
    pub(crate) common: CommonFlags,
    /// Address or name to listen on; without TLS or OAuth loopback is the default
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<String>,
    /// Port to listen on [default: 8075]; 0 lets the system choose
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Listen without TLS
    #[arg(long)]
    pub(crate) no_ssl: bool,
    /// File with certificate and private key (PEM); made when it does not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) ssl_pem: Option<PathBuf>,
    /// Ask nobody for a signature
    #[arg(long)]
    pub(crate) no_oauth: bool,
    /// Accepted and without effect: REST is the only mode
    #[arg(long, hide = true)]
    rest: bool,
    /// Accepted and without effect: the daemon never leaves the foreground
    #[arg(long, hide = true)]
    foreground: bool,
    /// Read flags and configuration, say what is wrong with them, and end
    #[arg(long)]
    pub(crate) check_config: bool,
}
