//! Writes the target image: one tar that is an OCI image layout and a docker-archive at once.
//!
//! ```text
//! blobs/sha256/…    layer, configuration, manifests, and what is attached
//! oci-layout        index.json              for skopeo's oci-archive:, podman, containerd
//! manifest.json     repositories            for docker load and docker-archive:
//! referrers.json    what is to be attached in a registry; only where there is something
//! ```
//!
//! Blobs are written where they stay; their headers, which name digest and size, are filled in
//! when both are known. Times and owners in the archive are zero.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use imagefactory_plugin_sdk::author::{PluginError, Result};
use tar::{EntryType, Header};

use crate::compression::{Compression, Packed, Packer};
use crate::documents::{Descriptor, Document, blob_path};

/// The unit of tar.
const BLOCK: u64 = 512;

/// Pieces of a layer come one by one; the file system likes them larger.
const BUFFER_BYTES: usize = 1 << 20;

/// An archive that is being written.
pub(crate) struct Archive {
    file: File,
    at: u64,
    written: std::collections::BTreeSet<String>,
}

impl Archive {
    /// Makes the file, which must be new.
    pub(crate) fn create(path: &Path) -> Result<Archive> {
        let file = File::options().write(true).create_new(true).open(path);
        let file = file.map_err(|error| not_written(error).while_doing(path.display()))?;
        let mut archive = Archive { file, at: 0, written: Default::default() };
        for folder in ["blobs/", "blobs/sha256/"] {
            archive.header(folder, EntryType::Directory, 0).map_err(not_written)?;
        }
        Ok(archive)
    }

    /// Packs what `write` writes into a blob.
    pub(crate) fn add_packed<T>(
        &mut self,
        compression: Compression,
        write: impl FnOnce(&mut dyn Write) -> Result<T>,
    ) -> Result<(T, Packed)> {
        let header_at = self.at;
        self.at += BLOCK;
        let sink =
            io::BufWriter::with_capacity(BUFFER_BYTES, SinkAt { file: &self.file, at: self.at });
        let mut packer = Packer::new(compression, sink).map_err(not_written)?;
        let told = write(&mut packer)?;
        let packed = packer.finish().map_err(not_written)?;
        let end = self.at + packed.bytes;
        self.at = header_at;
        let path = blob_path(&packed.digest);
        self.header(&path, EntryType::Regular, packed.bytes).map_err(not_written)?;
        self.pad(end).map_err(not_written)?;
        self.written.insert(path);
        Ok((told, packed))
    }

    /// Adds a document as a blob; one that is there already is there.
    pub(crate) fn add_blob(&mut self, document: &Document) -> Result<()> {
        let path = blob_path(&document.descriptor.digest);
        if self.written.insert(path.clone()) {
            self.add_file(&path, &document.text)?;
        }
        Ok(())
    }

    /// Adds a file.
    pub(crate) fn add_file(&mut self, name: &str, content: &[u8]) -> Result<()> {
        self.header(name, EntryType::Regular, content.len() as u64)
            .and_then(|()| self.file.write_all_at(content, self.at))
            .and_then(|()| self.pad(self.at + content.len() as u64))
            .map_err(not_written)
    }

    /// Ends the archive; durable when it returns.
    pub(crate) fn finish(mut self) -> Result<()> {
        // Two empty blocks.
        self.file
            .write_all_at(&[0; 2 * BLOCK as usize], self.at)
            .and_then(|()| self.file.sync_all())
            .map_err(not_written)?;
        self.at += 2 * BLOCK;
        Ok(())
    }

    fn header(&mut self, name: &str, kind: EntryType, bytes: u64) -> io::Result<()> {
        let mut header = Header::new_gnu(); // its sizes go beyond 8 GiB
        header.set_path(name)?;
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_size(bytes);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        self.file.write_all_at(header.as_bytes(), self.at)?;
        self.at += BLOCK;
        Ok(())
    }

    /// Goes on at the next block behind `end`.
    fn pad(&mut self, end: u64) -> io::Result<()> {
        let padded = end.next_multiple_of(BLOCK);
        self.file.write_all_at(&[0; BLOCK as usize][..(padded - end) as usize], end)?;
        self.at = padded;
        Ok(())
    }
}

/// Which blobs of a manifest's are where is clear from their names; this is what a target image
/// holds beside them.
pub(crate) struct Contents<'c> {
    /// `index.json`.
    pub(crate) main: &'c Descriptor,
    /// `repository:tag`.
    pub(crate) name: &'c str,
    /// `referrers.json`.
    pub(crate) referrers: Vec<Descriptor>,
}

pub(crate) fn not_written(error: io::Error) -> PluginError {
    PluginError::from(error).while_doing("the target image cannot be written")
}

struct SinkAt<'f> {
    file: &'f File,
    at: u64,
}

impl Write for SinkAt<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(bytes, self.at)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
