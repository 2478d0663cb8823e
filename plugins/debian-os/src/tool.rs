//! Runs programs: their lines go to the stage's log as they come, their last lines into the error,
//! and they end when the stage is cancelled.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};

/// Lines of a failed program that its error quotes.
const LAST_LINES: usize = 12;

/// How often a silent program is asked whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A longer line is cut: some programs draw progress bars without ends of lines.
const LINE_BYTES_MAX: u64 = 8 << 10;

/// Runs a program to its end.
pub(crate) fn run(host: &Host, command: &mut Command) -> Result<()> {
    run_watched(host, command, &[], |_| Ok(()))
}

/// Runs a program with this input; `seen` looks at each line.
pub(crate) fn run_watched(
    host: &Host,
    command: &mut Command,
    input: &[u8],
    mut seen: impl FnMut(&str) -> Result<()>,
) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| not_started(&name, &error))?;
    let lines = listen(&mut child);
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // A program that ends without reading its input says why in its lines.
        std::thread::spawn(move || stdin.write_all(&input).ok());
    }
    let mut last: VecDeque<String> = VecDeque::with_capacity(LAST_LINES);
    let watched = watch(host, &lines, &mut last, &mut seen);
    if watched.is_err() {
        // Gone already is as good.
        child.kill().ok();
    }
    let status = child.wait()?;
    watched?;
    if status.success() {
        return Ok(());
    }
    let last: Vec<String> = last.into();
    Err(PluginError::new(
        ErrorCode::Internal,
        format!("{name} failed ({status}): {}", last.join(" | ")),
    ))
}

/// What a program prints on its standard output, trimmed and not logged: for long answers.
pub(crate) fn quiet_output(host: &Host, command: &mut Command) -> Result<String> {
    host.check_cancelled()?;
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| not_started(&name, &error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = complaint.lines().rev().take(LAST_LINES).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    let message = format!("{name} failed ({}): {}", output.status, last.join(" | "));
    Err(PluginError::new(ErrorCode::Internal, message))
}

fn not_started(name: &str, error: &std::io::Error) -> PluginError {
    let message = format!("{name} cannot be started: {error}");
    PluginError::new(ErrorCode::Io, message).hint("install the package that has it")
}

/// What a program prints, trimmed.
pub(crate) fn output(host: &Host, command: &mut Command) -> Result<String> {
    let mut text = String::new();
    run_watched(host, command, &[], |line| {
        text.push_str(line);
        text.push('\n');
        Ok(())
    })?;
    Ok(text.trim().to_owned())
}

fn watch(
    host: &Host,
    lines: &Receiver<String>,
    last: &mut VecDeque<String>,
    seen: &mut impl FnMut(&str) -> Result<()>,
) -> Result<()> {
    loop {
        match lines.recv_timeout(LOOK_EVERY) {
            Ok(line) => {
                host.info(&line);
                seen(&line)?;
                if last.len() == LAST_LINES {
                    last.pop_front();
                }
                last.push_back(line);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        host.check_cancelled()?;
    }
}

/// One thread for each stream: both may be full at once.
fn listen(child: &mut Child) -> Receiver<String> {
    let (sender, lines) = channel();
    let streams: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>),
        child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>),
    ];
    for stream in streams.into_iter().flatten() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            loop {
                let mut line = Vec::new();
                match reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {
                        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                        if !text.is_empty() && sender.send(text).is_err() {
                            return;
                        }
                    }
                }
            }
        });
    }
    lines
}
