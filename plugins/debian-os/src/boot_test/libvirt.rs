//! A machine of libvirt's: a copy of the image in a storage pool, gone when the test is over.
//!
//! A copy, because libvirt may run as another user or on another machine than the stage, and takes
//! the owner of files for itself. Its volume is in the journal: a stage that is killed leaves it to
//! `cleanup`. The domain itself cannot outlive the conversation with libvirt.

use std::path::Path;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Resource, Result, Stage};
use imagefactory_toolkit_disk::DiskFormat;
use imagefactory_toolkit_libvirt::{Libvirt, Machine as Domain, MachineOrder};
use serde::{Deserialize, Serialize};

use super::accelerator::Accelerator;
use super::{MEMORY_MIB, Machine, PROCESSORS, Screenshot, Trial};

/// In the journal.
pub(super) const KIND: &str = "libvirt-volume";

/// Where libvirt is asked without the setting `libvirt_uri`.
const URI: &str = "qemu:///system";
/// Where volumes are made without the setting `libvirt_pool`.
const POOL: &str = "default";

/// What cleanup needs.
#[derive(Serialize, Deserialize)]
struct Place {
    uri: String,
    pool: String,
    volume: String,
}

/// Running.
pub(super) struct LibvirtMachine {
    /// `None` once it is ended.
    domain: Option<Domain>,
    volume: Copy,
}

impl LibvirtMachine {
    /// Copies the image to libvirt, and starts it there.
    pub(super) fn start(
        host: &Host,
        stage: &Stage<'_>,
        trial: &Trial<'_>,
        accelerator: Accelerator,
        serial: &Path,
    ) -> Result<LibvirtMachine> {
        let setting = |name: &str, default: &str| {
            host.config::<String>(name).map(|value| value.unwrap_or_else(|| default.to_owned()))
        };
        let libvirt = Libvirt::at(host, &setting("libvirt_uri", URI)?)?;
        let name = format!("imagefactory-boot-{}-{}", stage.stage_id(), trial.firmware.name());
        let volume = Copy::make(host, libvirt, &setting("libvirt_pool", POOL)?, &name, trial)?;
        let order = MachineOrder {
            name,
            domain_type: accelerator.domain_type().to_owned(),
            firmware: trial.firmware.name().to_owned(),
            pool: volume.place.pool.clone(),
            volume: volume.place.volume.clone(),
            format: DiskFormat::qemu_name(trial.format).to_owned(),
            memory_mib: MEMORY_MIB,
            processors: PROCESSORS,
            serial: serial.to_owned(),
        };
        match volume.libvirt.boot(&order) {
            Ok(domain) => Ok(LibvirtMachine { domain: Some(domain), volume }),
            Err(error) => {
                // The first error is the one to tell; the journal remembers the volume.
                volume.remove().ok();
                Err(error.while_doing("starting the image with libvirt"))
            }
        }
    }
}

impl Machine for LibvirtMachine {
    fn via(&self) -> &'static str {
        "libvirt"
    }

    fn stopped(&mut self) -> Result<Option<String>> {
        let Some(domain) = &mut self.domain else { return Ok(Some("it was ended".to_owned())) };
        let state = domain.state()?;
        Ok((state != "running").then(|| format!("libvirt says that the guest is '{state}'")))
    }

    fn screenshot(&mut self, file: &Path) -> std::result::Result<Screenshot, String> {
        let domain = self.domain.as_mut().ok_or("the machine was ended")?;
        match domain.screenshot(file).map_err(|error| error.message().to_owned())?.as_str() {
            "image/png" => Ok(Screenshot::Png),
            _ => Ok(Screenshot::Ppm),
        }
    }

    fn end(mut self: Box<Self>) -> Result<()> {
        // First the machine: libvirt removes no volume that is in use.
        drop(self.domain.take());
        self.volume.remove()
    }
}

/// The volume with the copy.
struct Copy {
    host: Host,
    libvirt: Libvirt,
    place: Place,
    resource: Resource,
}

impl Copy {
    fn make(
        host: &Host,
        libvirt: Libvirt,
        pool: &str,
        name: &str,
        trial: &Trial<'_>,
    ) -> Result<Copy> {
        let uri = libvirt.uri().to_owned();
        let place = Place { uri, pool: pool.to_owned(), volume: name.to_owned() };
        let details = serde_json::to_string(&place)
            .map_err(|error| PluginError::new(ErrorCode::Internal, error.to_string()))?;
        let resource = Resource::scratch(name, KIND).with_id(name).with_details_json(details);
        host.will_create(&resource)?;
        let copy = Copy { host: host.clone(), libvirt, place, resource };
        let made = copy.libvirt.create(pool, name, trial.image, "Copying the image to libvirt");
        let made = made.and_then(|_| copy.host.created(&copy.resource));
        match made {
            Ok(()) => Ok(copy),
            Err(error) => {
                // The first error is the one to tell; the journal remembers the volume.
                copy.remove().ok();
                Err(error.while_doing("starting the image with libvirt"))
            }
        }
    }

    fn remove(&self) -> Result<()> {
        self.libvirt.delete(&self.place.pool, &self.place.volume)?;
        self.host.removed(&self.resource)
    }
}

/// Removes a volume that an earlier attempt left.
pub(super) fn clean_up(host: &Host, left: &Resource) -> Result<()> {
    let details = left.details_json.as_deref().unwrap_or("{}");
    let place: Place = serde_json::from_str(details).map_err(|error| {
        let message = format!("the journal's entry {}: {error}", left.token);
        PluginError::new(ErrorCode::InvalidArgument, message)
    })?;
    Libvirt::at(host, &place.uri)?.delete(&place.pool, &place.volume)?;
    host.removed(left)
}
