//! The EBS direct APIs: a snapshot is started, its blocks are put one by one, it is completed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use imagefactory_toolkit_http::{Method, Progress};
use serde::{Deserialize, Serialize};

use crate::aws::{Aws, Call, unexpected};
use crate::blocks::{BLOCK_BYTES, BlockDigest, hex};
use crate::failure::CallError;
use crate::region::Service;

/// A snapshot that gets no block for so long is given up by AWS; the most that it takes, because a
/// factory may be down for a while and go on.
const TIMEOUT_MIN: u32 = 60;

/// What a snapshot is started with.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NewSnapshot<'s> {
    /// GiB.
    pub(crate) volume_size: u64,
    /// The same in every attempt: two starts with one token are one snapshot.
    pub(crate) client_token: &'s str,
    pub(crate) description: &'s str,
    pub(crate) tags: &'s [Tag],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) encrypted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kms_key_arn: Option<&'s str>,
}

/// A tag, as both APIs spell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Tag {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// A snapshot that takes blocks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct StartedSnapshot {
    pub(crate) snapshot_id: String,
    #[serde(default)]
    pub(crate) owner_id: Option<String>,
    block_size: Option<u64>,
}

/// Starts a snapshot, or answers the one of the same token.
pub(crate) fn start_snapshot(
    aws: &Aws,
    new: &NewSnapshot<'_>,
) -> Result<StartedSnapshot, CallError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Body<'b> {
        #[serde(flatten)]
        new: &'b NewSnapshot<'b>,
        timeout: u32,
    }
    const NAME: &str = "StartSnapshot";
    let body = serde_json::to_vec(&Body { new, timeout: TIMEOUT_MIN })
        .map_err(|error| unexpected(NAME, &error.to_string()))?;
    let call = Call {
        headers: vec![("content-type", "application/json".to_owned())],
        body,
        ..Call::new(Service::Ebs, NAME, Method::POST, "/snapshots")
    };
    let started: StartedSnapshot = aws.send(call)?.json()?;
    match started.block_size {
        // Simulators say it in KiB.
        Some(BLOCK_BYTES | 512) | None => Ok(started),
        Some(other) => Err(unexpected(NAME, &format!("block size of 512 KiB but {other}")).into()),
    }
}

/// Puts one block; the answer's checksum has to be its own.
pub(crate) fn put_block(
    aws: &Aws,
    (snapshot, block): (&str, u32),
    (bytes, digest): (Vec<u8>, &BlockDigest),
    progress: &Progress,
) -> Result<(), CallError> {
    const NAME: &str = "PutSnapshotBlock";
    let checksum = STANDARD.encode(digest);
    let path = format!("/snapshots/{snapshot}/blocks/{block}");
    let call = Call {
        headers: vec![
            ("content-type", "application/octet-stream".to_owned()),
            ("x-amz-checksum", checksum.clone()),
            ("x-amz-checksum-algorithm", "SHA256".to_owned()),
            ("x-amz-data-length", bytes.len().to_string()),
        ],
        body: bytes,
        body_sha256: Some(hex(digest)),
        progress: Some(progress),
        ..Call::new(Service::Ebs, NAME, Method::PUT, &path)
    };
    let answer = aws.send(call)?;
    match answer.header("x-amz-checksum") {
        Some(theirs) if theirs != checksum => {
            Err(unexpected(NAME, &format!("checksum of block {block} but another")).into())
        }
        _ => Ok(()),
    }
}

/// Says that all blocks are there: so many, with this checksum over their checksums.
pub(crate) fn complete_snapshot(
    aws: &Aws,
    snapshot: &str,
    (blocks, linear): (usize, &BlockDigest),
) -> Result<(), CallError> {
    let path = format!("/snapshots/completion/{snapshot}");
    let call = Call {
        headers: vec![
            ("x-amz-changedblockscount", blocks.to_string()),
            ("x-amz-checksum", STANDARD.encode(linear)),
            ("x-amz-checksum-algorithm", "SHA256".to_owned()),
            ("x-amz-checksum-aggregation-method", "LINEAR".to_owned()),
        ],
        ..Call::new(Service::Ebs, "CompleteSnapshot", Method::POST, &path)
    };
    aws.send(call).map(|_| ())
}
