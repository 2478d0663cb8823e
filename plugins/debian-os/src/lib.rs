//! DebianOS: template in, bootable Debian or Ubuntu disk image out, without root on the host.
//!
//! The stage runs in a user namespace of its own (profile `os-userns`), where mmdebstrap may be
//! root; the disk is assembled from the root tree by tools that write into a file: no loop device,
//! no mount on the host. Read on in the order of a build:
//!
//! - [`plan`], [`suites`], [`archive`], [`packages`], [`mirrors`]: what is built, and from where
//! - [`probe`]: can it be built here?
//! - [`inputs`], [`fetch`], [`medium`]: what lies outside, and its digests
//! - [`bootstrap`], [`tree_cache`], [`customisation`], [`finishing`], [`times`]: the root tree;
//!   [`tree`] and [`apt`] work in it
//! - [`inventory`]: what is in it (ICICLE, SBOM)
//! - [`disk`], [`superblocks`], [`boot_loader`]: the tree becomes a disk
//! - [`target`], [`extraction`]: a disk becomes a tree again, for what a cloud adds
//! - [`boot_test`]: and the disk boots
//! - [`tool`]: how programs are run

#![cfg_attr(not(test), forbid(unsafe_code))] // the tests play the host, which is C

mod apt;
mod archive;
mod boot_loader;
mod boot_test;
mod bootstrap;
mod customisation;
mod disk;
mod extraction;
mod fetch;
mod finishing;
mod inputs;
mod inventory;
mod medium;
mod mirrors;
mod packages;
mod plan;
mod probe;
mod suites;
mod superblocks;
mod target;
mod times;
mod tool;
mod tree;
mod tree_cache;

use std::sync::Mutex;

use imagefactory_plugin_sdk::author::{
    AddCloudPluginContent, Cleanup, CreateTargetImage, ErrorCode, Host, OsPlugin, Plugin,
    PluginError, ResolveInputs, Resource, Result, Stage, VerifyImage,
};
use imagefactory_plugin_sdk::payload::target_content::TargetContent;
use serde_json::json;

use plan::Plan;
use times::Moment;
use tree::Tree;

struct DebianOs {
    host: Host,
    /// What the cloud plugin asked for, in order.
    contents: Mutex<Vec<TargetContent>>,
}

impl Plugin for DebianOs {
    const ID: &'static str = "DebianOS";
    const VERSION: &'static str = "2.0.0";

    fn create(host: Host) -> Result<DebianOs> {
        Ok(DebianOs { host, contents: Mutex::default() })
    }
}

impl OsPlugin for DebianOs {
    fn create_base_image(&self, stage: &Stage<'_>) -> Result<()> {
        let host = &self.host;
        probe::check_ids()?;
        let mut plan = Plan::of(host, stage)?;
        medium::open(host, &mut plan)?;
        let root = host.work_dir()?.join("root");
        bootstrap::make_tree(host, &plan, &root)?;
        let tree = Tree::new(host, &root);
        let since = Moment::now(&host.work_dir()?)?;
        let fetched = customisation::apply_template(&tree, &plan)?;
        finishing::finish_base(&tree, &plan, &since)?;
        let packages = inventory::installed(host, &root)?;
        inventory::hand_over(host, stage, &plan, &root, &packages)?;
        disk::write_image(host, &plan, &root, &host.output_image()?)?;
        host.set_result_text("format", "raw")?;
        host.set_result(
            "properties",
            &json!({ "suite": plan.suite.codename, "disk_bytes": plan.disk_bytes,
                     "root_uuid": plan.seed.uuid("root"), "packages": packages.len(),
                     "fetched": fetched }),
        )
    }
}

impl CreateTargetImage for DebianOs {
    fn create_target_image(&self, stage: &Stage<'_>) -> Result<()> {
        let contents = self.contents.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        target::create(&self.host, stage, &contents)
    }
}

impl AddCloudPluginContent for DebianOs {
    fn add_cloud_plugin_content(&self, content_json: &str) -> Result<()> {
        let content = TargetContent::from_json(content_json)
            .map_err(|error| PluginError::new(ErrorCode::InvalidArgument, error.to_string()))?;
        self.contents.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(content);
        Ok(())
    }
}

impl ResolveInputs for DebianOs {
    fn resolve_inputs(&self, stage: &Stage<'_>) -> Result<()> {
        inputs::resolve(&self.host, &Plan::of(&self.host, stage)?)
    }
}

impl VerifyImage for DebianOs {
    fn verify_image(&self, stage: &Stage<'_>) -> Result<()> {
        boot_test::verify(&self.host, stage)
    }
}

impl Cleanup for DebianOs {
    fn cleanup(&self, _stage: &Stage<'_>, left: &[Resource]) -> Result<()> {
        boot_test::clean_up(&self.host, left)
    }
}

imagefactory_plugin_sdk::export_os_plugin!(DebianOs);

#[cfg(test)]
#[path = "../../../plugin-sdk/tests/fake_host/mod.rs"]
mod fake_host;
#[cfg(test)]
#[path = "../../libvirt/tests/libvirt_server/mod.rs"]
mod libvirt_server;
