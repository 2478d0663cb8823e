//! The tags that tell whose a snapshot or an image is, and the lookups by them.
//!
//! The stage's id stands on everything that a push makes, set in the very call that makes it. So a
//! later attempt, a cleanup or a person finds it even where the answer to that call was lost.

use imagefactory_plugin_sdk::author::Stage;
use roxmltree::Node;

use crate::aws::Aws;
use crate::ebs::Tag;
use crate::failure::CallError;
use crate::query::{Parameters, query};
use crate::wishes::Wishes;
use crate::xml::{child, items, text_of};

/// Holds the stage's id.
pub(crate) const STAGE_TAG: &str = "imagefactory:stage";

/// Holds the provider image's id in the factory.
pub(crate) const IMAGE_TAG: &str = "imagefactory:image";

/// What people look for in AWS's console.
const NAME_TAG: &str = "Name";

/// A snapshot, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundSnapshot {
    /// `snap-…`.
    pub(crate) id: String,
    /// `pending`, `completed`, `error`, …
    pub(crate) status: String,
    /// Why it failed.
    pub(crate) message: Option<String>,
    /// The account.
    pub(crate) owner: Option<String>,
}

/// An image, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundImage {
    /// `ami-…`.
    pub(crate) id: String,
    /// `pending`, `available`, `failed`, …
    pub(crate) state: String,
    /// Why it failed.
    pub(crate) reason: Option<String>,
    /// Of its block devices.
    pub(crate) snapshots: Vec<String>,
    /// The account.
    pub(crate) owner: Option<String>,
}

/// Those of the client and ours.
pub(crate) fn tags(stage: &Stage<'_>, wishes: &Wishes, name: &str) -> Vec<Tag> {
    let tag = |key: &str, value: &str| Tag { key: key.to_owned(), value: value.to_owned() };
    let ours = [tag(STAGE_TAG, stage.stage_id()), tag(IMAGE_TAG, stage.image_id())];
    let named = Some(tag(NAME_TAG, name)).filter(|_| !wishes.tags.contains_key(NAME_TAG));
    let theirs = wishes.tags.iter().map(|(key, value)| tag(key, value));
    ours.into_iter().chain(named).chain(theirs).collect()
}

/// The account's snapshots in the region that have this tag.
pub(crate) fn snapshots_with(
    aws: &Aws,
    (tag, value): (&str, &str),
) -> Result<Vec<FoundSnapshot>, CallError> {
    let parameters =
        Parameters::new().with("Owner.1", "self").with_filter(1, &format!("tag:{tag}"), value);
    query(aws, "DescribeSnapshots", parameters, |answer| Some(read_snapshots(answer)))
}

/// One snapshot; `None` = it is not there.
pub(crate) fn snapshot(aws: &Aws, id: &str) -> Result<Option<FoundSnapshot>, CallError> {
    let parameters = Parameters::new().with("SnapshotId.1", id);
    match query(aws, "DescribeSnapshots", parameters, |answer| Some(read_snapshots(answer))) {
        Ok(found) => Ok(found.into_iter().find(|snapshot| snapshot.id == id)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The account's images in the region that have this tag.
pub(crate) fn images_with(
    aws: &Aws,
    (tag, value): (&str, &str),
) -> Result<Vec<FoundImage>, CallError> {
    images_where(aws, (&format!("tag:{tag}"), value))
}

/// The account's images in the region of that name; there is one at most.
pub(crate) fn images_named(aws: &Aws, name: &str) -> Result<Vec<FoundImage>, CallError> {
    images_where(aws, ("name", name))
}

fn images_where(aws: &Aws, (filter, value): (&str, &str)) -> Result<Vec<FoundImage>, CallError> {
    let parameters = Parameters::new().with("Owner.1", "self").with_filter(1, filter, value);
    query(aws, "DescribeImages", parameters, |answer| Some(read_images(answer)))
}

/// One image; `None` = it is not there.
pub(crate) fn image(aws: &Aws, id: &str) -> Result<Option<FoundImage>, CallError> {
    let parameters = Parameters::new().with("ImageId.1", id);
    match query(aws, "DescribeImages", parameters, |answer| Some(read_images(answer))) {
        Ok(found) => Ok(found.into_iter().find(|image| image.id == id)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets tags on what is there already.
pub(crate) fn put_tags(aws: &Aws, resources: &[String], tags: &[Tag]) -> Result<(), CallError> {
    let parameters = Parameters::new().with_list("ResourceId", resources);
    let parameters = tags.iter().enumerate().fold(parameters, |all, (index, tag)| {
        all.with(format!("Tag.{}.Key", index + 1), &tag.key)
            .with(format!("Tag.{}.Value", index + 1), &tag.value)
    });
    query(aws, "CreateTags", parameters, crate::query::done)
}

/// `TagSpecification.N` for a call that makes something.
pub(crate) fn tag_specification(
    parameters: Parameters,
    (number, resource): (usize, &str),
    tags: &[Tag],
) -> Parameters {
    let prefix = format!("TagSpecification.{number}");
    let parameters = parameters.with(format!("{prefix}.ResourceType"), resource);
    tags.iter().enumerate().fold(parameters, |all, (index, tag)| {
        all.with(format!("{prefix}.Tag.{}.Key", index + 1), &tag.key)
            .with(format!("{prefix}.Tag.{}.Value", index + 1), &tag.value)
    })
}

fn read_snapshots(answer: Node<'_, '_>) -> Vec<FoundSnapshot> {
    let read = |item: Node<'_, '_>| {
        Some(FoundSnapshot {
            id: text_of(item, "snapshotId")?.to_owned(),
            status: text_of(item, "status").unwrap_or_default().to_owned(),
            message: text_of(item, "statusMessage").map(str::to_owned),
            owner: text_of(item, "ownerId").map(str::to_owned),
        })
    };
    items(answer, "snapshotSet").filter_map(read).collect()
}

fn read_images(answer: Node<'_, '_>) -> Vec<FoundImage> {
    let read = |item: Node<'_, '_>| {
        let snapshots = items(item, "blockDeviceMapping")
            .filter_map(|device| child(device, "ebs"))
            .filter_map(|ebs| text_of(ebs, "snapshotId"));
        let reason = child(item, "stateReason").and_then(|reason| text_of(reason, "message"));
        Some(FoundImage {
            id: text_of(item, "imageId")?.to_owned(),
            state: text_of(item, "imageState").unwrap_or_default().to_owned(),
            reason: reason.map(str::to_owned),
            snapshots: snapshots.map(str::to_owned).collect(),
            owner: text_of(item, "imageOwnerId").map(str::to_owned),
        })
    };
    items(answer, "imagesSet").filter_map(read).collect()
}
