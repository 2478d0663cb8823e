//! The domain of a boot test, as libvirt's XML.

use crate::conversation::MachineOrder;

/// The domain. Its network is QEMU's own and leads nowhere that the guest's host does not; a
/// graphics card is there to be photographed, and no screen is served.
pub fn domain_xml(machine: &MachineOrder) -> String {
    let firmware = match machine.firmware.as_str() {
        // Without secure boot: images are not signed.
        "uefi" => " firmware='efi'><firmware><feature enabled='no' name='secure-boot'/></firmware",
        _ => "",
    };
    let cpu = if machine.domain_type == "kvm" { "host-passthrough" } else { "maximum" };
    format!(
        "<domain type='{domain_type}'><name>{name}</name>\
         <memory unit='MiB'>{memory}</memory><vcpu>{processors}</vcpu>\
         <os{firmware}><type arch='x86_64' machine='q35'>hvm</type><boot dev='hd'/></os>\
         <features><acpi/><apic/></features><cpu mode='{cpu}'/><clock offset='utc'/>\
         <on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot>\
         <on_crash>preserve</on_crash><devices>\
         <disk type='volume' device='disk'><driver name='qemu' type='{format}' cache='unsafe'/>\
         <source pool='{pool}' volume='{volume}'/><target dev='vda' bus='virtio'/></disk>\
         <interface type='user'><model type='virtio'/></interface>\
         <serial type='pty'><target port='0'/></serial>\
         <console type='pty'><target type='serial' port='0'/></console>\
         <video><model type='vga'/></video>\
         <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>\
         <memballoon model='none'/></devices></domain>",
        domain_type = escaped(&machine.domain_type),
        name = escaped(&machine.name),
        memory = machine.memory_mib,
        processors = machine.processors,
        format = escaped(&machine.format),
        pool = escaped(&machine.pool),
        volume = escaped(&machine.volume),
    )
}

/// Text within XML, also within an attribute's quotes.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&apos;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_cannot_leave_their_place_in_the_xml() {
        let machine = MachineOrder {
            name: "a".to_owned(),
            domain_type: "qemu".to_owned(),
            firmware: "uefi".to_owned(),
            pool: "p'/><evil>&".to_owned(),
            volume: "v".to_owned(),
            format: "raw".to_owned(),
            memory_mib: 1,
            processors: 1,
            serial: "/s".into(),
        };
        let xml = domain_xml(&machine);
        assert!(xml.contains("pool='p&apos;/&gt;&lt;evil&gt;&amp;' volume"), "{xml}");
        assert!(xml.contains("<os firmware='efi'><firmware><feature"), "{xml}");
    }
}
