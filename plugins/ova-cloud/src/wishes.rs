//! Which package is made, and of what: the original's parameters with the original's defaults.
//!
//! `vsphere_ova_format`, `rhevm_ova_format` and `hyperv_ova_format` choose among the packages of a
//! family. The family is the parent's target where that is one of the three; otherwise it is that
//! of the one parameter which is given, or vsphere. Numbers may be texts, as they were.

use imagefactory_plugin_sdk::author::{PluginError, Result, Stage};
use serde_json::{Value, json};

use crate::machine::{Guest, Machine};

/// The parameter of each family, its first package being the default.
const FAMILIES: [(&str, &str, &[Package]); 3] = [
    (
        "vsphere",
        "vsphere_ova_format",
        &[Package::Vsphere, Package::VagrantVirtualbox, Package::VagrantVmware],
    ),
    ("rhevm", "rhevm_ova_format", &[Package::Rhevm, Package::VagrantLibvirt]),
    ("hyperv", "hyperv_ova_format", &[Package::VagrantHyperv, Package::Hyperv]),
];

/// Machines beyond this are typing errors, and no hypervisor's.
const CPU_COUNT_MAX: u64 = 4096;
const MEMORY_MB_MAX: u64 = 64 << 20;

/// The one file that is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Package {
    /// OVA with OVF 1.0 and streamOptimized VMDK.
    Vsphere,
    /// Box with OVF and streamOptimized VMDK.
    VagrantVirtualbox,
    /// Box with VMX and sparse VMDK.
    VagrantVmware,
    /// RHV's export: tar.gz with OVF 0.9 and the disk as it is.
    Rhevm,
    /// Box with qcow2.
    VagrantLibvirt,
    /// Hyper-V's export: tar.gz with XML and VHDX.
    Hyperv,
    /// The same as a box.
    VagrantHyperv,
}

impl Package {
    /// As the parameters call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Package::Vsphere => "vsphere",
            Package::VagrantVirtualbox => "vagrant-virtualbox",
            Package::VagrantVmware => "vagrant-vmware-fusion",
            Package::Rhevm => "rhevm",
            Package::VagrantLibvirt => "vagrant-libvirt",
            Package::Hyperv => "hyperv",
            Package::VagrantHyperv => "hyperv-vagrant",
        }
    }

    fn of_family(name: &str, packages: &[Package]) -> Option<Package> {
        // Boxes for Workstation are the same, and all boxes may be called alike.
        let name = match name {
            "vagrant-vmware" => "vagrant-vmware-fusion",
            "vagrant-hyperv" => "hyperv-vagrant",
            "libvirt-vagrant" => "vagrant-libvirt",
            name => name,
        };
        packages.iter().copied().find(|package| package.name() == name)
    }

    /// Processors and megabytes, if nobody says how many.
    fn default_machine(self) -> (u64, u64) {
        match self {
            Package::Vsphere => (2, 4096),
            Package::VagrantVmware => (1, 1024),
            _ => (1, 512),
        }
    }
}

/// Which checksums stand in an OVA's manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manifest {
    Sha256,
    /// For readers older than OVF 2.
    Sha1,
    None,
}

/// One package, all defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) package: Package,
    pub(crate) machine: Machine,
    pub(crate) manifest: Manifest,
    pub(crate) product_name: String,
    pub(crate) product_vendor: String,
    pub(crate) product_version: String,
    /// Versions of the virtual hardware, separated by blanks.
    pub(crate) system_type: String,
    pub(crate) scsi_controller: String,
    pub(crate) network_controller: String,
    /// What the machine's network is called; vCenter asks the user for one of his.
    pub(crate) network_name: String,
    pub(crate) nested_virt: bool,
    pub(crate) cdrom: bool,
    pub(crate) rhevm_description: String,
    pub(crate) rhevm_display_type: u64,
    pub(crate) rhevm_os_descriptor: String,
    pub(crate) sync_directory: String,
}

impl Wishes {
    /// Reads them; what cannot be is refused with what can.
    pub(crate) fn of(stage: &Stage<'_>) -> Result<Wishes> {
        let package = package(stage)?;
        let template = match stage.template_json() {
            Some(_) => Some(stage.template()?),
            None => None,
        };
        let (cpu_count, memory_mb) = package.default_machine();
        let name = match stage.text_parameter("ovf_name")? {
            Some(name) => name,
            None => template.as_ref().map_or(stage.image_id(), |it| it.name.as_str()).to_owned(),
        };
        if name.trim().is_empty() || name.chars().any(char::is_control) {
            return Err(PluginError::user_fault(format!("ovf_name is {name:?}"))
                .hint("give the machine a name in one line"));
        }
        let machine = Machine {
            name,
            cpu_count: count(stage, "ovf_cpu_count", cpu_count, CPU_COUNT_MAX)?,
            memory_mb: count(stage, "ovf_memory_mb", memory_mb, MEMORY_MB_MAX)?,
            guest: Guest::of(template.as_ref()),
        };
        let text = |key: &str, default: &str| -> Result<String> {
            Ok(stage.text_parameter(key)?.unwrap_or_else(|| default.to_owned()))
        };
        let prefix = if package == Package::VagrantVmware { "fusion" } else { "vsphere" };
        let manifest = match text("ova_manifest", "sha256")?.as_str() {
            "sha256" => Manifest::Sha256,
            "sha1" => Manifest::Sha1,
            "none" => Manifest::None,
            other => return Err(unknown("ova_manifest", other, "sha256, sha1, none")),
        };
        let display = count_or_zero(stage, "rhevm_default_display_type", 0, 1)?;
        let mut wishes = Wishes {
            package,
            manifest,
            product_name: text("vsphere_product_name", "Product Name")?,
            product_vendor: text("vsphere_product_vendor_name", "Vendor Name")?,
            product_version: text("vsphere_product_version", "1.0")?,
            system_type: text("vsphere_virtual_system_type", "vmx-07 vmx-08")?,
            scsi_controller: text(&format!("{prefix}_scsi_controller_type"), "lsilogic")?,
            network_controller: text(&format!("{prefix}_network_controller_type"), "E1000")?,
            network_name: text("vsphere_network_name", "VM Network")?,
            nested_virt: truth(stage, &format!("{prefix}_nested_virt"))?,
            cdrom: truth(stage, "vsphere_cdrom")?,
            rhevm_description: text("rhevm_description", "Created by Image Factory")?,
            rhevm_display_type: display,
            rhevm_os_descriptor: text("rhevm_os_descriptor", "OtherLinux")?,
            sync_directory: text("vagrant_sync_directory", "/vagrant")?,
            machine,
        };
        if let Some(guest) = stage.text_parameter("vsphere_os_type")? {
            wishes.machine.guest.vsphere = guest;
        }
        wishes.check_lines()?;
        Ok(wishes)
    }

