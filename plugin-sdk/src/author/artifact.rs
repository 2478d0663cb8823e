//! Files beside the image: SBOM, serial log, screenshot (`imagefactory.host.artifact/1`).

use std::path::Path;

use super::error::{PluginError, Result};
use super::host::Host;
use super::interface::missing;
use super::ErrorCode;
use crate::abi::{imgf_host_artifact_v1, imgf_str, IMGF_HOST_ARTIFACT_V1};

impl Host {
    /// Hands over a file below [`Host::work_dir`]; the host keeps it, also when the stage fails.
    pub fn add_artifact(&self, name: &str, media_type: &str, file: &Path) -> Result<()> {
        let add = self.interface::<imgf_host_artifact_v1>()?.add;
        let add = add.ok_or_else(|| missing(IMGF_HOST_ARTIFACT_V1))?;
        let path = file.to_str().ok_or_else(|| {
            let message = format!("the artifact's path {} is not UTF-8", file.display());
            PluginError::new(ErrorCode::InvalidArgument, message)
        })?;
        let (name, media_type) = (imgf_str::new(name), imgf_str::new(media_type));
        let path = imgf_str::new(path);
        // SAFETY: the slot's contract; the texts outlive the call.
        self.table.call("artifact.add", |host| unsafe { add(host.ctx, name, media_type, path) })
    }
}
