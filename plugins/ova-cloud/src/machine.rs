//! The machine that a package describes, and what operating system it is told to expect.

use imagefactory_plugin_sdk::payload::template::Template;

/// What all descriptors need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    /// As people see it.
    pub(crate) name: String,
    pub(crate) cpu_count: u64,
    pub(crate) memory_mb: u64,
    pub(crate) guest: Guest,
}

impl Machine {
    /// The name for files: nothing that a shell, a URL or a manifest would take for something else.
    pub(crate) fn file_name(&self) -> String {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        let name: String =
            self.name.chars().map(|letter| if plain(letter) { letter } else { '_' }).collect();
        // A tar has room for 100 bytes, with `-disk1.vmdk` behind it.
        let name: String = name.trim_start_matches(['.', '-']).chars().take(80).collect();
        if name.is_empty() { "image".to_owned() } else { name }
    }
}

/// The operating system, in the words of those who ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Guest {
    /// CIM's number of it, in OVF's `OperatingSystemSection`.
    pub(crate) cim_id: u32,
    /// vSphere's.
    pub(crate) vsphere: String,
    /// VirtualBox's.
    pub(crate) virtualbox: &'static str,
}

impl Guest {
    /// Of the template; without one, some 64-bit Linux.
    pub(crate) fn of(template: Option<&Template>) -> Guest {
        let Some(template) = template else { return Guest::other(true) };
        let wide = !matches!(template.os.arch.name(), "i386" | "i686" | "armv7l");
        let name = template.os.name.to_ascii_lowercase();
        let major: u32 = template.os.version.split('.').next().map_or(0, |major| {
            major.trim_start_matches(|letter: char| !letter.is_ascii_digit()).parse().unwrap_or(0)
        });
        let bits = if wide { "_64" } else { "" };
        let guest = |cim: [u32; 2], vsphere: String, virtualbox: [&'static str; 2]| Guest {
            cim_id: cim[usize::from(wide)],
            vsphere: format!("{vsphere}{bits}Guest"),
            virtualbox: virtualbox[usize::from(wide)],
        };
        match name.as_str() {
            // vSphere 8 knows 12 as its newest; a newer one is refused, an older one is not.
            "debian" => {
                guest([95, 96], format!("debian{}", major.clamp(6, 12)), ["Debian", "Debian_64"])
            }
            "ubuntu" => guest([93, 94], "ubuntu".to_owned(), ["Ubuntu", "Ubuntu_64"]),
            "rhel" => {
                guest([79, 80], format!("rhel{}", major.clamp(5, 9)), ["RedHat", "RedHat_64"])
            }
            "centos" | "scientificlinux" => {
                guest([106, 107], "centos".to_owned(), ["RedHat", "RedHat_64"])
            }
            "fedora" => guest([79, 80], "fedora".to_owned(), ["Fedora", "Fedora_64"]),
            _ => Guest::other(wide),
        }
    }

    fn other(wide: bool) -> Guest {
        Guest {
            cim_id: if wide { 101 } else { 36 },
            vsphere: if wide { "otherLinux64Guest" } else { "otherLinuxGuest" }.to_owned(),
            virtualbox: if wide { "Linux_64" } else { "Linux" },
        }
    }
}
