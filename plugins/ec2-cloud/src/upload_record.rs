//! Which blocks have arrived, kept so that no later attempt sends them again.
//!
//! A file in the stage's state folder: a line of JSON that says what is uploaded where, then 36
//! bytes a block, appended when AWS has confirmed it. A process that is killed loses nothing that
//! was appended; a machine that loses its power loses what came after the last sync, and those
//! blocks are sent again. A record that is cut off, or of another image, is no record.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::author::{PluginError, Result};
use serde::{Deserialize, Serialize};

use crate::blocks::BlockDigest;

/// Its name in the state folder.
const FILE: &str = "blocks-sent";

/// Block number, little endian, and digest.
const ENTRY_BYTES: usize = 4 + 32;

/// After a power failure so much is sent again.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// What is uploaded where. Another one begins a new record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UploadSubject {
    /// The snapshot that gets the blocks.
    pub(crate) snapshot: String,
    /// The image's file, as the factory recorded it.
    pub(crate) image_sha256: Option<String>,
    /// Of the image's file.
    pub(crate) image_bytes: u64,
}

/// The record of one upload; shared by its threads.
pub(crate) struct UploadRecord {
    inner: Mutex<Inner>,
}

struct Inner {
    file: File,
    sent: BTreeMap<u32, BlockDigest>,
    synced_at: Instant,
}

impl UploadRecord {
    /// Goes on with the record of this subject, or begins one.
    pub(crate) fn open(folder: &Path, subject: &UploadSubject) -> Result<UploadRecord> {
        let path = folder.join(FILE);
        let sent = read(&path, subject).unwrap_or_default();
        let begun = path.with_extension("new");
        let write = || -> std::io::Result<File> {
            let mut file = File::create(&begun)?;
            // Written anew, so that an entry that was cut off is gone and appending goes on whole.
            let mut text = serde_json::to_vec(subject)?;
            text.push(b'\n');
            sent.iter().for_each(|(block, digest)| text.extend(entry(*block, digest)));
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&begun, &path)?;
            Ok(file)
        };
        let file = write().map_err(failed)?;
        let inner = Inner { file, sent, synced_at: Instant::now() };
        Ok(UploadRecord { inner: Mutex::new(inner) })
    }

    /// A block has arrived.
    pub(crate) fn add(&self, block: u32, digest: BlockDigest) -> Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.file.write_all(&entry(block, &digest)).map_err(failed)?;
        inner.sent.insert(block, digest);
        if inner.synced_at.elapsed() >= SYNC_EVERY {
            inner.file.sync_data().map_err(failed)?;
            inner.synced_at = Instant::now();
        }
        Ok(())
    }

    /// How many have arrived.
    pub(crate) fn len(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).sent.len()
    }

    /// All that have arrived, with their digests.
    pub(crate) fn sent(&self) -> BTreeMap<u32, BlockDigest> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).sent.clone()
    }
}

fn entry(block: u32, digest: &BlockDigest) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    entry[..4].copy_from_slice(&block.to_le_bytes());
    entry[4..].copy_from_slice(digest);
    entry
}

fn read(path: &Path, subject: &UploadSubject) -> Option<BTreeMap<u32, BlockDigest>> {
    let mut reader = BufReader::new(File::open(path).ok()?);
    let mut line = String::new();
    // One line of a few hundred bytes; a file without it is none of ours.
    reader.by_ref().take(64 << 10).read_line(&mut line).ok()?;
    let recorded: UploadSubject = serde_json::from_str(&line).ok()?;
    if recorded != *subject {
        return None;
    }
    let mut sent = BTreeMap::new();
    let mut entry = [0; ENTRY_BYTES];
    while reader.read_exact(&mut entry).is_ok() {
        let (block, digest) = entry.split_at(4);
        let block = u32::from_le_bytes(block.try_into().ok()?);
        sent.insert(block, digest.try_into().ok()?);
    }
    Some(sent)
}

fn failed(error: std::io::Error) -> PluginError {
    PluginError::from(error).while_doing("cannot keep the record of the upload")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(snapshot: &str) -> UploadSubject {
        let snapshot = snapshot.to_owned();
        UploadSubject { snapshot, image_sha256: Some("00".to_owned()), image_bytes: 7 }
    }

    #[test]
    fn a_later_attempt_knows_what_has_arrived() {
        let folder = tempfile::tempdir().unwrap();
        let record = UploadRecord::open(folder.path(), &subject("snap-1")).unwrap();
        record.add(7, [7; 32]).unwrap();
        record.add(3, [3; 32]).unwrap();
        drop(record);
        let again = UploadRecord::open(folder.path(), &subject("snap-1")).unwrap();
        assert_eq!(again.sent(), BTreeMap::from([(3, [3; 32]), (7, [7; 32])]));
        again.add(8, [8; 32]).unwrap();
        drop(again);
        assert_eq!(UploadRecord::open(folder.path(), &subject("snap-1")).unwrap().len(), 3);
    }

    #[test]
    fn a_record_of_something_else_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        UploadRecord::open(folder.path(), &subject("snap-1")).unwrap().add(1, [1; 32]).unwrap();
        assert_eq!(UploadRecord::open(folder.path(), &subject("snap-2")).unwrap().len(), 0);
        std::fs::write(folder.path().join(FILE), "garbage").unwrap();
        assert_eq!(UploadRecord::open(folder.path(), &subject("snap-2")).unwrap().len(), 0);
    }

    #[test]
    fn an_entry_that_was_cut_off_is_not_there_and_spoils_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let record = UploadRecord::open(folder.path(), &subject("snap-1")).unwrap();
        record.add(1, [1; 32]).unwrap();
        record.add(2, [2; 32]).unwrap();
        drop(record);
        let path = folder.path().join(FILE);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
        let again = UploadRecord::open(folder.path(), &subject("snap-1")).unwrap();
        assert_eq!(again.sent(), BTreeMap::from([(1, [1; 32])]));
        again.add(2, [9; 32]).unwrap();
        drop(again);
        let last = UploadRecord::open(folder.path(), &subject("snap-1")).unwrap();
        assert_eq!(last.sent(), BTreeMap::from([(1, [1; 32]), (2, [9; 32])]));
    }
}