    /// These become lines of files where a second line would be another statement.
    fn check_lines(&self) -> Result<()> {
        let lines = [
            ("vagrant_sync_directory", &self.sync_directory),
            ("fusion_scsi_controller_type", &self.scsi_controller),
            ("fusion_network_controller_type", &self.network_controller),
        ];
        for (key, line) in lines {
            let odd = |letter: char| letter.is_control() || "\"'#\\".contains(letter);
            if line.is_empty() || line.contains(odd) {
                let message = format!("{key} is {line:?}");
                return Err(PluginError::user_fault(message).hint("leave out quotes, # and \\"));
            }
        }
        Ok(())
    }

    /// For the record.
    pub(crate) fn used(&self) -> Value {
        json!({
            "ovf_name": self.machine.name,
            "ovf_cpu_count": self.machine.cpu_count,
            "ovf_memory_mb": self.machine.memory_mb,
            "vsphere_os_type": self.machine.guest.vsphere,
        })
    }
}

fn package(stage: &Stage<'_>) -> Result<Package> {
    let parent = stage.image("target")?.and_then(|image| image.member("target"));
    let parent = parent.and_then(|target| target.as_text());
    let of_parent = FAMILIES.iter().find(|(family, ..)| parent.as_deref() == Some(family));
    let mut given = Vec::new();
    for family in &FAMILIES {
        if let Some(name) = stage.text_parameter(family.1)? {
            given.push((family, name));
        }
    }
    let (family, name) = match (of_parent, given.as_slice()) {
        (Some(family), _) => {
            // The other families' parameters are not asked: one set serves several orders.
            (family, given.iter().find(|(it, _)| it.0 == family.0).map(|(_, name)| name))
        }
        (None, []) => return Ok(Package::Vsphere),
        (None, [(family, name)]) => (*family, Some(name)),
        (None, _) => {
            let message = "more than one package is asked for";
            return Err(PluginError::user_fault(message)
                .hint("give one of vsphere_ova_format, rhevm_ova_format, hyperv_ova_format"));
        }
    };
    let (_, key, packages) = family;
    match name {
        None => Ok(packages[0]),
        Some(name) => Package::of_family(name, packages).ok_or_else(|| {
            let names: Vec<&str> = packages.iter().map(|package| package.name()).collect();
            unknown(key, name, &names.join(", "))
        }),
    }
}

fn count(stage: &Stage<'_>, key: &str, default: u64, most: u64) -> Result<u64> {
    match count_or_zero(stage, key, default, most)? {
        0 => Err(unknown(key, "0", &format!("1 to {most}"))),
        number => Ok(number),
    }
}

/// A number, also as text.
fn count_or_zero(stage: &Stage<'_>, key: &str, default: u64, most: u64) -> Result<u64> {
    let Some(given) = stage.parameter(key)? else { return Ok(default) };
    let as_text = given.as_text();
    let number = match &as_text {
        Some(text) => text.trim().parse().ok(),
        None => given.as_u64(),
    };
    let number = number.filter(|number| *number <= most);
    number.ok_or_else(|| {
        let given = as_text.unwrap_or_else(|| given.raw().to_owned());
        unknown(key, &given, &format!("a whole number up to {most}"))
    })
}

/// A truth, also as text.
fn truth(stage: &Stage<'_>, key: &str) -> Result<bool> {
    let Some(given) = stage.parameter(key)? else { return Ok(false) };
    let as_text = given.as_text().map(|text| text.to_ascii_lowercase());
    match (given.as_bool(), as_text.as_deref()) {
        (Some(truth), _) => Ok(truth),
        (None, Some("true" | "yes" | "1")) => Ok(true),
        (None, Some("false" | "no" | "0" | "")) => Ok(false),
        _ => Err(unknown(key, given.raw(), "true, false")),
    }
}

fn unknown(what: &str, given: &str, possible: &str) -> PluginError {
    PluginError::user_fault(format!("{what} is {given:?}; it can be {possible}"))
}
