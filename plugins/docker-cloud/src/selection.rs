//! What of a machine's root file system belongs into a container.
//!
//! A container has its host's kernel, no boot loader, no firmware, and no identity of its own;
//! pseudo file systems, sockets and device nodes are the runtime's. What is left out beyond those
//! is chosen by `docker_leave_out` and `docker_exclude`.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use imagefactory_toolkit_disk::ext4::{Entry, EntryKind};

/// Groups of files that can be left out, as `docker_leave_out` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// Kernels, their initial file systems and modules.
    Kernel,
    /// GRUB's files and the EFI partition's folder.
    BootLoader,
    /// Firmware for devices.
    Firmware,
    /// What makes a machine this one: its ids, keys, file system table, network names.
    Machine,
}

impl Group {
    /// All of them, which is the default.
    pub(crate) const ALL: [Group; 4] =
        [Group::Kernel, Group::BootLoader, Group::Firmware, Group::Machine];

    /// As the parameter has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Group::Kernel => "kernel",
            Group::BootLoader => "boot-loader",
            Group::Firmware => "firmware",
            Group::Machine => "machine",
        }
    }

    /// Paths that it consists of. A `*` at the end stands for the rest of a name, so `a/*` is all
    /// that is in `a`, without `a` itself.
    fn patterns(self) -> &'static [&'static str] {
        match self {
            Group::Kernel => &[
                "vmlinuz*",
                "initrd.img*",
                "boot/vmlinuz*",
                "boot/initrd*",
                "boot/initramfs*",
                "boot/System.map*",
                "boot/config-*",
                "lib/modules/*",
                "usr/lib/modules/*",
            ],
            Group::BootLoader => &["boot/grub*", "boot/efi*", "boot/loader*", "efi/*"],
            Group::Firmware => &["lib/firmware/*", "usr/lib/firmware/*"],
            Group::Machine => &[
                "etc/fstab",
                "etc/hostname",
                "etc/ssh/ssh_host_*",
                "etc/udev/rules.d/70-persistent-net.rules",
                "var/lib/dbus/machine-id",
                "var/lib/systemd/random-seed",
            ],
        }
    }
}

/// Filled by the runtime, whatever lies there.
const RUNTIME: [&str; 7] =
    ["proc/*", "sys/*", "dev/*", "run/*", "tmp/*", "var/tmp/*", "lost+found"];

/// systemd takes an empty one for "not yet known"; without one it cannot write it everywhere.
const MACHINE_ID: &str = "etc/machine-id";

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes into the container.
    Kept,
    /// Its name does, its content does not.
    Emptied,
    /// It does not.
    LeftOut,
}

/// What is to be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Whole groups.
    pub(crate) groups: Vec<Group>,
    /// Further paths, absolute.
    pub(crate) further: Vec<String>,
}

impl Selection {
    /// Decides one entry. Whatever lies in a folder that is left out is left out as well.
    pub(crate) fn fate(&self, entry: &Entry) -> Fate {
        match entry.kind {
            EntryKind::Socket | EntryKind::CharacterDevice(..) | EntryKind::BlockDevice(..) => {
                return Fate::LeftOut;
            }
            _ => {}
        }
        let of_groups = self.groups.iter().flat_map(|group| group.patterns());
        let further = self.further.iter().map(|path| path.trim_start_matches('/'));
        let mut patterns = RUNTIME.iter().chain(of_groups).copied().chain(further);
        if patterns.any(|pattern| covers(pattern, &entry.path)) {
            return Fate::LeftOut;
        }
        let is_machine_id = entry.path.as_os_str() == MACHINE_ID;
        match is_machine_id && self.groups.contains(&Group::Machine) {
            true => Fate::Emptied,
            false => Fate::Kept,
        }
    }
}

/// Does the pattern mean this path, or a folder above it?
fn covers(pattern: &str, path: &Path) -> bool {
    let (pattern, path) = (pattern.as_bytes(), path.as_os_str().as_bytes());
    match pattern.strip_suffix(b"*") {
        // `a/*` means what is in the folder: its own name, `a`, has no slash.
        Some(start) => path.starts_with(start),
        None => {
            let pattern = pattern.strip_suffix(b"/").unwrap_or(pattern);
            path.strip_prefix(pattern).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_covers(pattern: &str, paths: &[(&str, bool)]) {
        for (path, expected) in paths {
            assert_eq!(covers(pattern, Path::new(path)), *expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_pattern_means_a_path_and_all_below_it() {
        check_covers("etc/fstab", &[("etc/fstab", true), ("etc/fstab.d", false), ("etc", false)]);
        check_covers("usr/share/doc", &[("usr/share/doc/a/b", true), ("usr/share/docs", false)]);
        check_covers("usr/share/doc/", &[("usr/share/doc", true)]);
        check_covers("proc/*", &[("proc", false), ("proc/1", true), ("procs", false)]);
        check_covers("boot/grub*", &[("boot/grub", true), ("boot/grub/x", true), ("boot", false)]);
        check_covers("vmlinuz*", &[("vmlinuz", true), ("vmlinuz.old", true), ("vml", false)]);
    }
}
