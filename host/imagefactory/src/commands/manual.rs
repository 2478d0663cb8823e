//! `completion` and the hidden `man`: made from the definition of the commands, for the packages.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::CommandError;
use crate::output::Output;

/// `completion SHELL`.
pub(super) fn completion(shell: Shell, output: Output) -> Result<u8, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "imagefactory", &mut script);
    output.bytes(&script)?;
    Ok(0)
}

/// `man DIR`: `imagefactory.1` and one page a command, `imagefactory-base_image.1`.
pub(super) fn write(folder: &Path) -> Result<u8, CommandError> {
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .map_err(|cause| failed(folder, cause))?;
    Ok(0)
}

fn failed(path: &Path, cause: std::io::Error) -> CommandError {
    CommandError::File {
        doing: "write",
        what: "the man pages to",
        path: path.to_owned(),
        hint: "",
        cause,
    }
}
