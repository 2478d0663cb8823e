//! How the image is started: a libvirt domain for `virsh define`, and a command for QEMU alone.

use std::path::Path;

use imagefactory_plugin_sdk::author::{ErrorCode, PluginError, Result};
use imagefactory_toolkit_disk::DiskFormat;
use xmltree::{Element, EmitterConfig, XMLNode};

use crate::wishes::{Compression, Virtualisation, Wishes};

/// Enough for a server system to boot and be logged into; whoever needs more edits the domain.
const MEMORY_MIB: u32 = 2048;
/// Two, so that nothing waits for a busy first one.
const PROCESSORS: u32 = 2;

/// What is started.
pub(crate) struct Machine<'m> {
    /// What was asked for.
    pub(crate) wishes: &'m Wishes,
    /// The image's final path.
    pub(crate) image: &'m Path,
    /// `x86_64`, …
    pub(crate) architecture: &'m str,
}

impl Machine<'_> {
    /// The domain's XML.
    pub(crate) fn domain_xml(&self) -> Result<Vec<u8>> {
        let mut domain = element("domain", &[("type", self.wishes.domain_type.name())]);
        add(&mut domain, text("name", &self.wishes.name));
        let mut memory = text("memory", &MEMORY_MIB.to_string());
        memory.attributes.insert("unit".to_owned(), "MiB".to_owned());
        add(&mut domain, memory);
        add(&mut domain, text("vcpu", &PROCESSORS.to_string()));
        add(&mut domain, self.os());
        let mut features = element("features", &[]);
        add(&mut features, element("acpi", &[]));
        add(&mut domain, features);
        let cpu = match self.wishes.domain_type {
            Virtualisation::Kvm => "host-passthrough",
            Virtualisation::Qemu => "maximum",
        };
        add(&mut domain, element("cpu", &[("mode", cpu)]));
        add(&mut domain, self.devices());
        let mut xml = Vec::new();
        let config = EmitterConfig::new().perform_indent(true).write_document_declaration(false);
        domain.write_with_config(&mut xml, config).map_err(|error| {
            PluginError::new(ErrorCode::Internal, format!("the domain's XML: {error}"))
        })?;
        xml.push(b'\n');
        Ok(xml)
    }

    fn os(&self) -> Element {
        let mut os = element("os", &[]);
        let machine = match self.architecture {
            "x86_64" => Some("q35"),
            "aarch64" => Some("virt"),
            _ => None,
        };
        if self.architecture == "aarch64" {
            os.attributes.insert("firmware".to_owned(), "efi".to_owned());
        }
        let mut kind = text("type", "hvm");
        // libvirt's names are those of `uname -m` but for this one.
        let arch = if self.architecture == "i386" { "i686" } else { self.architecture };
        kind.attributes.insert("arch".to_owned(), arch.to_owned());
        if let Some(machine) = machine {
            kind.attributes.insert("machine".to_owned(), machine.to_owned());
        }
        add(&mut os, kind);
        add(&mut os, element("boot", &[("dev", "hd")]));
        os
    }

    fn devices(&self) -> Element {
        let mut disk = element("disk", &[("type", "file"), ("device", "disk")]);
        let format = self.wishes.format.qemu_name();
        add(&mut disk, element("driver", &[("name", "qemu"), ("type", format)]));
        add(&mut disk, element("source", &[("file", &self.image.to_string_lossy())]));
        add(&mut disk, element("target", &[("dev", "vda"), ("bus", "virtio")]));
        if self.is_for_reading() {
            add(&mut disk, element("transient", &[]));
        }
        let mut interface = element("interface", &[("type", "network")]);
        add(&mut interface, element("source", &[("network", "default")]));
        add(&mut interface, element("model", &[("type", "virtio")]));
        let mut random = element("rng", &[("model", "virtio")]);
        let mut backend = text("backend", "/dev/urandom");
        backend.attributes.insert("model".to_owned(), "random".to_owned());
        add(&mut random, backend);
        let mut devices = element("devices", &[]);
        add(&mut devices, disk);
        add(&mut devices, interface);
        add(&mut devices, element("serial", &[("type", "pty")]));
        add(&mut devices, element("console", &[("type", "pty")]));
        add(&mut devices, random);
        devices
    }

    /// A command line for a shell; the console is the terminal.
    pub(crate) fn start_command(&self) -> String {
        // Commas separate the drive's options, a doubled one is a comma.
        let path = self.image.to_string_lossy().replace(',', ",,");
        let format = self.wishes.format.qemu_name();
        let snapshot = if self.is_for_reading() { ",snapshot=on" } else { "" };
        let drive = quoted(&format!("file={path},format={format},if=virtio{snapshot}"));
        let machine = match self.architecture {
            // Where Debian's qemu-efi-aarch64 puts it; QEMU finds no firmware by itself here.
            "aarch64" => " -machine virt -cpu max -bios /usr/share/qemu-efi-aarch64/QEMU_EFI.fd",
            _ => "",
        };
        let program = match self.architecture {
            "armv7l" => "arm",
            "ppc64le" => "ppc64",
            other => other,
        };
        let accelerators = match self.wishes.domain_type {
            Virtualisation::Kvm => "-accel kvm -accel tcg",
            Virtualisation::Qemu => "-accel tcg",
        };
        format!(
            "qemu-system-{program}{machine} {accelerators} -m {MEMORY_MIB} -smp {PROCESSORS} -drive \
             {drive} -nic user,model=virtio-net-pci -nographic"
        )
    }

    /// QEMU cannot write into streamOptimized: what a guest writes is kept until it is off.
    fn is_for_reading(&self) -> bool {
        (self.wishes.format, self.wishes.compression) == (DiskFormat::Vmdk, Compression::Zlib)
    }
}

