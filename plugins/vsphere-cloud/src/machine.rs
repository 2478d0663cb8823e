//! The virtual machine that an image becomes: what the order asks for, and its OVF descriptor, of
//! which vCenter makes an import specification (DMTF DSP0243, with VMware's `osType`).

use imagefactory_plugin_sdk::author::{PluginError, Result, Stage};

use crate::element::Xml;

const OVF: &str = "http://schemas.dmtf.org/ovf/envelope/1";
const RASD: &str =
    "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData";
const VSSD: &str = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData";
const VMW: &str = "http://www.vmware.com/schema/ovf";
const STREAM_OPTIMIZED: &str =
    "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized";

/// The logical network of the descriptor, which the import maps to a real one.
pub(crate) const OVF_NETWORK: &str = "VM Network";
/// The disk's file in the descriptor.
pub(crate) const DISK_FILE: &str = "disk.vmdk";
/// In front of the image's id: what the original called its machines.
const NAME_PREFIX: &str = "factory-image-";
/// vSphere's own limit.
const NAME_CHARS_MAX: usize = 80;

/// Types of items, from CIM's ResourceType.
mod resource {
    pub(super) const PROCESSOR: u32 = 3;
    pub(super) const MEMORY: u32 = 4;
    pub(super) const SCSI_CONTROLLER: u32 = 6;
    pub(super) const NETWORK_CARD: u32 = 10;
    pub(super) const DISK: u32 = 17;
}

/// What is asked for, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Machine {
    /// Its name in the end.
    pub(crate) ovf_name: String,
    /// Virtual processors.
    pub(crate) ovf_cpu_count: u64,
    /// Memory in MiB.
    pub(crate) ovf_memory_mb: u64,
    /// Virtual hardware: `vmx-13` is vSphere 6.5's, the oldest that is still looked after.
    pub(crate) vsphere_virtual_system_type: String,
    /// Guest, as VMware names it.
    pub(crate) vsphere_os_type: String,
    /// Controller of the disk.
    pub(crate) vsphere_scsi_controller_type: String,
    /// Network card.
    pub(crate) vsphere_network_card_type: String,
    /// `bios` or `efi`.
    pub(crate) vsphere_firmware: String,
    /// A template instead of a machine.
    pub(crate) vsphere_template: bool,
}

impl Machine {
    /// What the parameters say.
    pub(crate) fn of(stage: &Stage<'_>) -> Result<Machine> {
        let text = |name: &str, or: &str| -> Result<String> {
            Ok(stage.text_parameter(name)?.unwrap_or_else(|| or.to_owned()))
        };
        let machine = Machine {
            ovf_name: text("ovf_name", &working_name(stage.image_id()))?,
            ovf_cpu_count: count(stage, "ovf_cpu_count", 1)?,
            ovf_memory_mb: count(stage, "ovf_memory_mb", 1024)?,
            vsphere_virtual_system_type: text("vsphere_virtual_system_type", "vmx-13")?,
            vsphere_os_type: text("vsphere_os_type", "otherLinux64Guest")?,
            vsphere_scsi_controller_type: text("vsphere_scsi_controller_type", "lsilogic")?,
            vsphere_network_card_type: text("vsphere_network_card_type", "VmxNet3")?,
            vsphere_firmware: text("vsphere_firmware", "bios")?,
            vsphere_template: stage.bool_parameter("vsphere_template")?.unwrap_or(false),
        };
        let name = &machine.ovf_name;
        if name.is_empty()
            || name.chars().count() > NAME_CHARS_MAX
            || name.contains(char::is_control)
        {
            let message =
                format!("ovf_name is {name:?}; vSphere takes 1 to {NAME_CHARS_MAX} letters");
            return Err(PluginError::user_fault(message));
        }
        Ok(machine)
    }

