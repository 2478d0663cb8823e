//! `imagefactory-stage-runner`: started by imagefactoryd and imagefactory, one process a stage.
//! Takes no arguments but `--version` and `--validate` (of `imagefactory plugin validate`):
//! everything it needs comes through its socket.

use std::process::ExitCode;

#[expect(clippy::print_stdout, reason = "the answer to --version belongs to standard output")]
fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        None => imagefactory_stage_runner::warden::run(),
        Some(argument) if argument == "--version" => {
            println!("imagefactory-stage-runner {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Some(argument) if argument == imagefactory_stage_runner::validate::ARGUMENT => {
            imagefactory_stage_runner::validate::main()
        }
        Some(argument) => {
            eprintln!(
                "imagefactory-stage-runner: unknown argument {}; imagefactoryd starts this program",
                argument.display()
            );
            ExitCode::from(64) // EX_USAGE
        }
    }
}