/// As a POSIX shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._+-=,:".contains(&byte);
    match word.bytes().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

fn element(name: &str, attributes: &[(&str, &str)]) -> Element {
    let mut element = Element::new(name);
    for (name, value) in attributes {
        element.attributes.insert((*name).to_owned(), (*value).to_owned());
    }
    element
}

fn text(name: &str, content: &str) -> Element {
    let mut element = Element::new(name);
    element.children.push(XMLNode::Text(content.to_owned()));
    element
}

fn add(parent: &mut Element, child: Element) {
    parent.children.push(XMLNode::Element(child));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(format: DiskFormat, compression: Compression) -> Wishes {
        Wishes {
            directory: "/srv/images".into(),
            uri: String::new(),
            pool: String::new(),
            format,
            compression,
            name: "web".to_owned(),
            domain_type: Virtualisation::Kvm,
        }
    }

    fn machine<'m>(wishes: &'m Wishes, image: &'m str) -> Machine<'m> {
        Machine { wishes, image: Path::new(image), architecture: "x86_64" }
    }

    #[test]
    fn a_path_with_special_characters_comes_out_of_the_xml_as_it_went_in() {
        let wishes = wishes(DiskFormat::Vhd, Compression::None);
        let path = "/srv/a & b/<\"c'>,d/web.vhd";
        let xml = machine(&wishes, path).domain_xml().unwrap();
        let domain = Element::parse(&xml[..]).unwrap();
        let disk = domain.get_child("devices").and_then(|it| it.get_child("disk")).unwrap();
        let attribute =
            |name: &str, key: &str| disk.get_child(name).unwrap().attributes[key].clone();
        assert_eq!(attribute("source", "file"), path);
        assert_eq!(attribute("driver", "type"), "vpc", "libvirt's name of it");
        assert_eq!(domain.attributes["type"], "kvm");
        assert_eq!(domain.get_child("name").unwrap().get_text().unwrap(), "web");
    }

    #[test]
    fn the_start_command_is_safe_for_a_shell_and_for_qemus_options() {
        let wishes = wishes(DiskFormat::Raw, Compression::None);
        let command = machine(&wishes, "/srv/a b/it's,so.raw").start_command();
        let drive = r"-drive 'file=/srv/a b/it'\''s,,so.raw,format=raw,if=virtio' -nic";
        assert!(command.contains(drive), "{command}");
    }

    #[test]
    fn an_image_that_qemu_cannot_write_is_started_on_an_overlay() {
        let wishes = wishes(DiskFormat::Vmdk, Compression::Zlib);
        let machine = machine(&wishes, "/srv/web.vmdk");
        assert!(machine.start_command().contains("snapshot=on"));
        let xml = String::from_utf8(machine.domain_xml().unwrap()).unwrap();
        assert!(xml.contains("<transient />") || xml.contains("<transient/>"), "{xml}");
    }
}
