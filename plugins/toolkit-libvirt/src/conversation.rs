//! One run of `imagefactory-libvirt`: a request in, answers out, line by line.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::Volume;

/// How soon a cancelled stage stops waiting.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What the program says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    Progress { done: u64, total: u64 },
    Volume { facts: Option<Volume> },
    Started,
    State(String),
    Screenshot(String),
    Error(Failure),
}

/// What it could not do.
#[derive(Debug, Deserialize)]
pub(crate) struct Failure {
    kind: String,
    message: String,
}

/// A running program; it ends with the value.
pub(crate) struct Conversation {
    host: Host,
    program: Child,
    to: Option<ChildStdin>,
    from: Receiver<String>,
}

impl Conversation {
    /// Starts the program and asks.
    pub(crate) fn begin(host: &Host, program: &Path, request: &Value) -> Result<Conversation> {
        let spawned = Command::new(program)
            // libvirt's library wants a home to look for settings in; a stage's user has none.
            .env("HOME", host.work_dir()?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        let mut child = spawned.map_err(|error| {
            let message = format!("{} cannot be started: {error}", program.display());
            PluginError::new(ErrorCode::Unavailable, message)
                .hint("libvirt0 must be installed, and the program where stages see it")
        })?;
        let (sender, from) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines() {
                    let Ok(line) = line else { return };
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        let to = child.stdin.take();
        let mut conversation = Conversation { host: host.clone(), program: child, to, from };
        conversation.say(request)?;
        Ok(conversation)
    }

    /// One line to the program.
    pub(crate) fn say(&mut self, request: &Value) -> Result<()> {
        let Some(to) = &mut self.to else { return Err(silent()) };
        let line = format!("{request}\n");
        to.write_all(line.as_bytes()).and_then(|()| to.flush()).map_err(|_| silent())
    }

    /// The next answer. A refusal is an error; so is a stage that is to end.
    pub(crate) fn answer(&mut self) -> Result<Answer> {
        loop {
            match self.from.recv_timeout(LOOK_EVERY) {
                Ok(line) => {
                    let answer = serde_json::from_str(&line).map_err(|error| {
                        let message = format!("imagefactory-libvirt answered {line:?}: {error}");
                        PluginError::new(ErrorCode::Internal, message)
                    })?;
                    return match answer {
                        Answer::Error(failure) => Err(failure.into()),
                        answer => Ok(answer),
                    };
                }
                Err(RecvTimeoutError::Timeout) => self.host.check_cancelled()?,
                Err(RecvTimeoutError::Disconnected) => return Err(silent()),
            }
        }
    }
}

impl Drop for Conversation {
    /// The end of its input ends the program; it is not waited for longer than it may need to
    /// destroy a machine, which libvirt does by itself when the connection is gone.
    fn drop(&mut self) {
        drop(self.to.take());
        for _ in 0..50 {
            if !matches!(self.program.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK_EVERY / 4);
        }
        // Ended already is as good.
        self.program.kill().ok();
        self.program.wait().ok();
    }
}

impl From<Failure> for PluginError {
    fn from(failure: Failure) -> PluginError {
        let code = match failure.kind.as_str() {
            "unreachable" => ErrorCode::Unavailable,
            "missing" => ErrorCode::NotFound,
            "exists" => ErrorCode::AlreadyExists,
            "denied" => ErrorCode::Permission,
            _ => ErrorCode::Io,
        };
        PluginError::new(code, failure.message)
    }
}

/// An answer to another question.
pub(crate) fn unexpected(answer: &Answer) -> PluginError {
    let message = format!("imagefactory-libvirt answered something else: {answer:?}");
    PluginError::new(ErrorCode::Internal, message)
}

fn silent() -> PluginError {
    let message = "imagefactory-libvirt ended without an answer";
    PluginError::new(ErrorCode::Unavailable, message).hint("is libvirt0 installed on the factory?")
}
