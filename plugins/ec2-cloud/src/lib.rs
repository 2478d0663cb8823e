//! EC2Cloud: Amazon machine images, for the target `ec2`.
//!
//! A push puts the disk's blocks into an EBS snapshot, directly and without an instance or a
//! bucket, and registers an image on it. Everything made at AWS is in the journal before, carries
//! the stage's id, and is found again by it.

#![cfg_attr(not(test), forbid(unsafe_code))] // the tests play the host, which is C

mod target_content;
mod wishes;

mod push;

mod blocks;
mod firmware;
mod upload;
mod upload_record;

mod image;
mod outside;
mod tags;
mod waiting;

mod ebs;
mod query;

mod aws;
mod credentials;
mod failure;
mod key_source;
mod lenient;
mod region;
mod signing;
mod xml;

use imagefactory_plugin_sdk::author::{
    BuilderWillCreateTargetImage, Cleanup, CloudPlugin, DeleteFromProvider, ErrorCode, Host,
    Plugin, PluginError, PushImageToProvider, Resource, Result, Stage,
};
use imagefactory_toolkit_http::{HttpClient, HttpOptions};
use serde_json::Value;

use aws::Aws;
use credentials::Ec2Credentials;
use key_source::KeySource;
use region::is_region;
use tags::IMAGE_TAG;
use wishes::Wishes;

struct Ec2Cloud {
    host: Host,
}

impl Plugin for Ec2Cloud {
    const ID: &'static str = "EC2Cloud";
    const VERSION: &'static str = "2.0.0";

    fn create(host: Host) -> Result<Ec2Cloud> {
        Ok(Ec2Cloud { host })
    }
}

impl CloudPlugin for Ec2Cloud {}

impl BuilderWillCreateTargetImage for Ec2Cloud {
    fn builder_will_create_target_image(&self, stage: &Stage<'_>) -> Result<()> {
        self.host.check_cancelled()?;
        match target_content::target_content(stage)? {
            Some(content) => self.host.add_cloud_plugin_content(&content),
            None => Ok(()),
        }
    }
}

impl PushImageToProvider for Ec2Cloud {
    fn push_image_to_provider(&self, stage: &Stage<'_>) -> Result<()> {
        self.host.check_cancelled()?;
        let wishes = Wishes::of(stage)?;
        let aws = self.aws(stage, &wishes)?;
        let pushed = push::push((&self.host, &aws), stage, &wishes)?;
        pushed.set_results(&self.host, &aws, &wishes)
    }
}

impl DeleteFromProvider for Ec2Cloud {
    /// Removes the image, its copies in other regions, and the snapshots of all of them.
    fn delete_from_provider(&self, stage: &Stage<'_>) -> Result<()> {
        self.host.check_cancelled()?;
        let image = stage.image("self")?;
        let member = |name: &str| image.as_ref().and_then(|image| image.member(name));
        let identifier = member("identifier_on_provider").and_then(|id| id.as_text());
        let identifier = identifier.ok_or_else(|| {
            PluginError::user_fault("the image has no identifier on the provider")
        })?;
        if !is_image_id(&identifier) {
            let message = format!("{identifier:?} is no image of EC2's");
            return Err(PluginError::new(ErrorCode::NotFound, message));
        }
        let wishes = Wishes::of(stage)?;
        let aws = self.aws(stage, &wishes)?;
        let copies = member("properties").and_then(|properties| properties.member("ec2_copies"));
        let copies: Value =
            copies.and_then(|copies| serde_json::from_str(copies.raw()).ok()).unwrap_or_default();
        let mut places = vec![(aws.clone(), identifier)];
        for (region, id) in copies.as_object().into_iter().flatten() {
            let id = id.as_str().filter(|id| is_image_id(id) && is_region(region));
            places.extend(id.map(|id| (aws.in_region(region), id.to_owned())));
        }
        for (aws, id) in places {
            self.host.progress("delete", &format!("deleting {id} in {}", aws.region()), 0, 0)?;
            if let Some(found) = tags::image(&aws, &id)? {
                outside::remove_image(&self.host, &aws, &id, found.snapshots)?;
            }
            outside::remove_tagged(&self.host, &aws, (IMAGE_TAG, stage.image_id()))?;
        }
        Ok(())
    }
}

impl Cleanup for Ec2Cloud {
    fn cleanup(&self, stage: &Stage<'_>, left: &[Resource]) -> Result<()> {
        if left.is_empty() {
            return Ok(());
        }
        let wishes = Wishes::of(stage)?;
        let aws = self.aws(stage, &wishes)?;
        let mut first_error = Ok(());
        // What was made last goes first: an image before the snapshot that it stands on.
        for resource in left.iter().rev() {
            let removed = outside::remove(&self.host, &aws, resource)
                .and_then(|()| self.host.removed(resource));
            first_error = first_error.and(removed);
        }
        first_error
    }
}

impl Ec2Cloud {
    /// The account that the stage's credentials open, in the provider's region.
    fn aws(&self, stage: &Stage<'_>, wishes: &Wishes) -> Result<Aws> {
        let credentials = Ec2Credentials::of(&self.host, stage)?;
        let mut options = HttpOptions::from_host(&self.host)?;
        options.ca_pem = wishes.ca_certificates.clone();
        let http = HttpClient::new(&self.host, options)?;
        let place = (wishes.region.as_str(), &wishes.endpoints);
        Ok(Aws::new(&self.host, http, KeySource::of(credentials), place))
    }
}

/// It becomes part of requests.
fn is_image_id(id: &str) -> bool {
    let hex = id.strip_prefix("ami-").unwrap_or_default();
    (8..=32).contains(&hex.len()) && hex.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

imagefactory_plugin_sdk::export_cloud_plugin!(Ec2Cloud);

#[cfg(test)]
#[path = "../../../plugin-sdk/tests/fake_host/mod.rs"]
mod fake_host;
#[cfg(test)]
mod tests;
