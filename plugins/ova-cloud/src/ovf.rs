//! OVF 1.0 for VMware and VirtualBox: one disk, one network card, and the machine around them
//! (DMTF DSP0243). Both read the same document; they differ in the controllers they expect and in
//! their own words for the operating system.

use imagefactory_plugin_sdk::author::Result;
use xmltree::Element;

use crate::wishes::{Package, Wishes};
use crate::xml::{add, document, element, text, texts};

const OVF: &str = "http://schemas.dmtf.org/ovf/envelope/1";
const CIM: &str = "http://schemas.dmtf.org/wbem/wscim/1";
const STREAM_OPTIMIZED: &str =
    "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized";
/// Kinds of devices, as CIM numbers them.
const PROCESSOR: &str = "3";
const MEMORY: &str = "4";
const IDE_CONTROLLER: &str = "5";
const SCSI_CONTROLLER: &str = "6";
const NETWORK_CARD: &str = "10";
const CDROM: &str = "15";
const DISK: &str = "17";

/// The disk that the document tells of.
pub(crate) struct DiskFile<'d> {
    pub(crate) name: &'d str,
    pub(crate) file_bytes: u64,
    /// As a guest sees it.
    pub(crate) virtual_bytes: u64,
}

/// The whole document.
pub(crate) fn descriptor(wishes: &Wishes, disk: &DiskFile<'_>) -> Result<Vec<u8>> {
    let mut envelope = element(
        "Envelope",
        &[
            ("xmlns", OVF),
            ("xmlns:cim", &format!("{CIM}/common")),
            ("xmlns:ovf", OVF),
            ("xmlns:rasd", &format!("{CIM}/cim-schema/2/CIM_ResourceAllocationSettingData")),
            ("xmlns:vbox", "http://www.virtualbox.org/ovf/machine"),
            ("xmlns:vmw", "http://www.vmware.com/schema/ovf"),
            ("xmlns:vssd", &format!("{CIM}/cim-schema/2/CIM_VirtualSystemSettingData")),
            ("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"),
        ],
    );
    let mut references = Element::new("References");
    let file_bytes = disk.file_bytes.to_string();
    let file = [("ovf:href", disk.name), ("ovf:id", "file1"), ("ovf:size", &file_bytes)];
    add(&mut references, element("File", &file));
    add(&mut envelope, references);
    let mut disks = section("DiskSection", "Virtual disk information");
    add(
        &mut disks,
        element(
            "Disk",
            &[
                ("ovf:capacity", &disk.virtual_bytes.to_string()),
                ("ovf:capacityAllocationUnits", "byte"),
                ("ovf:diskId", "vmdisk1"),
                ("ovf:fileRef", "file1"),
                ("ovf:format", STREAM_OPTIMIZED),
            ],
        ),
    );
    add(&mut envelope, disks);
    let mut networks = section("NetworkSection", "The list of logical networks");
    let mut network = element("Network", &[("ovf:name", network_name(wishes))]);
    let description = format!("The {} network", network_name(wishes));
    add(&mut network, text("Description", &description));
    add(&mut networks, network);
    add(&mut envelope, networks);
    add(&mut envelope, virtual_system(wishes));
    document(&envelope)
}

fn virtual_system(wishes: &Wishes) -> Element {
    let (machine, guest) = (&wishes.machine, &wishes.machine.guest);
    let mut system = section("VirtualSystem", "A virtual machine");
    system.attributes.insert("ovf:id".to_owned(), machine.file_name());
    add(&mut system, text("Name", &machine.name));
    let mut os = section("OperatingSystemSection", "The kind of installed guest operating system");
    os.attributes.insert("ovf:id".to_owned(), guest.cim_id.to_string());
    if is_virtualbox(wishes) {
        add(&mut os, text("Description", guest.virtualbox));
        let mut kind = text("vbox:OSType", guest.virtualbox);
        kind.attributes.insert("ovf:required".to_owned(), "false".to_owned());
        add(&mut os, kind);
    } else {
        os.attributes.insert("vmw:osType".to_owned(), guest.vsphere.clone());
    }
    add(&mut system, os);
    add(&mut system, hardware(wishes));
    let mut product = section("ProductSection", "Information about the installed software");
    texts(
        &mut product,
        &[
            ("Product", &wishes.product_name),
            ("Vendor", &wishes.product_vendor),
            ("Version", &wishes.product_version),
        ],
    );
    add(&mut system, product);
    system
}

