//! The small files of Vagrant boxes: `metadata.json`, `Vagrantfile`, and VMware's machine.
//!
//! Texts come out of `wishes.rs`, which lets nothing through that would end a quoted text here.

use serde_json::json;

use crate::wishes::{Package, Wishes};

/// What `vagrant box add` asks first. `virtual_bytes` of the disk.
pub(crate) fn metadata(package: Package, virtual_bytes: u64) -> String {
    let metadata = match package {
        Package::VagrantLibvirt => json!({
            "provider": "libvirt",
            "format": "qcow2",
            "virtual_size": virtual_bytes.div_ceil(1 << 30),
        }),
        Package::VagrantVmware => json!({"provider": "vmware_fusion"}),
        Package::VagrantHyperv => json!({"provider": "hyperv"}),
        _ => json!({"provider": "virtualbox"}),
    };
    format!("{metadata}\n")
}

/// Defaults of machines made of the box. `mac` without colons, for VirtualBox.
pub(crate) fn vagrantfile(wishes: &Wishes, mac: &str) -> String {
    let more = match wishes.package {
        Package::VagrantVirtualbox => format!("  config.vm.base_mac = \"{mac}\"\n"),
        Package::VagrantLibvirt => "  config.vm.provider :libvirt do |libvirt|\n    \
             libvirt.driver = 'kvm'\n  end\n"
            .to_owned(),
        _ => String::new(),
    };
    let folder = &wishes.sync_directory;
    format!(
        "Vagrant.configure('2') do |config|\n{more}  \
         config.vm.synced_folder '.', '{folder}', type: 'rsync'\nend\n"
    )
}

/// VMware's description of the machine, whose disk lies beside it.
pub(crate) fn vmx(wishes: &Wishes, disk: &str) -> String {
    let machine = &wishes.machine;
    // A quote is written as a number.
    let name = machine.name.replace('|', "|7C").replace('"', "|22");
    let guest = machine.guest.vsphere.trim_end_matches("Guest").replace('_', "-");
    let (cpus, memory) = (machine.cpu_count.to_string(), machine.memory_mb.to_string());
    let mut lines = vec![
        (".encoding", "UTF-8"),
        ("displayName", &name),
        ("guestOS", &guest),
        ("config.version", "8"),
        ("virtualHW.version", "10"),
        ("numvcpus", &cpus),
        ("cpuid.coresPerSocket", "1"),
        ("memsize", &memory),
        ("pciBridge0.present", "TRUE"),
        ("pciBridge4.present", "TRUE"),
        ("pciBridge4.virtualDev", "pcieRootPort"),
        ("pciBridge4.functions", "8"),
        ("vmci0.present", "TRUE"),
        ("scsi0.present", "TRUE"),
        ("scsi0.virtualDev", &wishes.scsi_controller),
        ("scsi0:0.present", "TRUE"),
        ("scsi0:0.deviceType", "disk"),
        ("scsi0:0.fileName", disk),
        ("scsi0:0.mode", "persistent"),
        ("ethernet0.present", "TRUE"),
        ("ethernet0.virtualDev", &wishes.network_controller),
        ("ethernet0.connectionType", "nat"),
        ("ethernet0.startConnected", "TRUE"),
        ("ethernet0.addressType", "generated"),
        ("floppy0.present", "FALSE"),
        ("cleanShutdown", "TRUE"),
        ("softPowerOff", "FALSE"),
        ("tools.syncTime", "FALSE"),
    ];
    if wishes.nested_virt {
        lines.push(("vhv.enable", "TRUE"));
    }
    lines.iter().map(|(key, value)| format!("{key} = \"{value}\"\n")).collect()
}
