//! The flags that `imagefactoryd` and `imagefactory` share. Each is also a key of the file; on the
//! command line hyphens and underscores are the same.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

/// Where the configuration lies if nobody says otherwise.
pub const CONFIGURATION_FILE: &str = "/etc/imagefactory/imagefactory.conf";

/// Shared flags.
#[derive(Debug, Clone, Default, Args)]
pub struct CommonFlags {
    /// Configuration file
    #[arg(long, global = true, value_name = "FILE", default_value = CONFIGURATION_FILE)]
    pub config: PathBuf,
    /// Folder with plugins, instead of the installed ones; can be repeated
    #[arg(long, global = true, value_name = "DIR")]
    pub plugins: Vec<PathBuf>,
    /// Where images are kept
    #[arg(long, global = true, value_name = "DIR")]
    pub imgdir: Option<PathBuf>,
    /// Scratch for builds
    #[arg(long, global = true, value_name = "DIR")]
    pub tmpdir: Option<PathBuf>,
    /// Seconds that one stage may take
    #[arg(long, global = true, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Log everything
    #[arg(long, global = true)]
    pub debug: bool,
    /// Log more
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

/// The arguments with underscores in the names of long flags as hyphens: `--no_ssl` is `--no-ssl`.
/// Values (after `=`, and everything after `--`) stay as they are.
pub fn with_hyphens(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut only_values = false;
    arguments
        .into_iter()
        .map(|argument| {
            let Some(text) = argument.to_str() else { return argument };
            only_values |= text == "--";
            if only_values || !text.starts_with("--") {
                return argument;
            }
            match text.split_once('=') {
                Some((flag, value)) => format!("{}={value}", flag.replace('_', "-")).into(),
                None => text.replace('_', "-").into(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn underscores_in_flags_are_hyphens_and_values_stay() {
        let given = ["x", "--no_ssl", "--ssl_pem=/a_b", "my_file", "-x_y", "--", "--a_b"];
        let wanted = ["x", "--no-ssl", "--ssl-pem=/a_b", "my_file", "-x_y", "--", "--a_b"];
        assert_eq!(with_hyphens(given.map(OsString::from)), wanted.map(OsString::from));
    }
}
