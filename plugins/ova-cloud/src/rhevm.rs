//! What oVirt and Red Hat Virtualization import from an export domain: OVF 0.9 with their own words
//! in it, and a text of keys beside the disk.
//!
//! Dates are the beginning of time: whoever imports sees when it was imported, and the same image
//! gives the same package.

use imagefactory_plugin_sdk::author::Result;
use imagefactory_toolkit_disk::DiskFormat;
use xmltree::Element;

use crate::disk::Disk;
use crate::identity::Identity;
use crate::wishes::Wishes;
use crate::xml::{add, document, element, text, texts};

const CIM: &str = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2";
/// No storage, pool, template or parent: the importer sets its own.
const NONE: &str = "00000000-0000-0000-0000-000000000000";
const DATE: &str = "1970/01/01 00:00:00";

/// The names that the files of the package have.
pub(crate) struct Names {
    image: String,
    volume: String,
    template: String,
}

impl Names {
    pub(crate) fn of(identity: &Identity) -> Names {
        Names {
            image: identity.uuid("rhevm image"),
            volume: identity.uuid("rhevm volume"),
            template: identity.uuid("rhevm template"),
        }
    }

    /// Of the disk, below `images/`.
    fn volume_path(&self) -> String {
        format!("{}/{}", self.image, self.volume)
    }

    pub(crate) fn disk(&self) -> String {
        format!("images/{}", self.volume_path())
    }

    pub(crate) fn meta(&self) -> String {
        format!("{}.meta", self.disk())
    }

    pub(crate) fn ovf(&self) -> String {
        format!("master/vms/{0}/{0}.ovf", self.template)
    }
}

/// The text beside the disk.
pub(crate) fn meta(names: &Names, disk: &Disk) -> String {
    let format = if disk.format == DiskFormat::Qcow2 { "COW" } else { "RAW" };
    format!(
        "DOMAIN={NONE}\nVOLTYPE=LEAF\nCTIME=0\nFORMAT={format}\nIMAGE={}\nDISKTYPE=1\n\
         PUUID={NONE}\nLEGALITY=LEGAL\nMTIME=0\nPOOL_UUID={NONE}\nSIZE={}\nTYPE=SPARSE\n\
         DESCRIPTION=Uploaded by Image Factory\nEOF\n",
        names.image,
        disk.virtual_bytes.div_ceil(512),
    )
}

/// The machine.
pub(crate) fn descriptor(wishes: &Wishes, names: &Names, disk: &Disk) -> Result<Vec<u8>> {
    let machine = &wishes.machine;
    let mut envelope = element(
        "ovf:Envelope",
        &[
            ("ovf:version", "0.9"),
            ("xmlns:ovf", "http://schemas.dmtf.org/ovf/envelope/1/"),
            ("xmlns:rasd", &format!("{CIM}/CIM_ResourceAllocationSettingData")),
            ("xmlns:vssd", &format!("{CIM}/CIM_VirtualSystemSettingData")),
            ("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"),
        ],
    );
    let mut references = Element::new("References");
    add(
        &mut references,
        element(
            "File",
            &[
                ("ovf:description", &machine.name),
                ("ovf:href", &names.volume_path()),
                ("ovf:id", &names.volume),
                ("ovf:size", &disk.file_bytes.to_string()),
            ],
        ),
    );
    add(&mut envelope, references);
    let mut networks = section("ovf:NetworkSection_Type");
    add(&mut networks, text("Info", "List of Networks"));
    add(&mut envelope, networks);
    let mut disks = section("ovf:DiskSection_Type");
    add(&mut disks, disk_element(names, disk));
    add(&mut envelope, disks);

    let mut content =
        element("Content", &[("ovf:id", "out"), ("xsi:type", "ovf:VirtualSystem_Type")]);
    texts(
        &mut content,
        &[
            ("Name", &machine.name),
            ("TemplateId", &names.template),
            ("Description", &wishes.rhevm_description),
            ("Domain", ""),
            ("CreationDate", DATE),
            ("TimeZone", ""),
            ("IsAutoSuspend", "false"),
            ("VmType", "1"),
            ("default_display_type", &wishes.rhevm_display_type.to_string()),
            // From the disk, then from CD.
            ("default_boot_sequence", "1"),
        ],
    );
    let mut os = section("ovf:OperatingSystemSection_Type");
    os.attributes.insert("ovf:id".to_owned(), names.template.clone());
    os.attributes.insert("ovf:required".to_owned(), "false".to_owned());
    texts(&mut os, &[("Info", "Guest OS"), ("Description", &wishes.rhevm_os_descriptor)]);
    add(&mut content, os);
    add(&mut content, hardware(wishes, names));
    add(&mut envelope, content);
    document(&envelope)
}