fn hardware(wishes: &Wishes) -> Element {
    let machine = &wishes.machine;
    let mut hardware = section("VirtualHardwareSection", "Virtual hardware requirements");
    let mut system = Element::new("System");
    let family = if is_virtualbox(wishes) { "virtualbox-2.2" } else { &wishes.system_type };
    texts(
        &mut system,
        &[
            ("vssd:ElementName", "Virtual Hardware Family"),
            ("vssd:InstanceID", "0"),
            ("vssd:VirtualSystemIdentifier", &machine.file_name()),
            ("vssd:VirtualSystemType", family),
        ],
    );
    add(&mut hardware, system);
    let count = machine.cpu_count.to_string();
    add(
        &mut hardware,
        item(
            "1",
            PROCESSOR,
            &[
                ("AllocationUnits", "hertz * 10^6"),
                ("Description", "Number of Virtual CPUs"),
                ("ElementName", &format!("{count} virtual CPU(s)")),
                ("VirtualQuantity", &count),
            ],
        ),
    );
    let memory = machine.memory_mb.to_string();
    add(
        &mut hardware,
        item(
            "2",
            MEMORY,
            &[
                ("AllocationUnits", "byte * 2^20"),
                ("Description", "Memory Size"),
                ("ElementName", &format!("{memory} MB of memory")),
                ("VirtualQuantity", &memory),
            ],
        ),
    );
    add(&mut hardware, disk_controller(wishes));
    add(
        &mut hardware,
        item(
            "4",
            DISK,
            &[
                ("AddressOnParent", "0"),
                ("ElementName", "Hard disk 0"),
                ("HostResource", "ovf:/disk/vmdisk1"),
                ("Parent", "3"),
            ],
        ),
    );
    let network = network_name(wishes);
    let card = if is_virtualbox(wishes) { "E1000" } else { &wishes.network_controller };
    add(
        &mut hardware,
        item(
            "5",
            NETWORK_CARD,
            &[
                ("AddressOnParent", "7"),
                ("AutomaticAllocation", "true"),
                ("Connection", network),
                ("Description", &format!("{card} ethernet adapter on \"{network}\"")),
                ("ElementName", "Network adapter 1"),
                ("ResourceSubType", card),
            ],
        ),
    );
    if wishes.cdrom && !is_virtualbox(wishes) {
        add(
            &mut hardware,
            item(
                "6",
                IDE_CONTROLLER,
                &[
                    ("Address", "0"),
                    ("Description", "IDE Controller"),
                    ("ElementName", "IDE Controller 0"),
                ],
            ),
        );
        let mut drive = item(
            "7",
            CDROM,
            &[
                ("AddressOnParent", "0"),
                ("AutomaticAllocation", "false"),
                ("ElementName", "CD/DVD drive 1"),
                ("Parent", "6"),
                ("ResourceSubType", "vmware.cdrom.remotepassthrough"),
            ],
        );
        drive.attributes.insert("ovf:required".to_owned(), "false".to_owned());
        add(&mut hardware, drive);
    }
    if wishes.nested_virt && !is_virtualbox(wishes) {
        add(
            &mut hardware,
            element(
                "vmw:Config",
                &[("ovf:required", "false"), ("vmw:key", "nestedHVEnabled"), ("vmw:value", "true")],
            ),
        );
    }
    hardware
}

/// VirtualBox's boxes have always been on IDE.
fn disk_controller(wishes: &Wishes) -> Element {
    if is_virtualbox(wishes) {
        return item(
            "3",
            IDE_CONTROLLER,
            &[
                ("Address", "0"),
                ("Description", "IDE Controller"),
                ("ElementName", "ideController0"),
                ("ResourceSubType", "PIIX4"),
            ],
        );
    }
    item(
        "3",
        SCSI_CONTROLLER,
        &[
            ("Address", "0"),
            ("Description", "SCSI Controller"),
            ("ElementName", "SCSI Controller 0"),
            ("ResourceSubType", &wishes.scsi_controller),
        ],
    )
}

fn is_virtualbox(wishes: &Wishes) -> bool {
    wishes.package == Package::VagrantVirtualbox
}

fn network_name(wishes: &Wishes) -> &str {
    if is_virtualbox(wishes) { "NAT" } else { &wishes.network_name }
}

fn section(name: &str, info: &str) -> Element {
    let mut section = Element::new(name);
    add(&mut section, text("Info", info));
    section
}

/// A device. CIM's schema wants its members in the order of their names.
fn item(instance: &str, kind: &str, members: &[(&str, &str)]) -> Element {
    let mut all = members.to_vec();
    all.extend([("InstanceID", instance), ("ResourceType", kind)]);
    all.sort_unstable();
    let mut item = Element::new("Item");
    for (name, content) in all {
        add(&mut item, text(&format!("rasd:{name}"), content));
    }
    item
}
