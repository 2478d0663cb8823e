//! QEMU's monitor (QMP) over QEMU's own standard input and output: a socket's path may be no longer
//! than 107 bytes, and a stage's folder may be.
//!
//! Only what a boot test needs: is the guest still running, and what does its screen show.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// An emulated machine on a busy host answers late: its lock is held while guest code is compiled.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// QEMU's answers have some hundred bytes.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// A conversation; every error is a sentence.
pub(super) struct Monitor {
    to: ChildStdin,
    from: Receiver<Value>,
}

impl Monitor {
    /// Greets QEMU.
    pub(super) fn open(to: ChildStdin, from: ChildStdout) -> Result<Monitor, String> {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(from);
            loop {
                let mut line = Vec::new();
                match reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
                if let Ok(message) = serde_json::from_slice::<Value>(&line)
                    && sender.send(message).is_err()
                {
                    return;
                }
            }
        });
        let mut monitor = Monitor { to, from: receiver };
        monitor.command("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    /// `running`, `shutdown`, `guest-panicked`, `internal-error`, … as QEMU calls it.
    pub(super) fn guest_state(&mut self) -> Result<String, String> {
        let answer = self.command("query-status", json!({}))?;
        Ok(answer["status"].as_str().unwrap_or_default().to_owned())
    }

    /// Writes what the screen shows, as PNG; QEMU before 7.1 has only PPM: then the answer is false
    /// and the file is one.
    pub(super) fn screenshot(&mut self, file: &Path) -> Result<bool, String> {
        let file = file.to_string_lossy();
        let asked = json!({ "filename": file, "format": "png" });
        match self.command("screendump", asked) {
            Ok(_) => Ok(true),
            Err(_) => self.command("screendump", json!({ "filename": file })).map(|_| false),
        }
    }

    fn command(&mut self, name: &str, arguments: Value) -> Result<Value, String> {
        let mut line = json!({ "execute": name, "arguments": arguments }).to_string();
        line.push('\n');
        let sent = self.to.write_all(line.as_bytes()).and_then(|()| self.to.flush());
        sent.map_err(|error| format!("QEMU's monitor takes no {name}: {error}"))?;
        let deadline = Instant::now() + ANSWER_PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.from.recv_timeout(left) {
                Ok(mut message) => {
                    if let Some(error) = message.get("error") {
                        let words = error["desc"].as_str().unwrap_or("no reason given");
                        return Err(format!("QEMU's monitor on {name}: {words}"));
                    }
                    if message.get("return").is_some() {
                        return Ok(message["return"].take());
                    }
                    // The greeting, or an event: the state is asked for instead.
                }
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = ANSWER_PATIENCE.as_secs();
                    return Err(format!("QEMU's monitor did not answer {name} in {seconds} s"));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("QEMU ended before it answered {name}"));
                }
            }
        }
    }
}
