//! `qemu-img convert`, watched: its progress becomes ours, and it ends when the stage is to end.
//!
//! The input's format is always said and never guessed: an image that a guest has written could
//! otherwise begin like one that names another file of this host. No `-W`: blocks written out of
//! order would give another file each time.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};
use imagefactory_toolkit_disk::DiskFormat;

use crate::directory::ImageDirectory;
use crate::wishes::Compression;

/// How often a silent program is asked whether it is to end: a fiftieth of the 5 s that plugin.h
/// allows between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a failing program's error quotes; qemu-img says it in one or two lines.
const COMPLAINT_BYTES_MAX: usize = 2 << 10;

/// qemu-img counts percent with two digits after the point.
const PROGRESS_UNITS: u64 = 10_000;

/// With less than this left the disk is full: qemu-img writes up to 2 MiB at once.
const FULL_BELOW_BYTES: u64 = 2 << 20;

/// What is converted into what.
pub(crate) struct Conversion<'c> {
    /// The file to read.
    pub(crate) input: &'c Path,
    /// Its format.
    pub(crate) from: DiskFormat,
    /// The format to write.
    pub(crate) to: DiskFormat,
    /// Its compression; one that the format has.
    pub(crate) compression: Compression,
}

impl Conversion<'_> {
    /// Writes `name` in the folder, which must be new. What is left of it after an error is the
    /// caller's to remove.
    pub(crate) fn run(&self, host: &Host, directory: &ImageDirectory, name: &str) -> Result<()> {
        let mut command = Command::new("qemu-img");
        command.args(["convert", "-p", "-f", self.from.qemu_name(), "-O", self.to.qemu_name()]);
        command.args(self.options()).arg(self.input).arg(format!("/proc/self/fd/0/{name}"));
        command.env("LC_ALL", "C").stdin(directory.as_stdin()?);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            PluginError::from(error)
                .while_doing("qemu-img cannot be started")
                .hint("install it: the package is qemu-utils or qemu-img")
        })?;
        let (progress, readers) = Readers::listen(&mut child);
        let watched = self.watch(host, &progress);
        if watched.is_err() {
            // Gone already is as good.
            child.kill().ok();
        }
        let status = child.wait()?;
        let complaint = readers.end();
        watched?;
        if status.success() {
            return Ok(());
        }
        // A full disk is asked of the disk; the program's words are for people.
        let full = directory.free_bytes()? < FULL_BELOW_BYTES;
        let code = if full { ErrorCode::Quota } else { ErrorCode::Io };
        let message = format!("qemu-img failed ({status}): {complaint}");
        let error = PluginError::new(code, message);
        Err(if full { error.hint(directory.room()) } else { error })
    }

    fn options(&self) -> &'static [&'static str] {
        match (self.to, self.compression) {
            (DiskFormat::Qcow2, Compression::Zlib) => &["-c", "-o", "compression_type=zlib"],
            (DiskFormat::Qcow2, Compression::Zstd) => &["-c", "-o", "compression_type=zstd"],
            (DiskFormat::Vmdk, Compression::Zlib) => &["-o", "subformat=streamOptimized"],
            (DiskFormat::Vmdk, _) => &["-o", "subformat=monolithicSparse"],
            // The exact size, not the next one that cylinders, heads and sectors can express.
            (DiskFormat::Vhd, _) => &["-o", "subformat=dynamic,force_size=on"],
            _ => &[],
        }
    }

    fn watch(&self, host: &Host, progress: &Receiver<u64>) -> Result<()> {
        let message = format!("converting {} to {}", self.from, self.to);
        let mut done = 0;
        host.progress("convert", &message, done, PROGRESS_UNITS)?;
        loop {
            match progress.recv_timeout(LOOK_EVERY) {
                Ok(now) if now > done => {
                    done = now.min(PROGRESS_UNITS);
                    host.progress("convert", &message, done, PROGRESS_UNITS)?;
                }
                Ok(_) | Err(RecvTimeoutError::Timeout) => host.check_cancelled()?,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }
}

/// One thread for each stream, because both may be full at once.
struct Readers {
    progress: Option<JoinHandle<()>>,
    complaint: Option<JoinHandle<String>>,
}

impl Readers {
    fn listen(child: &mut Child) -> (Receiver<u64>, Readers) {
        let (sender, progress) = channel();
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        let readers = Readers {
            progress: stdout.map(|stream| std::thread::spawn(move || follow(stream, &sender))),
            complaint: stderr.map(|stream| std::thread::spawn(move || first_words(stream))),
        };
        (progress, readers)
    }

    /// Waits for them; the program has ended, so that is at once.
    fn end(self) -> String {
        if let Some(progress) = self.progress {
            // A reader that panicked has nothing to say.
            progress.join().ok();
        }
        self.complaint.and_then(|complaint| complaint.join().ok()).unwrap_or_default()
    }
}

/// Sends each `(12.34/100%)`; they are separated by carriage returns.
fn follow(mut stream: impl Read, sender: &Sender<u64>) {
    let mut piece = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        for byte in &buffer[..read] {
            match byte {
                b'\r' | b'\n' => {
                    let told = percent(&piece);
                    piece.clear();
                    // Nobody listens any more when the stage is to end; the pipe is emptied still.
                    told.map(|told| sender.send(told).ok());
                }
                // A line of progress is 18 characters; more of anything else is not kept.
                _ if piece.len() < 64 => piece.push(*byte),
                _ => {}
            }
        }
    }
}

/// `    (12.34/100%)` as 1234.
fn percent(piece: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(piece).ok()?.trim();
    let number = text.strip_prefix('(')?.strip_suffix("/100%)")?;
    let (whole, hundredths) = number.split_once('.')?;
    let [tens, ones] = hundredths.as_bytes() else { return None };
    let digits = tens.is_ascii_digit() && ones.is_ascii_digit();
    let whole: u64 = whole.parse().ok().filter(|whole| *whole <= 100 && digits)?;
    Some(whole * 100 + u64::from(tens - b'0') * 10 + u64::from(ones - b'0'))
}

/// The beginning of what it complains of, in one line; the rest is read and dropped.
fn first_words(mut stream: impl Read) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        let room = COMPLAINT_BYTES_MAX.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..read.min(room)]);
    }
    String::from_utf8_lossy(&kept).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_and_nothing_else_is_taken_for_it() {
        assert_eq!(percent(b"    (12.34/100%)"), Some(1234));
        assert_eq!(percent(b"(100.00/100%)"), Some(10_000));
        for other in [&b""[..], b"(12/100%)", b"(1.x0/100%)", b"(101.00/100%)", b"\xff(1.00/100%)"]
        {
            assert_eq!(percent(other), None, "{other:?}");
        }
    }

    #[test]
    fn progress_comes_out_of_a_stream_cut_anywhere() {
        let (sender, progress) = channel();
        let text = b"    (0.00/100%)\r    (50.25/100%)\r    (100.00/100%)\r    (100.00/100%)\n";
        follow(&text[..], &sender);
        drop(sender);
        assert_eq!(progress.iter().collect::<Vec<_>>(), [0, 5025, 10_000, 10_000]);
    }

    #[test]
    fn a_flood_of_complaints_is_bounded_and_one_line() {
        let flood = b"qemu-img: no\nmore\n".repeat(10_000);
        let said = first_words(&flood[..]);
        assert!(said.starts_with("qemu-img: no more qemu-img:") && said.len() <= 2048);
    }
}
