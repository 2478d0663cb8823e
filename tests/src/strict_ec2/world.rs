//! What exists at the provider.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::BLOCK_BYTES;

/// All regions of one account.
pub struct World {
    /// By id.
    pub snapshots: BTreeMap<String, Snapshot>,
    /// By id.
    pub images: BTreeMap<String, Image>,
    /// Calls by action, refused ones included.
    pub calls: BTreeMap<String, u64>,
    /// Of bodies of blocks, those that were cut included.
    pub block_bytes_received: u64,
    /// Blocks that were taken.
    pub blocks_taken: u64,
    /// Blocks that were taken though they were there.
    pub blocks_again: u64,
    /// Ids of snapshots that were ever started.
    pub started: BTreeSet<String>,
    /// Ids of images that were ever made.
    pub registered: BTreeSet<String>,
    /// How often a thing is asked for before it is ready.
    pub polls_until_ready: u32,
    next_id: u64,
}

/// A snapshot.
pub struct Snapshot {
    /// Where it lies.
    pub region: String,
    /// Two starts with one are one snapshot.
    pub client_token: Option<String>,
    /// The whole request of its start.
    pub request: serde_json::Value,
    /// GiB.
    pub volume_size: u64,
    /// By key.
    pub tags: BTreeMap<String, String>,
    /// `pending`, `completed`.
    pub status: &'static str,
    /// Checksums by block.
    pub blocks: BTreeMap<u32, [u8; 32]>,
    pub(crate) started_at: Instant,
    pub(crate) took: Option<Duration>,
    pub(crate) completed: bool,
    pub(crate) polls_left: u32,
    pub(crate) disk: File,
}

/// An image.
pub struct Image {
    /// Where it lies.
    pub region: String,
    /// Unique in account and region.
    pub name: String,
    /// What it was registered or copied with.
    pub request: BTreeMap<String, String>,
    /// By key.
    pub tags: BTreeMap<String, String>,
    /// `pending`, `available`.
    pub state: &'static str,
    /// Of its devices.
    pub snapshots: Vec<String>,
    /// `UserId=…`, `Group=all`, …
    pub launch_permissions: Vec<String>,
    /// As it was sent.
    pub deprecate_at: Option<String>,
    pub(crate) polls_left: u32,
}

impl World {
    pub(crate) fn new() -> World {
        World {
            snapshots: BTreeMap::new(),
            images: BTreeMap::new(),
            calls: BTreeMap::new(),
            block_bytes_received: 0,
            blocks_taken: 0,
            blocks_again: 0,
            started: BTreeSet::new(),
            registered: BTreeSet::new(),
            polls_until_ready: 2,
            next_id: 0,
        }
    }

    /// How often an action was called.
    pub fn called(&self, action: &str) -> u64 {
        self.calls.get(action).copied().unwrap_or_default()
    }

    pub(crate) fn count(&mut self, action: &str) {
        *self.calls.entry(action.to_owned()).or_default() += 1;
    }

    pub(crate) fn new_id(&mut self, prefix: &str) -> String {
        self.next_id += 1;
        format!("{prefix}-{:017x}", 0x0a11_0000_0000_u64 + self.next_id)
    }

    pub(crate) fn new_snapshot(&mut self, region: &str, volume_size: u64) -> Snapshot {
        let disk = tempfile::tempfile().expect("a file");
        disk.set_len(volume_size << 30).expect("a sparse file");
        Snapshot {
            region: region.to_owned(),
            client_token: None,
            request: serde_json::Value::Null,
            volume_size,
            tags: BTreeMap::new(),
            status: "pending",
            blocks: BTreeMap::new(),
            started_at: Instant::now(),
            took: None,
            completed: false,
            polls_left: self.polls_until_ready,
            disk,
        }
    }

    /// Names of everything that is there.
    pub fn everything(&self) -> Vec<String> {
        self.snapshots.keys().chain(self.images.keys()).cloned().collect()
    }

    /// The only snapshot.
    pub fn the_snapshot(&self) -> &Snapshot {
        assert_eq!(self.snapshots.len(), 1, "{:?}", self.snapshots.keys());
        self.snapshots.values().next().expect("one")
    }

    /// The only image.
    pub fn the_image(&self) -> &Image {
        assert_eq!(self.images.len(), 1, "{:?}", self.images.keys());
        self.images.values().next().expect("one")
    }
}

impl Snapshot {
    /// From its start to its completion.
    pub fn took(&self) -> Option<Duration> {
        self.took
    }

    /// Demands that its disk begins with the file's bytes and has zeros after them.
    pub fn assert_holds(&self, image: &File) {
        let bytes = image.metadata().expect("a file").len();
        let mut ours = vec![0; BLOCK_BYTES];
        let mut theirs = vec![0; BLOCK_BYTES];
        for block in 0..(self.volume_size << 30) / BLOCK_BYTES as u64 {
            let at = block * BLOCK_BYTES as u64;
            let present = bytes.saturating_sub(at).min(BLOCK_BYTES as u64) as usize;
            if present == 0 && !self.blocks.contains_key(&(block as u32)) {
                continue;
            }
            ours.fill(0);
            image.read_exact_at(&mut ours[..present], at).expect("a read");
            self.disk.read_exact_at(&mut theirs, at).expect("a read");
            assert!(ours == theirs, "block {block} differs");
        }
    }
}