fn disk_element(names: &Names, disk: &Disk) -> Element {
    let gib = disk.virtual_bytes.div_ceil(1 << 30).to_string();
    let (kind, format) = match disk.format {
        DiskFormat::Qcow2 => ("Sparse", "COW"),
        _ => ("Preallocated", "RAW"),
    };
    element(
        "Disk",
        &[
            ("ovf:actual_size", &gib),
            ("ovf:boot", "true"),
            ("ovf:disk-interface", "VirtIO"),
            ("ovf:disk-type", "System"),
            ("ovf:diskId", &names.volume),
            ("ovf:fileRef", &names.volume_path()),
            ("ovf:format", "http://www.vmware.com/specifications/vmdk.html#sparse"),
            ("ovf:parentRef", ""),
            ("ovf:size", &gib),
            ("ovf:vm_snapshot_id", &names.image),
            ("ovf:volume-format", format),
            ("ovf:volume-type", kind),
            ("ovf:wipe-after-delete", "false"),
        ],
    )
}

fn hardware(wishes: &Wishes, names: &Names) -> Element {
    let cpus = wishes.machine.cpu_count.to_string();
    let memory = wishes.machine.memory_mb.to_string();
    let mut hardware = section("ovf:VirtualHardwareSection_Type");
    add(&mut hardware, text("Info", &format!("{cpus} CPU, {memory} Memory")));
    let mut system = Element::new("System");
    add(&mut system, text("vssd:VirtualSystemType", "RHEVM 4.6.0.163"));
    add(&mut hardware, system);
    add(
        &mut hardware,
        item(
            "1",
            "3",
            &format!("{cpus} virtual CPU"),
            &[
                ("Description", "Number of virtual CPU"),
                ("num_of_sockets", "1"),
                ("cpu_per_socket", &cpus),
            ],
        ),
    );
    add(
        &mut hardware,
        item(
            "2",
            "4",
            &format!("{memory} MB of memory"),
            &[
                ("Description", "Memory Size"),
                ("AllocationUnits", "MegaBytes"),
                ("VirtualQuantity", &memory),
            ],
        ),
    );
    add(
        &mut hardware,
        item(
            &names.volume,
            "17",
            "Drive 1",
            &[
                ("HostResource", &names.volume_path()),
                ("Parent", NONE),
                ("Template", NONE),
                ("ApplicationList", ""),
                ("StorageId", NONE),
                ("StoragePoolId", NONE),
                ("CreationDate", DATE),
                ("LastModified", DATE),
            ],
        ),
    );
    add(
        &mut hardware,
        item(
            "3",
            "10",
            "Ethernet 0 rhevm",
            &[
                // Paravirtual.
                ("ResourceSubType", "3"),
                ("Connection", "rhevm"),
                ("Name", "eth0"),
                ("speed", "1000"),
            ],
        ),
    );
    add(&mut hardware, item("5", "20", "Graphics", &[("VirtualQuantity", "1")]));
    hardware
}

fn section(kind: &str) -> Element {
    element("Section", &[("xsi:type", kind)])
}

fn item(instance: &str, kind: &str, caption: &str, members: &[(&str, &str)]) -> Element {
    let mut item = Element::new("Item");
    let all = [("Caption", caption), ("InstanceId", instance), ("ResourceType", kind)];
    for (name, content) in all.iter().chain(members) {
        add(&mut item, text(&format!("rasd:{name}"), content));
    }
    item
}
