//! DebianOS: template in, bootable Debian or Ubuntu disk image out, without root on the host.
//!
//! The stage runs in a user namespace of its own (profile `os-userns`), where mmdebstrap may be
//! root; the disk is assembled from the root tree by tools that write into a file: no loop device,
//! no mount on the host. Read on in the order of a build:
//!
//! - [`plan`], [`suites`], [`mirrors`]: what is to be built, and from where
//! - [`bootstrap`], [`customisation`]: the root tree
//! - [`inventory`]: what is in it (ICICLE, SBOM)
//! - [`disk`], [`boot_loader`]: the tree becomes a disk
//! - [`boot_test`]: and the disk boots
//! - [`tool`]: how programs are run

#![forbid(unsafe_code)]

mod boot_loader;
mod boot_test;
mod bootstrap;
mod customisation;
mod disk;
mod inventory;
mod mirrors;
mod plan;
mod suites;
mod tool;

use std::sync::Mutex;

use imagefactory_plugin_sdk::author::{
    AddCloudPluginContent, CreateTargetImage, ErrorCode, Host, OsPlugin, Plugin, PluginError,
    ResolveInputs, Result, Stage, VerifyImage,
};
use imagefactory_plugin_sdk::payload::target_content::TargetContent;
use serde_json::json;

use plan::Plan;

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
        let plan = Plan::of(host, stage)?;
        let root = host.work_dir()?.join("root");
        bootstrap::make_tree(host, &plan, &root)?;
        customisation::apply_template(host, &plan, &root)?;
        let packages = inventory::installed(host, &root)?;
        customisation::finish(host, &plan, &root)?;
        disk::write_image(host, &plan, &root, &host.output_image()?)?;
        inventory::hand_over(host, &plan, &packages)?;
        host.set_result_text("format", "raw")?;
        host.set_result(
            "properties",
            &json!({ "suite": plan.suite.codename, "disk_bytes": plan.disk_bytes,
                     "root_uuid": plan.seed.uuid("root"), "packages": packages.len() }),
        )
    }
}

impl CreateTargetImage for DebianOs {
    fn create_target_image(&self, _stage: &Stage<'_>) -> Result<()> {
        let contents = self.contents.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let asked = contents.iter().any(|content| !content.is_empty());
        if asked {
            return Err(PluginError::new(
                ErrorCode::Unsupported,
                "DebianOS does not customise finished images yet, and this target asks for additions",
            )
            .hint("put files, packages and commands into the template"));
        }
        let (input, output) = (self.host.input_image()?, self.host.output_image()?);
        self.host.progress("copy", "Copying the base image", 0, 1)?;
        tool::run(
            &self.host,
            std::process::Command::new("cp")
                .args(["--sparse=always", "--reflink=auto", "--"])
                .args([&input, &output]),
        )?;
        self.host.set_result_text("format", "raw")
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
        let plan = Plan::of(&self.host, stage)?;
        let digest = mirrors::release_digest(&self.host, &plan)?;
        self.host.set_result_text("input_digest", &digest)
    }
}

impl VerifyImage for DebianOs {
    fn verify_image(&self, stage: &Stage<'_>) -> Result<()> {
        boot_test::verify(&self.host, stage)
    }
}

imagefactory_plugin_sdk::export_os_plugin!(DebianOs);
