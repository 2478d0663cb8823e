//! What a stage makes at AWS, as the journal keeps it, and how each kind is removed.
//!
//! A resource's token is the stage's id and what it is, with the region where there are several; it
//! is found by the stage's tag where the answer that held its id was lost.

use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Resource, Result};
use serde::{Deserialize, Serialize};

use crate::aws::Aws;
use crate::failure::CallError;
use crate::query::{Parameters, done, query};
use crate::tags::{self, STAGE_TAG, images_with, snapshots_with};

/// The journal's kinds.
pub(crate) const SNAPSHOT: &str = "ebs-snapshot";
/// The journal's kinds.
pub(crate) const IMAGE: &str = "ec2-image";

/// What cleanup has to know of a resource beside its kind and id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Whereabouts {
    /// Where it lies.
    pub(crate) region: String,
    /// The stage's id, which stands on it as a tag.
    pub(crate) stage: String,
}

impl Whereabouts {
    /// Of what cleanup is handed.
    pub(crate) fn of(resource: &Resource) -> Result<Whereabouts> {
        let details = resource.details_json.as_deref().unwrap_or("{}");
        serde_json::from_str(details).map_err(|error| {
            let message = format!("the journal's entry {}: {error}", resource.token);
            PluginError::new(ErrorCode::InvalidArgument, message)
        })
    }
}

/// A part of the product, before it is made.
pub(crate) fn product(aws: &Aws, stage: &str, kind: &str) -> Result<Resource> {
    let whereabouts = Whereabouts { region: aws.region().to_owned(), stage: stage.to_owned() };
    let details = serde_json::to_string(&whereabouts).map_err(|error| {
        PluginError::new(ErrorCode::Internal, format!("the journal's details: {error}"))
    })?;
    let token = format!("{stage}/{kind}/{}", aws.region());
    Ok(Resource::product(token, kind).with_details_json(details))
}

/// Deregisters an image; one that is not there is gone already.
pub(crate) fn deregister(aws: &Aws, image: &str) -> Result<()> {
    let parameters = Parameters::new().with("ImageId", image);
    gone(query(aws, "DeregisterImage", parameters, done))
}

/// An image's snapshot cannot be deleted while EC2 still counts it as in use, which lasts some
/// seconds after the image is gone.
const IN_USE_PATIENCE: Duration = Duration::from_secs(60);

/// Deletes a snapshot; one that is not there is gone already.
pub(crate) fn delete_snapshot(host: &Host, aws: &Aws, snapshot: &str) -> Result<()> {
    let started = Instant::now();
    loop {
        let parameters = Parameters::new().with("SnapshotId", snapshot);
        match query(aws, "DeleteSnapshot", parameters, done) {
            Err(error)
                if error.is("InvalidSnapshot.InUse") && started.elapsed() < IN_USE_PATIENCE =>
            {
                host.info(&format!("{snapshot} is still in use; again in 2 s"));
                // In a cleanup nobody cancels; in a deletion it ends the wait.
                host.sleep_unless_cancelled(Duration::from_secs(2))?;
            }
            other => return gone(other),
        }
    }
}

fn gone(removed: std::result::Result<(), CallError>) -> Result<()> {
    match removed {
        Err(error) if error.is_not_found() => Ok(()),
        other => Ok(other?),
    }
}

/// Removes all images and snapshots in a region that have this tag, known or not.
pub(crate) fn remove_tagged(host: &Host, aws: &Aws, tag: (&str, &str)) -> Result<()> {
    for image in images_with(aws, tag)? {
        remove_image(host, aws, &image.id, image.snapshots)?;
    }
    for snapshot in snapshots_with(aws, tag)? {
        host.info(&format!("deleting {} in {}", snapshot.id, aws.region()));
        delete_snapshot(host, aws, &snapshot.id)?;
    }
    Ok(())
}

/// Removes an image and its snapshots.
pub(crate) fn remove_image(
    host: &Host,
    aws: &Aws,
    image: &str,
    snapshots: Vec<String>,
) -> Result<()> {
    host.info(&format!("deregistering {image} in {}", aws.region()));
    deregister(aws, image)?;
    for snapshot in snapshots {
        host.info(&format!("deleting {snapshot} in {}", aws.region()));
        delete_snapshot(host, aws, &snapshot)?;
    }
    Ok(())
}

/// Removes one entry of the journal.
pub(crate) fn remove(host: &Host, aws: &Aws, resource: &Resource) -> Result<()> {
    let whereabouts = Whereabouts::of(resource)?;
    let aws = aws.in_region(&whereabouts.region);
    let tag = (STAGE_TAG, whereabouts.stage.as_str());
    match (resource.kind.as_str(), resource.resource_id.as_deref()) {
        (IMAGE, Some(id)) => {
            let found = tags::image(&aws, id)?;
            let snapshots = found.into_iter().flat_map(|image| image.snapshots).collect();
            remove_image(host, &aws, id, snapshots)?;
            remove_tagged(host, &aws, tag)
        }
        (SNAPSHOT, Some(id)) => {
            // The image first: as long as it is there it holds its snapshot.
            remove_tagged(host, &aws, tag)?;
            delete_snapshot(host, &aws, id)
        }
        (IMAGE | SNAPSHOT, None) => remove_tagged(host, &aws, tag),
        (other, _) => {
            let message = format!("the journal's entry {} is a {other}", resource.token);
            Err(PluginError::new(ErrorCode::InvalidArgument, message))
        }
    }
}
