//! The other kind of provider: a storage pool of libvirt's, here or on another machine.
//!
//! The image is made as for a folder, in the stage's own one, and then uploaded as the volume
//! `NAME.EXT`; holes are not sent. A volume carries no word of whose it is, so the stage keeps a
//! checkpoint before it makes one: a volume of that name without the checkpoint is somebody else's
//! and is never touched. The domain that starts it is handed over as the artefact `domain.xml`.

use std::path::Path;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Resource, Result, Stage};
use imagefactory_toolkit_libvirt::{Libvirt, Volume};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::description::Description;
use crate::directory::ImageDirectory;
use crate::domain::Machine;
use crate::product::Product;
use crate::push;
use crate::wishes::{Wishes, is_plain};

/// In the journal.
pub(crate) const KIND: &str = "libvirt-volume";

/// Kept before a volume is made.
const CHECKPOINT: &str = "libvirt_volume";

/// A volume, as the journal and the image's identifier have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PoolVolume {
    /// `qemu:///system`
    pub(crate) uri: String,
    /// Of the pool.
    pub(crate) pool: String,
    /// Of the volume.
    pub(crate) volume: String,
}

impl PoolVolume {
    /// `URI#POOL/VOLUME`: a libvirt address has no fragment of its own.
    pub(crate) fn identifier(&self) -> String {
        format!("{}#{}/{}", self.uri, self.pool, self.volume)
    }

    /// From an image's identifier; `None` = it names no volume.
    pub(crate) fn parse(identifier: &str) -> Option<PoolVolume> {
        let (uri, place) = identifier.rsplit_once('#')?;
        let (pool, volume) = place.split_once('/')?;
        let plain = is_plain(pool) && is_plain(volume) && uri.contains("://");
        plain.then(|| PoolVolume {
            uri: uri.to_owned(),
            pool: pool.to_owned(),
            volume: volume.to_owned(),
        })
    }

    fn resource(&self, token: &str) -> Result<Resource> {
        let details = serde_json::to_string(self)
            .map_err(|error| PluginError::new(ErrorCode::Internal, error.to_string()))?;
        let resource = Resource::product(format!("{token}.volume"), KIND);
        Ok(resource.with_id(self.identifier()).with_details_json(details))
    }
}

/// Pushes the stage's image into the pool.
pub(crate) fn push(host: &Host, stage: &Stage<'_>, wishes: &Wishes) -> Result<()> {
    let place = PoolVolume {
        uri: wishes.uri.clone(),
        pool: wishes.pool.clone(),
        volume: format!("{}.{}", wishes.name, wishes.format),
    };
    let libvirt = Libvirt::at(host, &place.uri)?;
    claim(host, &libvirt, &place)?;
    let (made, product) = make_file(host, stage, wishes)?;
    let resource = place.resource(stage.stage_id())?;
    host.will_create(&resource)?;
    host.put_checkpoint(CHECKPOINT, &place)?;
    let file = product.directory.join(&product.file);
    let uploaded = libvirt
        .create(&place.pool, &place.volume, &file, "Uploading the image to the pool")
        .and_then(|volume| finish(host, wishes, (&place, &volume), &made));
    match uploaded {
        Ok(()) => host.created(&resource),
        // Between the look and the upload somebody took the name: it stays his.
        Err(error) if error.code() == ErrorCode::AlreadyExists => {
            host.removed(&resource)?;
            Err(taken(&place))
        }
        Err(error) => {
            let undone = libvirt.delete(&place.pool, &place.volume);
            if let Err(undone) = undone.and_then(|()| host.removed(&resource)) {
                host.warn(&format!("what was begun is not removed yet: {undone}"));
            }
            Err(error.while_doing(format!("pushing to the pool '{}'", place.pool)))
        }
    }
}

/// The name must be free, or ours from an earlier attempt: then it is made anew.
fn claim(host: &Host, libvirt: &Libvirt, place: &PoolVolume) -> Result<()> {
    if libvirt.look(&place.pool, &place.volume)?.is_none() {
        return Ok(());
    }
    match host.checkpoint::<PoolVolume>(CHECKPOINT)? {
        Some(ours) if ours == *place => libvirt.delete(&place.pool, &place.volume),
        _ => Err(taken(place)),
    }
}

fn taken(place: &PoolVolume) -> PluginError {
    let message = format!("the pool '{}' has a volume '{}' already", place.pool, place.volume);
    PluginError::new(ErrorCode::AlreadyExists, message)
        .by_user()
        .hint("give the image another name, or remove the volume")
}

/// The image in the format asked for, in the stage's folder.
fn make_file(host: &Host, stage: &Stage<'_>, wishes: &Wishes) -> Result<(Description, Product)> {
    let folder = host.work_dir()?.join("pool");
    // An earlier attempt's; the folder is the stage's own.
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => std::fs::create_dir_all(&folder)?,
    }
    let product = Product {
        directory: folder.clone(),
        file: format!("{}.{}", wishes.name, wishes.format),
        token: stage.stage_id().to_owned(),
    };
    product.check()?;
    let directory = ImageDirectory::open(&folder)?;
    product.claim(&directory, stage.image_id())?;
    Ok((push::make(host, stage, (wishes, &product), &directory)?, product))
}

fn finish(
    host: &Host,
    wishes: &Wishes,
    (place, volume): (&PoolVolume, &Volume),
    made: &Description,
) -> Result<()> {
    let image = made.image.as_ref().ok_or_else(|| {
        PluginError::new(ErrorCode::Internal, "the description of a whole image is not whole")
    })?;
    let path = Path::new(&volume.path);
    let machine = Machine { wishes, image: path, architecture: &image.architecture };
    let domain = host.work_dir()?.join("domain.xml");
    std::fs::write(&domain, machine.domain_xml()?)?;
    host.add_artifact("domain.xml", "application/xml", &domain)?;
    host.set_result_text("identifier_on_provider", &place.identifier())?;
    host.set_result_text("provider_account_identifier", &format!("{}#{}", place.uri, place.pool))?;
    let properties = json!({
        "local_format": image.format,
        "local_virtual_size": image.virtual_bytes,
        "local_file_size": image.file_bytes,
        "local_sha256": image.sha256,
        "local_volume_path": volume.path,
        "local_start_command": format!(
            "virsh -c {} create domain.xml", place.uri
        ),
    });
    host.set_result("properties", &properties)?;
    host.set_result("effective_parameters", &wishes.effective())
}

/// Removes the volume of a provider image.
pub(crate) fn delete(host: &Host, place: &PoolVolume) -> Result<()> {
    Libvirt::at(host, &place.uri)?.delete(&place.pool, &place.volume)
}

/// Removes what a push that ended early left in the pool.
pub(crate) fn clean_up(host: &Host, left: &Resource) -> Result<()> {
    let details = left.details_json.as_deref().unwrap_or("{}");
    let place: PoolVolume = serde_json::from_str(details).map_err(|error| {
        let message = format!("the journal's entry {}: {error}", left.token);
        PluginError::new(ErrorCode::InvalidArgument, message)
    })?;
    delete(host, &place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_leads_back_to_its_volume_and_a_path_to_none() {
        let place = PoolVolume {
            uri: "qemu+unix:///session?socket=/run/user/7/libvirt-sock".to_owned(),
            pool: "default".to_owned(),
            volume: "web.qcow2".to_owned(),
        };
        assert_eq!(PoolVolume::parse(&place.identifier()), Some(place));
        for other in ["/srv/images/web.qcow2", "/srv/#a/b", "qemu:///system#../x", "x"] {
            assert_eq!(PoolVolume::parse(other), None, "{other}");
        }
    }
}
