//! The log of a build, kept beside its image: bounded, rotated, readable while it grows.
//!
//! All stages of an image write one `build.log`; at [`LOG_BYTES_MAX`] it becomes `build.log.1` (an
//! older one goes) and a new one begins, so a plugin that prints for ever costs two files. A reader
//! that follows keeps its file open to the end and then goes on with the new one.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use uuid::Uuid;

use crate::StoreError;
use crate::layout::StoreLayout;

/// Size at which a log is rotated. A verbose Debian build writes about 1 MB.
pub const LOG_BYTES_MAX: u64 = 8 << 20;

/// The log files of a store.
#[derive(Debug, Clone)]
pub struct LogFiles {
    layout: StoreLayout,
}

impl LogFiles {
    /// Over the folders of a store.
    pub fn new(layout: StoreLayout) -> LogFiles {
        LogFiles { layout }
    }

    /// The files of an image's log that exist, oldest first.
    pub fn paths(&self, image: Uuid) -> Vec<PathBuf> {
        let current = self.current(image);
        [current.with_extension("log.1"), current]
            .into_iter()
            .filter(|path| path.exists())
            .collect()
    }

    /// The file that grows.
    pub fn current(&self, image: Uuid) -> PathBuf {
        self.layout.logs().join(image.to_string()).join("build.log")
    }

    /// Opens the log of an image for appending.
    pub fn writer(&self, image: Uuid) -> Result<LogWriter, StoreError> {
        let path = self.current(image);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|cause| StoreError::file("make the folder", folder, cause))?;
        }
        LogWriter::open(path)
    }

    /// The last lines of an image's log, oldest first, at most `lines`.
    pub fn tail(&self, image: Uuid, lines: usize) -> Result<Vec<String>, StoreError> {
        use std::io::{Read, Seek, SeekFrom};
        /// Enough for some hundred lines; more is what the log itself is for.
        const TAIL_BYTES: u64 = 64 << 10;
        let path = self.current(image);
        let failed = |cause| StoreError::file("read", &path, cause);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(cause) => return Err(failed(cause)),
        };
        let bytes = file.metadata().map_err(failed)?.len();
        file.seek(SeekFrom::Start(bytes.saturating_sub(TAIL_BYTES))).map_err(failed)?;
        let mut text = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut text).map_err(failed)?;
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        Ok(all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect())
    }

    /// Removes the log of an image; none is no error.
    pub fn remove(&self, image: Uuid) -> Result<(), StoreError> {
        let folder = self.layout.logs().join(image.to_string());
        match std::fs::remove_dir_all(&folder) {
            Ok(()) => Ok(()),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(cause) => Err(StoreError::file("remove", &folder, cause)),
        }
    }
}

/// Appends to one log.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl LogWriter {
    fn open(path: PathBuf) -> Result<LogWriter, StoreError> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&path)
            .map_err(|cause| StoreError::file("write", &path, cause))?;
        let bytes =
            file.metadata().map_err(|cause| StoreError::file("look at", &path, cause))?.size();
        Ok(LogWriter { path, file, bytes })
    }

    /// Appends one line (without its end). Blocks for as long as the page cache does.
    pub fn line(&mut self, line: &str) -> Result<(), StoreError> {
        if self.bytes >= LOG_BYTES_MAX {
            let older = self.path.with_extension("log.1");
            std::fs::rename(&self.path, &older)
                .map_err(|cause| StoreError::file("rotate", &self.path, cause))?;
            *self = LogWriter::open(self.path.clone())?;
        }
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        self.file
            .write_all(&bytes)
            .map_err(|cause| StoreError::file("write", &self.path, cause))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_rotated_and_never_more_than_two_files() {
        let folder = tempfile::tempdir().unwrap();
        let logs = LogFiles::new(StoreLayout::create(folder.path()).unwrap());
        let image = Uuid::new_v4();
        let mut writer = logs.writer(image).unwrap();
        let line = "x".repeat(64 << 10);
        for _ in 0..400 {
            writer.line(&line).unwrap();
        }
        writer.line("the end").unwrap();
        let paths = logs.paths(image);
        assert_eq!(paths.len(), 2);
        let bytes: u64 = paths.iter().map(|path| path.metadata().unwrap().len()).sum();
        assert!(bytes < 2 * (LOG_BYTES_MAX + (65 << 10)), "{bytes}");
        assert_eq!(logs.tail(image, 1).unwrap(), ["the end"]);
    }
}
