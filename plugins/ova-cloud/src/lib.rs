//! OVACloud: makes of a disk the one file that a hypervisor's user imports, for the targets `ova`
//! and `OVA`.
//!
//! Of a base image (after the OS plugin's work) or, as in the original Image Factory, of a finished
//! target image: then nothing but the packing is done. Which package, and what machine it
//! describes, is said by the original's parameters (`wishes.rs`). There is no provider: the target
//! image is the product.

#![cfg_attr(not(test), forbid(unsafe_code))] // the tests play the host, which is C

mod archive;
mod box_files;
mod conversion;
mod disk;
mod hyperv;
mod identity;
mod machine;
mod ovf;
mod packing;
mod progress;
mod rhevm;
mod wishes;
mod xml;

use imagefactory_plugin_sdk::author::{
    BuilderDidCreateTargetImage, BuilderShouldCreateTargetImage, CloudPlugin, Host, Plugin, Result,
    ShouldCreate, Stage,
};
use serde_json::json;

use disk::Disk;
use wishes::Wishes;

struct OvaCloud {
    host: Host,
}

impl Plugin for OvaCloud {
    const ID: &'static str = "OVACloud";
    const VERSION: &'static str = "2.0.0";

    fn create(host: Host) -> Result<OvaCloud> {
        Ok(OvaCloud { host })
    }
}

impl CloudPlugin for OvaCloud {}

impl BuilderShouldCreateTargetImage for OvaCloud {
    /// A target image is packed as it is; a base image goes the usual way first. What cannot be
    /// packed is said here, before the OS plugin works for an hour.
    fn builder_should_create_target_image(&self, stage: &Stage<'_>) -> Result<ShouldCreate> {
        self.host.check_cancelled()?;
        let wishes = Wishes::of(stage)?;
        if stage.image("target")?.is_none() {
            return Ok(ShouldCreate::Yes);
        }
        self.pack(stage, &wishes)?;
        Ok(ShouldCreate::AlreadyCreated)
    }
}

impl BuilderDidCreateTargetImage for OvaCloud {
    fn builder_did_create_target_image(&self, stage: &Stage<'_>) -> Result<()> {
        self.host.check_cancelled()?;
        self.pack(stage, &Wishes::of(stage)?)
    }
}

impl OvaCloud {
    fn pack(&self, stage: &Stage<'_>, wishes: &Wishes) -> Result<()> {
        let disk = Disk::open(&self.host)?;
        let packed = packing::pack(&self.host, stage, wishes, &disk)?;
        self.host.set_result("format", packed.extension)?;
        let properties = json!({
            "ova_package": wishes.package.name(),
            "ova_name": wishes.machine.name,
            "ova_files": packed.files,
            "ova_virtual_size": disk.virtual_bytes,
        });
        self.host.set_result("properties", &properties)?;
        self.host.set_result("effective_parameters", &wishes.used())
    }
}

imagefactory_plugin_sdk::export_cloud_plugin!(OvaCloud);

#[cfg(test)]
#[path = "../../../plugin-sdk/tests/fake_host/mod.rs"]
mod fake_host;
#[cfg(test)]
mod tests;
