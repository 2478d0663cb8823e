//! OpenStackCloud: images for OpenStack, by Keystone v3 and Glance v2, for the targets
//! `openstack-kvm` and `openstack`.
//!
//! A target image gets cloud-init and is kept as qcow2 or raw. A push makes one image in Glance,
//! whose id follows from the stage, and compares the checksum that Glance computes. A snapshot is
//! Nova's, of a server that runs. What is begun and not finished is cleanup's to remove.

#![cfg_attr(not(test), forbid(unsafe_code))] // the tests play the host, which is C

mod checksum;
mod credentials;
mod glance;
mod place;
mod push;
mod session;
mod snapshot;
mod target_image;
mod wishes;

use imagefactory_plugin_sdk::author::{
    BuilderDidCreateTargetImage, BuilderWillCreateTargetImage, Cleanup, CloudPlugin,
    DeleteFromProvider, ErrorCode, Host, Plugin, PluginError, PushImageToProvider, Resource,
    Result, SnapshotImageOnProvider, Stage,
};
use serde_json::json;

use glance::{Glance, GlanceImage, check_id};
use push::Push;
use session::Session;
use wishes::{Wishes, disk_format};

struct OpenStackCloud {
    host: Host,
}

impl Plugin for OpenStackCloud {
    const ID: &'static str = "OpenStackCloud";
    const VERSION: &'static str = "2.0.0";

    fn create(host: Host) -> Result<OpenStackCloud> {
        Ok(OpenStackCloud { host })
    }
}

impl CloudPlugin for OpenStackCloud {}

impl BuilderWillCreateTargetImage for OpenStackCloud {
    fn builder_will_create_target_image(&self, _stage: &Stage<'_>) -> Result<()> {
        self.host.add_cloud_plugin_content(&target_image::content()?)
    }
}

impl BuilderDidCreateTargetImage for OpenStackCloud {
    fn builder_did_create_target_image(&self, stage: &Stage<'_>) -> Result<()> {
        target_image::transform(&self.host, stage)
    }
}

impl PushImageToProvider for OpenStackCloud {
    fn push_image_to_provider(&self, stage: &Stage<'_>) -> Result<()> {
        self.host.check_cancelled()?;
        let wishes = Wishes::of(stage)?;
        let session = Session::open(&self.host, stage)?;
        let push = Push::prepare(&self.host, &session, stage, wishes)?;
        let image = push.run()?;
        self.set_results(&session, &image)?;
        self.host.set_result("effective_parameters", &push.wishes.used(stage, &push.facts))?;
        let properties = json!({
            "openstack_disk_format": disk_format(push.facts.format),
            "openstack_size": image.size,
            "openstack_sha512": image.os_hash_value,
        });
        self.host.set_result("properties", &properties)
    }
}

impl SnapshotImageOnProvider for OpenStackCloud {
    fn snapshot_image_on_provider(&self, stage: &Stage<'_>) -> Result<()> {
        self.host.check_cancelled()?;
        let wishes = Wishes::of(stage)?;
        let session = Session::open(&self.host, stage)?;
        let image = snapshot::snapshot(&self.host, &session, (stage, &wishes))?;
        self.set_results(&session, &image)
    }
}

impl DeleteFromProvider for OpenStackCloud {
    fn delete_from_provider(&self, stage: &Stage<'_>) -> Result<()> {
        self.host.check_cancelled()?;
        let image = stage.image("self")?.and_then(|image| image.member("identifier_on_provider"));
        let identifier = image.and_then(|identifier| identifier.as_text()).ok_or_else(|| {
            PluginError::user_fault("the image has no identifier on the provider")
        })?;
        check_id(&identifier)?;
        let session = Session::open(&self.host, stage)?;
        Glance { host: &self.host, session: &session }.delete(&identifier)
    }
}

impl Cleanup for OpenStackCloud {
    fn cleanup(&self, stage: &Stage<'_>, left: &[Resource]) -> Result<()> {
        if left.is_empty() {
            return Ok(());
        }
        let session = Session::open(&self.host, stage)?;
        let glance = Glance { host: &self.host, session: &session };
        let mut first_error = Ok(());
        for resource in left {
            let removed =
                remove(&glance, stage, resource).and_then(|()| self.host.removed(resource));
            first_error = first_error.and(removed);
        }
        first_error
    }
}

impl OpenStackCloud {
    fn set_results(&self, session: &Session, image: &GlanceImage) -> Result<()> {
        self.host.set_result("identifier_on_provider", &image.id)?;
        match session.project().or_else(|| image.owner.clone()) {
            Some(project) => self.host.set_result("provider_account_identifier", &project),
            None => Ok(()),
        }
    }
}

fn remove(glance: &Glance<'_>, stage: &Stage<'_>, resource: &Resource) -> Result<()> {
    match (resource.kind.as_str(), &resource.resource_id) {
        (push::RESOURCE_KIND, Some(id)) => {
            check_id(id)?;
            let image = glance.image(id)?.and_then(|image| image.imagefactory_stage_id);
            match image {
                Some(stage_id) if resource.token.starts_with(&stage_id) => glance.delete(id),
                // Gone, or never ours.
                _ => Ok(()),
            }
        }
        // Nova chose the id, and may not have told it.
        (snapshot::RESOURCE_KIND, _) => {
            let token = if resource.token.is_empty() { stage.stage_id() } else { &resource.token };
            check_id(token)?;
            let images = glance.of_stage(token)?;
            images.iter().try_for_each(|image| glance.delete(&image.id))
        }
        (kind, _) => {
            let message = format!("the journal's entry {} of the kind {kind:?}", resource.token);
            Err(PluginError::new(ErrorCode::InvalidArgument, message))
        }
    }
}

imagefactory_plugin_sdk::export_cloud_plugin!(OpenStackCloud);

#[cfg(test)]
#[path = "../../../plugin-sdk/tests/fake_host/mod.rs"]
mod fake_host;
#[cfg(test)]
#[path = "../../toolkit-http/src/tests/server.rs"]
#[allow(dead_code)] // the stub uses its part
mod server;
#[cfg(test)]
mod tests;
