//! The blocks of an image, put into a snapshot that has been started.
//!
//! Several threads take block after block in ascending order; what has arrived is recorded at once,
//! so a later attempt of the stage sends only what is missing.

use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::author::{Host, PluginError, Result};
use imagefactory_toolkit_http::{HttpClient, Progress, parallel};
use serde_json::json;

use crate::aws::Aws;
use crate::blocks::{
    BLOCK_BYTES, BlockDigest, blocks_with_data, digest_of, linear_digest, read_block,
};
use crate::ebs::put_block;
use crate::failure::CallError;
use crate::upload_record::UploadRecord;
use crate::wishes::CONCURRENCY_MAX;

/// The checkpoint that shows progress to the host; blocks themselves are in the record.
const CHECKPOINT: &str = "blocks_sent";

/// A checkpoint is an fsync of the host, which bounds their number.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);

/// Blocks under way are what a crash sends twice; of this share of all blocks at most.
const IN_FLIGHT_SHARE: usize = 128;

/// Fewer at once would wait for the round trip most of the time.
const CONCURRENCY_MIN: usize = 4;

/// With a limited bandwidth all blocks under way together take this long at most.
const IN_FLIGHT_S: u64 = 60;

/// All blocks that a snapshot has got.
pub(crate) struct Uploaded {
    /// How many.
    pub(crate) blocks: usize,
    /// Over their checksums, in order.
    pub(crate) linear: BlockDigest,
}

/// What is uploaded.
pub(crate) struct Source {
    /// The image.
    pub(crate) file: Arc<File>,
    /// Its size.
    pub(crate) bytes: u64,
}

/// Puts all blocks with data that are not recorded yet.
pub(crate) fn upload(
    (host, aws): (&Host, &Aws),
    snapshot: &str,
    source: &Source,
    (record, at_once): (&UploadRecord, Option<u64>),
) -> Result<Uploaded> {
    let planned = blocks_with_data(&source.file)
        .map_err(|error| PluginError::from(error).while_doing("cannot read the image"))?;
    let before = record.sent();
    let missing: Vec<u32> =
        planned.iter().copied().filter(|block| !before.contains_key(block)).collect();
    let total = (missing.len() + before.len()) as u64 * BLOCK_BYTES;
    let progress = Progress::new("upload", "uploading the image's blocks", total);
    progress.add(before.len() as u64 * BLOCK_BYTES);
    if !before.is_empty() {
        let (sent, left) = (before.len(), missing.len());
        host.info(&format!("{sent} blocks have arrived in an earlier attempt, {left} are left"));
    }
    let at_once = concurrency(at_once, aws.http(), planned.len());
    host.info(&format!("putting {} blocks into {snapshot}, {at_once} at once", missing.len()));
    let teller = Checkpoints::new(host, snapshot, record);
    let zeros = AtomicUsize::new(0);
    parallel(aws.http(), at_once, missing, |http, block| {
        host.check_cancelled()?;
        let read = read_block(&source.file, block, source.bytes);
        let read = read.map_err(|error| {
            PluginError::from(error).while_doing(format!("cannot read block {block} of the image"))
        })?;
        let Some(bytes) = read else {
            zeros.fetch_add(1, Ordering::Relaxed);
            progress.add(BLOCK_BYTES);
            return progress.tell(host);
        };
        let digest = digest_of(&bytes);
        put_block(&aws.with_http(http), (snapshot, block), (bytes, &digest), &progress)
            .map_err(|error| of_block(error, block))?;
        record.add(block, digest)?;
        teller.tell()
    })?;
    let sent = record.sent();
    host.info(&format!(
        "{snapshot} has {} blocks; {} were nothing but zeros",
        sent.len(),
        zeros.load(Ordering::Relaxed)
    ));
    Ok(Uploaded { blocks: sent.len(), linear: linear_digest(sent.values()) })
}

/// What the client wishes, at most what the operator allows; otherwise so few that what a crash
/// may send twice stays below a hundredth of the image.
fn concurrency(wished: Option<u64>, http: &HttpClient, blocks: usize) -> usize {
    let max = CONCURRENCY_MAX as usize;
    let fitting = (blocks / IN_FLIGHT_SHARE).clamp(CONCURRENCY_MIN, max);
    let wished = wished.map_or(fitting, |wished| usize::try_from(wished).unwrap_or(max));
    // A block that takes minutes to send outlives its signature.
    let pace = http.options().upload_bytes_per_s.map(|pace| pace * IN_FLIGHT_S / BLOCK_BYTES);
    let pace = pace.map_or(max, |blocks| usize::try_from(blocks).unwrap_or(max));
    wished.min(http.options().uploads_at_once.unwrap_or(max)).min(pace).max(1)
}

fn of_block(error: CallError, block: u32) -> PluginError {
    PluginError::from(error).while_doing(format!("block {block}"))
}

/// Tells the host now and then that the upload comes on: an order that is interrupted again and
/// again is only given up where nothing moves.
struct Checkpoints<'c> {
    host: &'c Host,
    snapshot: &'c str,
    record: &'c UploadRecord,
    told_at: Mutex<Instant>,
}

impl<'c> Checkpoints<'c> {
    fn new(host: &'c Host, snapshot: &'c str, record: &'c UploadRecord) -> Checkpoints<'c> {
        Checkpoints { host, snapshot, record, told_at: Mutex::new(Instant::now()) }
    }

    fn tell(&self) -> Result<()> {
        {
            let mut told_at = self.told_at.lock().unwrap_or_else(PoisonError::into_inner);
            if told_at.elapsed() < CHECKPOINT_EVERY {
                return Ok(());
            }
            *told_at = Instant::now();
        }
        let value = json!({"snapshot": self.snapshot, "blocks": self.record.len()});
        self.host.put_checkpoint(CHECKPOINT, &value)
    }
}