    /// The descriptor for a disk of so many bytes in a file of so many.
    pub(crate) fn descriptor(&self, disk_bytes: u64, file_bytes: u64) -> Xml {
        Xml::new("Envelope")
            .with("xmlns", OVF)
            .with("xmlns:ovf", OVF)
            .with("xmlns:rasd", RASD)
            .with("xmlns:vssd", VSSD)
            .with("xmlns:vmw", VMW)
            .child(
                Xml::new("References").child(
                    Xml::new("File")
                        .with("ovf:href", DISK_FILE)
                        .with("ovf:id", "file1")
                        .with("ovf:size", file_bytes),
                ),
            )
            .child(
                section("DiskSection", "Disks").child(
                    Xml::new("Disk")
                        .with("ovf:capacity", disk_bytes)
                        .with("ovf:capacityAllocationUnits", "byte")
                        .with("ovf:diskId", "disk1")
                        .with("ovf:fileRef", "file1")
                        .with("ovf:format", STREAM_OPTIMIZED),
                ),
            )
            .child(
                section("NetworkSection", "Networks")
                    .child(Xml::new("Network").with("ovf:name", OVF_NETWORK)),
            )
            .child(
                Xml::new("VirtualSystem")
                    .with("ovf:id", &self.ovf_name)
                    .leaf("Info", "A virtual machine made by Image Factory")
                    .leaf("Name", &self.ovf_name)
                    .child(
                        // 1 = other, by CIM; VMware goes by osType.
                        section("OperatingSystemSection", "The guest")
                            .with("ovf:id", 1)
                            .with("vmw:osType", &self.vsphere_os_type),
                    )
                    .child(self.hardware()),
            )
    }

    fn hardware(&self) -> Xml {
        let system = Xml::new("System")
            .leaf("vssd:ElementName", "Virtual Hardware Family")
            .leaf("vssd:InstanceID", 0)
            .leaf("vssd:VirtualSystemIdentifier", &self.ovf_name)
            .leaf("vssd:VirtualSystemType", &self.vsphere_virtual_system_type);
        let (cpus, memory) = (self.ovf_cpu_count, self.ovf_memory_mb);
        // Members in alphabetical order, as the schema's sequence wants them.
        let items = [
            Xml::new("Item")
                .leaf("rasd:AllocationUnits", "hertz * 10^6")
                .leaf("rasd:ElementName", format!("{cpus} virtual CPU(s)"))
                .leaf("rasd:InstanceID", 1)
                .leaf("rasd:ResourceType", resource::PROCESSOR)
                .leaf("rasd:VirtualQuantity", cpus),
            Xml::new("Item")
                .leaf("rasd:AllocationUnits", "byte * 2^20")
                .leaf("rasd:ElementName", format!("{memory} MiB of memory"))
                .leaf("rasd:InstanceID", 2)
                .leaf("rasd:ResourceType", resource::MEMORY)
                .leaf("rasd:VirtualQuantity", memory),
            Xml::new("Item")
                .leaf("rasd:Address", 0)
                .leaf("rasd:ElementName", "SCSI controller 0")
                .leaf("rasd:InstanceID", 3)
                .leaf("rasd:ResourceSubType", &self.vsphere_scsi_controller_type)
                .leaf("rasd:ResourceType", resource::SCSI_CONTROLLER),
            Xml::new("Item")
                .leaf("rasd:AddressOnParent", 0)
                .leaf("rasd:ElementName", "Hard disk 1")
                .leaf("rasd:HostResource", "ovf:/disk/disk1")
                .leaf("rasd:InstanceID", 4)
                .leaf("rasd:Parent", 3)
                .leaf("rasd:ResourceType", resource::DISK),
            Xml::new("Item")
                .leaf("rasd:AddressOnParent", 7)
                .leaf("rasd:AutomaticAllocation", true)
                .leaf("rasd:Connection", OVF_NETWORK)
                .leaf("rasd:ElementName", "Network adapter 1")
                .leaf("rasd:InstanceID", 5)
                .leaf("rasd:ResourceSubType", &self.vsphere_network_card_type)
                .leaf("rasd:ResourceType", resource::NETWORK_CARD),
        ];
        let firmware = Xml::new("vmw:Config")
            .with("ovf:required", false)
            .with("vmw:key", "firmware")
            .with("vmw:value", &self.vsphere_firmware);
        section("VirtualHardwareSection", "Hardware").child(system).children(items).child(firmware)
    }
}

/// What a machine is called until it is whole; by it an earlier attempt's is found again.
pub(crate) fn working_name(image_id: &str) -> String {
    format!("{NAME_PREFIX}{image_id}")
}

fn section(name: &str, information: &str) -> Xml {
    Xml::new(name).leaf("Info", information)
}

/// A number from 1 on; the original's clients send them as texts, too.
fn count(stage: &Stage<'_>, name: &str, or: u64) -> Result<u64> {
    let Some(value) = stage.parameter(name)? else { return Ok(or) };
    let number = value.as_u64().or_else(|| value.as_text()?.trim().parse().ok());
    number.filter(|number| *number > 0).ok_or_else(|| {
        PluginError::user_fault(format!(
            "parameter {name} is {}, not a number from 1 on",
            value.raw()
        ))
    })
}
