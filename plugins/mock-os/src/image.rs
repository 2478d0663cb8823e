//! The mock image: a line that names it, noise that follows from the template, then a hole.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use imagefactory_plugin_sdk::author::{PluginError, Result, Stage};

/// How every mock image begins.
const FIRST_WORDS: &str = "mock image ";

/// How much of an image carries data; the rest is a hole, which a copy must keep working with.
const DATA_BYTES: u64 = 64 << 10;

/// Without a wish: large enough to show holes, small enough for a thousand builds on a tmpfs.
const DEFAULT_BYTES: u64 = 1 << 20;

/// A sector to a tebibyte: what a raw disk image may sensibly be. It is sparse in any case.
const BYTES_MIN: u64 = 512;
const BYTES_MAX: u64 = 1 << 40;

/// FNV-1a, 64 bits: equal templates give equal images, different ones different images.
#[derive(Clone, Copy)]
pub(crate) struct Digest(u64);

impl Digest {
    /// The digest of a text.
    pub(crate) fn of(text: &str) -> Digest {
        let start = 0xcbf2_9ce4_8422_2325_u64;
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Digest(text.bytes().fold(start, mix))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The parameter `mock_size_bytes`.
pub(crate) fn size_parameter(stage: &Stage<'_>) -> Result<u64> {
    let bytes = stage.number_parameter("mock_size_bytes")?.unwrap_or(DEFAULT_BYTES);
    if (BYTES_MIN..=BYTES_MAX).contains(&bytes) {
        Ok(bytes)
    } else {
        let message = format!("mock_size_bytes is {bytes}, not {BYTES_MIN} to {BYTES_MAX}");
        Err(PluginError::user_fault(message))
    }
}

/// Writes the base image; `path` must be new.
pub(crate) fn write_base(path: &Path, digest: Digest, bytes: u64) -> Result<()> {
    let mut data = format!("{FIRST_WORDS}{digest}\n").into_bytes();
    let mut noise = digest.0 | 1; // xorshift64 never leaves 0
    while (data.len() as u64) < bytes.min(DATA_BYTES) {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        data.push(noise as u8);
    }
    let written = create(path).and_then(|mut file| {
        file.write_all(&data)?;
        file.set_len(bytes)
    });
    written.map_err(|error| named(error, "cannot write", path))
}

/// Writes the target image: the input, then the contents that the cloud plugin asked for.
pub(crate) fn write_target(input: &Path, output: &Path, content: &str) -> Result<()> {
    let mut from = File::open(input).map_err(|error| named(error, "cannot open", input))?;
    let written = create(output).and_then(|mut file| {
        io::copy(&mut from, &mut file)?;
        file.write_all(content.as_bytes())
    });
    written.map_err(|error| named(error, "cannot write", output))
}

/// Does the file begin as mock images do?
pub(crate) fn is_mock_image(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(FIRST_WORDS.len() as u64).read_to_end(&mut start));
    read.map_err(|error| named(error, "cannot read", path))?;
    Ok(start == FIRST_WORDS.as_bytes())
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

fn named(error: io::Error, what: &str, path: &Path) -> PluginError {
    PluginError::from(error).while_doing(format!("{what} {}", path.display()))
}
