//! DockerCloud: container images of a machine's root file system, for the target `docker`.
//!
//! As in the original the target image is made in one go, in
//! `builder_should_create_target_image`: an archive that `docker load`, `skopeo` and `podman` read.
//! A push brings it into any registry that speaks the OCI distribution protocol. Snapshots do not
//! exist there, so that operation is not offered.

#![cfg_attr(not(test), forbid(unsafe_code))] // the tests play the host, which is C

// the target image
mod target;

mod archive;
mod compression;
mod container;
mod documents;
mod layer;
mod root_file_system;
mod sbom;
mod selection;

// the provider image
mod push;

mod credentials;
mod product;
mod provider;
mod reference;
mod registry;
mod target_image;

use imagefactory_plugin_sdk::author::{
    BuilderShouldCreateTargetImage, Cleanup, CloudPlugin, DeleteFromProvider, Host, Plugin,
    PushImageToProvider, Resource, Result, ShouldCreate, Stage,
};

struct DockerCloud {
    host: Host,
}

impl Plugin for DockerCloud {
    const ID: &'static str = "DockerCloud";
    const VERSION: &'static str = "2.0.0";

    fn create(host: Host) -> Result<DockerCloud> {
        Ok(DockerCloud { host })
    }
}

impl CloudPlugin for DockerCloud {}

impl BuilderShouldCreateTargetImage for DockerCloud {
    fn builder_should_create_target_image(&self, stage: &Stage<'_>) -> Result<ShouldCreate> {
        self.host.check_cancelled()?;
        target::make(&self.host, stage)?;
        Ok(ShouldCreate::AlreadyCreated)
    }
}

impl PushImageToProvider for DockerCloud {
    fn push_image_to_provider(&self, stage: &Stage<'_>) -> Result<()> {
        self.host.check_cancelled()?;
        push::push(&self.host, stage)
    }
}

impl DeleteFromProvider for DockerCloud {
    fn delete_from_provider(&self, stage: &Stage<'_>) -> Result<()> {
        self.host.check_cancelled()?;
        push::delete(&self.host, stage)
    }
}

impl Cleanup for DockerCloud {
    fn cleanup(&self, stage: &Stage<'_>, left: &[Resource]) -> Result<()> {
        product::clean_up(&self.host, stage, left)
    }
}

imagefactory_plugin_sdk::export_cloud_plugin!(DockerCloud);

#[cfg(test)]
#[path = "../../../plugin-sdk/tests/fake_host/mod.rs"]
mod fake_host;
#[cfg(test)]
mod tests;
