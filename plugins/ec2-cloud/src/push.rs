//! One push: a snapshot with the image's blocks, an image registered on it, copies of that.
//!
//! ```text
//! snapshot: started ──▶ blocks put ──▶ completing ──▶ completed ──▶ image registered ──▶ copies
//! ```
//!
//! Each step asks AWS what is there before it makes anything, so any attempt may begin anywhere.

use std::fs::File;
use std::sync::Arc;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result, Stage};
use imagefactory_toolkit_disk::{DiskError, DiskFormat, inspect};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::aws::Aws;
use crate::blocks::volume_gib;
use crate::ebs::{NewSnapshot, Tag, complete_snapshot, start_snapshot};
use crate::failure::CallError;
use crate::firmware::boot_mode;
use crate::image::{
    NewImage, architecture_named, begin_copy, boot_mode_for, finish, finish_copy, name_for,
    register,
};
use crate::outside::{self, SNAPSHOT};
use crate::tags::{STAGE_TAG, snapshot, snapshots_with, tags};
use crate::upload::{Source, upload};
use crate::upload_record::{UploadRecord, UploadSubject};
use crate::waiting::until_completed;
use crate::wishes::Wishes;

/// Of [`SnapshotState`].
const CHECKPOINT: &str = "snapshot";

/// How far the snapshot is; durable before the next step.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct SnapshotState {
    /// How many were given up before: part of the token, so that AWS starts a new one.
    given_up: u32,
    id: Option<String>,
    owner: Option<String>,
    /// All blocks are there, and AWS has been or is about to be told.
    completing: bool,
}

/// A finished push.
pub(crate) struct Pushed {
    /// `ami-…`.
    pub(crate) image: String,
    snapshot: String,
    owner: Option<String>,
    boot_mode: Option<String>,
    volume_size: u64,
    name: String,
    copies: Map<String, Value>,
}

/// Makes the provider image of the target image.
pub(crate) fn push(
    (host, aws): (&Host, &Aws),
    stage: &Stage<'_>,
    wishes: &Wishes,
) -> Result<Pushed> {
    let source = source(host, stage)?;
    let architecture = match stage.template_json() {
        Some(_) => architecture_named(stage.template()?.os.arch.name())?,
        // An imported image says nothing of itself.
        None => "x86_64",
    };
    let found = boot_mode(&source.file)
        .map_err(|error| PluginError::from(error).while_doing("cannot read the image"))?;
    let mode = boot_mode_for(wishes, found, architecture)?;
    let volume_size = volume_size(wishes, source.bytes)?;
    let name = name_for(stage, wishes);
    let description = wishes
        .description
        .clone()
        .unwrap_or_else(|| format!("Image Factory, provider image {}", stage.image_id()));
    let tags = tags(stage, wishes, &name);

    let new = NewSnapshot {
        // The volume is as large as the image needs; a larger one is made when it is used.
        volume_size: volume_gib(source.bytes),
        client_token: stage.stage_id(),
        description: &description,
        tags: &tags,
        encrypted: wishes.encrypted.or(wishes.kms_key_id.as_ref().map(|_| true)),
        kms_key_arn: wishes.kms_key_id.as_deref(),
    };
    let state = make_snapshot((host, aws), stage, (&new, wishes), &source)?;
    let snapshot = state.id.unwrap_or_default();
    let new = NewImage {
        name: &name,
        description: &description,
        architecture,
        boot_mode: mode,
        snapshot: &snapshot,
        volume_size,
        tags: &tags,
    };
    let image = register((host, aws), stage.stage_id(), &new, wishes)?;
    finish(aws, &image, wishes)?;
    let copies = copy((host, aws), (stage.stage_id(), &image), (&new, wishes))?;
    let boot_mode = mode.map(str::to_owned);
    let owner = state.owner;
    Ok(Pushed { image, owner, boot_mode, volume_size, copies, name: name.clone(), snapshot })
}

