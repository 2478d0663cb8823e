//! Tells without a query whether anything was committed: the header of SQLite's WAL index.
//!
//! Every commit of every process changes it, because that is how SQLite's own readers learn of the
//! commit ("WAL-Index File Format", sqlite.org/walformat.html: 48 bytes with a change counter, the
//! last frame and checksums). Reading it is one system call. A torn read differs from what was read
//! before, which only costs the caller a query.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::images::Revision;

/// Bytes of the first copy of the header.
const HEADER_BYTES: usize = 48;

/// The open WAL index of a database.
#[derive(Debug)]
pub(crate) struct WalIndex(Option<File>);

impl WalIndex {
    /// Of the database in `dir`, which this process has open and keeps open: SQLite removes the
    /// index when the last connection ends.
    pub(crate) fn open(dir: &Path) -> WalIndex {
        WalIndex(File::open(dir.join("imagefactory.sqlite-shm")).ok())
    }

    /// What stands there now; `None` where it cannot be told.
    pub(crate) fn revision(&self) -> Option<Revision> {
        let mut header = [0_u8; HEADER_BYTES];
        self.0.as_ref()?.read_exact_at(&mut header, 0).ok()?;
        Some(Revision(header))
    }
}

#[cfg(test)]
mod tests {
    use crate::embedded::EmbeddedStore;
    use crate::images::Images;
    use crate::nonces::Nonces;

    #[tokio::test]
    async fn every_commit_of_any_connection_is_a_new_revision() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(folder.path()).await.unwrap();
        let other = EmbeddedStore::open(folder.path()).await.unwrap();
        let mut seen = vec![store.revision().unwrap()];
        assert_eq!(other.revision(), store.revision());
        for (index, writer) in [&store, &other, &store].into_iter().enumerate() {
            writer.take_nonce("k", 1, &index.to_string()).await.unwrap();
            let revision = store.revision().unwrap();
            assert!(!seen.contains(&revision));
            seen.push(revision);
        }
        assert_eq!(store.revision(), store.revision(), "reading changes nothing");
    }
}
