//! A tar that is written front to back, but for places that are kept free and filled last: an OVA
//! begins with a descriptor and a manifest that tell size and checksum of the disk behind them.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use imagefactory_plugin_sdk::author::{ErrorCode, PluginError, Result};
use imagefactory_toolkit_disk::{TAR_BLOCK, tar_header};

/// The archive as it grows.
pub(crate) struct Archive {
    file: File,
    /// Where the next member begins.
    end: u64,
}

/// A member that is still to be written.
pub(crate) struct Place {
    name: String,
    at: u64,
    /// So many bytes it will have.
    room: usize,
}

impl Archive {
    /// An empty one.
    pub(crate) fn new(file: File) -> Archive {
        Archive { file, end: 0 }
    }

    /// A member whose content is known.
    pub(crate) fn add(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let place = self.reserve(name, content.len());
        self.fill(&place, content)
    }

    /// Keeps room for a member of exactly so many bytes.
    pub(crate) fn reserve(&mut self, name: &str, room: usize) -> Place {
        let place = Place { name: name.to_owned(), at: self.end, room };
        self.end += (TAR_BLOCK + room.next_multiple_of(TAR_BLOCK)) as u64;
        place
    }

    /// Writes a member into its place; what is shorter is filled up with line ends, so it must be
    /// a text that may end in some.
    pub(crate) fn fill(&self, place: &Place, content: &[u8]) -> Result<()> {
        let Some(missing) = place.room.checked_sub(content.len()) else {
            let message = format!("{} became longer than expected", place.name);
            return Err(PluginError::new(ErrorCode::Internal, message));
        };
        let mut bytes = tar_header(&place.name, place.room as u64)?.to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len() + missing, b'\n');
        bytes.resize(bytes.len().next_multiple_of(TAR_BLOCK), 0);
        self.file.write_all_at(&bytes, place.at)?;
        Ok(())
    }

    /// A member that `write` writes, whatever its size will be; answers that size beside what
    /// `write` answers.
    pub(crate) fn stream<T>(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<T>,
    ) -> Result<(T, u64)> {
        let start = self.end + TAR_BLOCK as u64;
        self.file.seek(SeekFrom::Start(start))?;
        let written = write(&mut &self.file)?;
        let bytes = self.file.stream_position()? - start;
        self.file.write_all_at(&tar_header(name, bytes)?, self.end)?;
        self.end = start + bytes.next_multiple_of(TAR_BLOCK as u64);
        Ok((written, bytes))
    }

    /// Two blocks of zeros end it; what was left out between members is zeros too.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.file.set_len(self.end + 2 * TAR_BLOCK as u64)
    }
}