impl Pushed {
    /// What the user sees of it.
    pub(crate) fn set_results(&self, host: &Host, aws: &Aws, wishes: &Wishes) -> Result<()> {
        host.set_result("identifier_on_provider", &self.image)?;
        // The original reports the access key; a role's changes, so there it is the account.
        let account = aws.lasting_access_key().map(str::to_owned).or(self.owner.clone());
        if let Some(account) = account {
            host.set_result("provider_account_identifier", &account)?;
        }
        let properties = json!({
            "ec2_region": aws.region(),
            "ec2_account": self.owner,
            "ec2_snapshot": self.snapshot,
            "ec2_copies": self.copies,
        });
        host.set_result("properties", &properties)?;
        let used = json!({
            "ec2_name": self.name,
            "ec2_boot_mode": self.boot_mode,
            "ec2_root_device_name": wishes.root_device_name,
            "ec2_volume_type": wishes.volume_type,
            "ec2_volume_size": self.volume_size,
            "ec2_ena_support": wishes.ena_support,
            "ec2_encrypted": wishes.encrypted.unwrap_or(wishes.kms_key_id.is_some()),
            "ec2_copy_regions": wishes.copy_regions,
            "ec2_launch_permissions": wishes.launch_permissions,
        });
        host.set_result("effective_parameters", &used)
    }
}

/// The target image: its file, and that it is a raw disk.
fn source(host: &Host, stage: &Stage<'_>) -> Result<Source> {
    let path = host.input_image()?;
    let shown = |error: PluginError| error.while_doing(format!("cannot read {}", path.display()));
    let file = File::open(&path).map_err(|error| shown(error.into()))?;
    let facts = inspect(&file).map_err(|error| match error {
        DiskError::Read(cause) => shown(cause.into()),
        damaged @ DiskError::Damaged { .. } => {
            PluginError::new(ErrorCode::InvalidArgument, damaged.to_string())
        }
    })?;
    let declared = stage.image("target")?.and_then(|image| image.member("format"));
    let declared = declared.and_then(|format| format.as_text());
    let is_raw = declared.as_deref().is_none_or(|format| format == "raw");
    if facts.format != DiskFormat::Raw || !is_raw {
        let format = declared.unwrap_or_else(|| facts.format.name().to_owned());
        let message = format!("the target image is {format}, and EC2 takes raw disks");
        return Err(PluginError::user_fault(message)
            .hint("build the target image for ec2: that makes it raw"));
    }
    Ok(Source { file: Arc::new(file), bytes: facts.file_bytes })
}

fn volume_size(wishes: &Wishes, image_bytes: u64) -> Result<u64> {
    let needed = volume_gib(image_bytes);
    match wishes.volume_size {
        Some(wished) if wished < needed => {
            let message = format!("ec2_volume_size is {wished} GiB, and the image has {needed}");
            Err(PluginError::user_fault(message).hint("leave it out, or make it larger"))
        }
        wished => Ok(wished.unwrap_or(needed)),
    }
}

