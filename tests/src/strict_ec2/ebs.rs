//! The EBS direct APIs, as strict as their reference.

use std::os::unix::fs::FileExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::faults::Fault;
use super::signature::Signed;
use super::wire::{Answer, Asked};
use super::{ACCOUNT, BLOCK_BYTES, Shared};

/// What a request is about.
pub(crate) fn action_of(asked: &Asked) -> String {
    let parts: Vec<&str> = asked.path.split('/').skip(1).collect();
    let action = match (asked.method.as_str(), &parts[..]) {
        ("POST", ["snapshots"]) => "StartSnapshot",
        ("PUT", ["snapshots", _, "blocks", _]) => "PutSnapshotBlock",
        ("POST", ["snapshots", "completion", _]) => "CompleteSnapshot",
        _ => "Unknown",
    };
    action.to_owned()
}

pub(crate) fn answer(asked: &Asked, signed: &Signed, shared: &Shared) -> Answer {
    let answered = match action_of(asked).as_str() {
        "StartSnapshot" => start(asked, signed, shared),
        "PutSnapshotBlock" => put(asked, signed, shared),
        "CompleteSnapshot" => complete(asked, signed, shared),
        _ => Err(invalid("there is no such call")),
    };
    answered.unwrap_or_else(|fault| fault.into_answer("ebs"))
}

fn start(asked: &Asked, signed: &Signed, shared: &Shared) -> Result<Answer, Fault> {
    let request: Value =
        serde_json::from_slice(&asked.body).map_err(|_| invalid("the body is no JSON"))?;
    let size = request["VolumeSize"].as_u64().filter(|size| (1..=65_536).contains(size));
    let size = size.ok_or_else(|| invalid("VolumeSize"))?;
    if request["KmsKeyArn"].is_string() && request["Encrypted"] != true {
        return Err(invalid("a key without Encrypted"));
    }
    if request["Timeout"].as_u64().is_some_and(|minutes| !(10..=60).contains(&minutes)) {
        return Err(invalid("Timeout"));
    }
    let token = request["ClientToken"].as_str().map(str::to_owned);
    let mut world = shared.world();
    let same = world.snapshots.iter().find(|(_, snapshot)| {
        token.is_some() && snapshot.client_token == token && snapshot.region == signed.region
    });
    let id = match same {
        Some((_, snapshot)) if snapshot.request != request => {
            return Err(Fault::new(503, "ConflictException"));
        }
        Some((id, _)) => id.clone(),
        None => {
            let id = world.new_id("snap");
            let mut snapshot = world.new_snapshot(&signed.region, size);
            for tag in request["Tags"].as_array().into_iter().flatten() {
                let text = |name: &str| tag[name].as_str().unwrap_or_default().to_owned();
                snapshot.tags.insert(text("Key"), text("Value"));
            }
            (snapshot.client_token, snapshot.request) = (token, request);
            world.snapshots.insert(id.clone(), snapshot);
            world.started.insert(id.clone());
            id
        }
    };
    let body = json!({"SnapshotId": id, "OwnerId": ACCOUNT, "Status": "pending",
        "VolumeSize": size, "BlockSize": BLOCK_BYTES});
    Ok(Answer::json(201, &body))
}

fn put(asked: &Asked, signed: &Signed, shared: &Shared) -> Result<Answer, Fault> {
    let parts: Vec<&str> = asked.path.split('/').collect();
    let (id, block) = (parts[2], parts[4].parse::<u32>().map_err(|_| invalid("BlockIndex"))?);
    let header = |name: &str| asked.header(name).unwrap_or_default();
    if header("x-amz-data-length") != BLOCK_BYTES.to_string() || asked.body.len() != BLOCK_BYTES {
        return Err(invalid("DataLength"));
    }
    if header("x-amz-checksum-algorithm") != "SHA256" {
        return Err(invalid("ChecksumAlgorithm"));
    }
    let checksum = STANDARD.encode(asked.sha256);
    if header("x-amz-checksum") != checksum {
        return Err(invalid("the checksum is not that of the data"));
    }
    let mut world = shared.world();
    let snapshot = world.snapshots.get_mut(id).filter(|it| it.region == signed.region);
    let snapshot = snapshot.ok_or_else(|| Fault::new(404, "ResourceNotFoundException"))?;
    if snapshot.completed {
        return Err(invalid("the snapshot takes no more blocks"));
    }
    if u64::from(block) * BLOCK_BYTES as u64 >= snapshot.volume_size << 30 {
        return Err(invalid("BlockIndex is beyond the volume"));
    }
    let again = snapshot.blocks.insert(block, asked.sha256).is_some();
    let at = u64::from(block) * BLOCK_BYTES as u64;
    let disk = snapshot.disk.try_clone().expect("a descriptor");
    world.blocks_taken += 1;
    world.blocks_again += u64::from(again);
    drop(world);
    disk.write_all_at(&asked.body, at).expect("a write");
    let headers =
        vec![("x-amz-checksum", checksum), ("x-amz-checksum-algorithm", "SHA256".to_owned())];
    Ok(Answer { status: 201, headers, body: "{}".to_owned() })
}

fn complete(asked: &Asked, signed: &Signed, shared: &Shared) -> Result<Answer, Fault> {
    let id = asked.path.rsplit('/').next().unwrap_or_default();
    let header = |name: &str| asked.header(name).unwrap_or_default();
    let mut world = shared.world();
    let snapshot = world.snapshots.get_mut(id).filter(|it| it.region == signed.region);
    let snapshot = snapshot.ok_or_else(|| Fault::new(404, "ResourceNotFoundException"))?;
    if snapshot.completed {
        return Err(invalid("the snapshot is completed"));
    }
    if header("x-amz-changedblockscount") != snapshot.blocks.len().to_string() {
        return Err(invalid("ChangedBlocksCount"));
    }
    if header("x-amz-checksum-aggregation-method") != "LINEAR"
        || header("x-amz-checksum-algorithm") != "SHA256"
    {
        return Err(invalid("ChecksumAggregationMethod"));
    }
    let mut linear = Sha256::new();
    snapshot.blocks.values().for_each(|digest| linear.update(digest));
    if header("x-amz-checksum") != STANDARD.encode(linear.finalize()) {
        return Err(invalid("the checksum is not that of the blocks' checksums"));
    }
    snapshot.completed = true;
    snapshot.took = Some(snapshot.started_at.elapsed());
    Ok(Answer::json(202, &json!({"Status": "pending"})))
}

fn invalid(what: &str) -> Fault {
    Fault { message: what.to_owned(), ..Fault::new(400, "ValidationException") }
}