/// The completed snapshot: as an earlier attempt left it, or a new one.
fn make_snapshot(
    (host, aws): (&Host, &Aws),
    stage: &Stage<'_>,
    (new, wishes): (&NewSnapshot<'_>, &Wishes),
    source: &Source,
) -> Result<SnapshotState> {
    let mut state: SnapshotState = host.checkpoint(CHECKPOINT)?.unwrap_or_default();
    // Asked first: where the keys open nothing, there is nothing to journal and to clean up.
    if is_completed((host, aws), stage, &mut state)? {
        return Ok(state);
    }
    let resource = outside::product(aws, stage.stage_id(), SNAPSHOT)?;
    host.will_create(&resource)?;
    if state.id.is_none() {
        let token = match state.given_up {
            0 => new.client_token.to_owned(),
            number => format!("{}-{number}", new.client_token),
        };
        let started = start_snapshot(aws, &NewSnapshot { client_token: &token, ..*new })?;
        state.owner = started.owner_id;
        state.id = Some(started.snapshot_id);
        host.put_checkpoint(CHECKPOINT, &state)?;
    }
    let id = state.id.clone().unwrap_or_default();
    host.created(&resource.with_id(&id))?;
    let recorded = stage.image("target")?.and_then(|image| image.member("sha256"));
    let subject = UploadSubject {
        snapshot: id.clone(),
        image_sha256: recorded.and_then(|sha256| sha256.as_text()),
        image_bytes: source.bytes,
    };
    let record = UploadRecord::open(&host.state_dir()?, &subject)?;
    let uploaded = upload((host, aws), &id, source, (&record, wishes.upload_concurrency))?;
    let told_before = std::mem::replace(&mut state.completing, true);
    host.put_checkpoint(CHECKPOINT, &state)?;
    match complete_snapshot(aws, &id, (uploaded.blocks, &uploaded.linear)) {
        // An earlier attempt may have been heard; whether it is well is asked for next.
        Err(CallError::Refused(refusal)) if told_before => {
            host.info(&format!("{id} was completed by an earlier attempt ({})", refusal.code));
        }
        other => other?,
    }
    until_completed(host, aws, &id)?;
    Ok(state)
}

/// Looks for what an earlier attempt has made. A snapshot that failed at AWS, or that AWS has given
/// up, is removed, and the next one is started with another token.
fn is_completed(
    (host, aws): (&Host, &Aws),
    stage: &Stage<'_>,
    state: &mut SnapshotState,
) -> Result<bool> {
    let known = match &state.id {
        Some(id) => snapshot(aws, id)?,
        None => None,
    };
    let found = match known {
        Some(known) => Some(known),
        None => snapshots_with(aws, (STAGE_TAG, stage.stage_id()))?.into_iter().next(),
    };
    match found {
        Some(found) if found.status == "completed" => {
            host.info(&format!("{} is complete, from an earlier attempt", found.id));
            state.owner = state.owner.take().or(found.owner);
            state.id = Some(found.id);
            Ok(true)
        }
        Some(found) if found.status == "error" => {
            host.warn(&format!("{} failed at AWS; it is made anew", found.id));
            outside::delete_snapshot(host, aws, &found.id)?;
            start_over(host, state)
        }
        Some(found) => {
            // A start whose answer was lost answers the same snapshot again, by its token.
            state.id = state.id.take().or(Some(found.id));
            state.owner = state.owner.take().or(found.owner);
            host.put_checkpoint(CHECKPOINT, &*state)?;
            Ok(false)
        }
        None if state.id.is_some() => {
            host.warn("the snapshot of an earlier attempt is gone; it is made anew");
            start_over(host, state)
        }
        None => Ok(false),
    }
}

fn start_over(host: &Host, state: &mut SnapshotState) -> Result<bool> {
    *state = SnapshotState { given_up: state.given_up + 1, ..SnapshotState::default() };
    host.put_checkpoint(CHECKPOINT, &*state)?;
    Ok(false)
}

/// All copies are asked for before the first is waited for: AWS works on them at once.
fn copy(
    (host, aws): (&Host, &Aws),
    of: (&str, &str),
    (new, wishes): (&NewImage<'_>, &Wishes),
) -> Result<Map<String, Value>> {
    let regions = wishes.copy_regions.iter().filter(|region| *region != aws.region());
    let mut copies = Vec::new();
    for region in regions {
        copies.push(begin_copy((host, aws), of, region, (new, wishes))?);
    }
    let mut made = Map::new();
    for copy in copies {
        let tags: &[Tag] = new.tags;
        finish_copy(host, &copy, tags, wishes)?;
        made.insert(copy.aws.region().to_owned(), Value::from(copy.id));
    }
    Ok(made)
}
