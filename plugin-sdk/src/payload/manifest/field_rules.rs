//! The forms that single texts of a manifest must have: ids, names of tools, paths, digests.
//!
//! Each rule is a pure test and the words for it. `parse.rs` applies them; the JSON schema beside
//! the manifests says the same as patterns.

use super::object_reader::Rule;

pub(super) const PLUGIN_ID: Rule = Rule {
    holds: is_plugin_id,
    wanted: "letters, digits, '.', '_' and '-', at most 64, beginning with a letter or digit",
};

pub(super) const LIBRARY_PATH: Rule = Rule {
    holds: is_library_path,
    wanted: "a file name or a path without '..', '.' and empty parts, such as \"EC2Cloud.so\"",
};

pub(super) const SHA256: Rule = Rule {
    holds: |text| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
    wanted: "64 lower-case hexadecimal digits",
};

pub(super) const ARCH: Rule = Rule {
    holds: |text| {
        (1..=32).contains(&text.len())
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    },
    wanted: "a machine name as `uname -m` prints it, such as \"x86_64\"",
};

pub(super) const VERSION_TEXT: Rule = Rule {
    holds: |text| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()),
    wanted: "1 to 64 printable ASCII characters without blanks, such as \"1.4.0\"",
};

pub(super) const VERSION_REQUIREMENT: Rule = Rule {
    holds: |text| {
        (1..=64).contains(&text.trim().len())
            && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
    },
    wanted: "a version requirement, such as \"^1.0\" or \">=2.0, <3\"",
};

pub(super) const CAPABILITY: Rule = Rule {
    holds: |text| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    },
    wanted: "the name of an operation, such as \"push_image_to_provider\"",
};

pub(super) const TOOL: Rule = Rule {
    holds: |text| {
        (1..=64).contains(&text.len())
            && text.bytes().next().map_or(false, |b| b.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
    },
    wanted: "the name of a program in PATH, such as \"qemu-img\"",
};

pub(super) const DEVICE: Rule = Rule {
    holds: |text| text.starts_with("/dev/") && is_plain_absolute(text),
    wanted: "a path below /dev, such as \"/dev/kvm\"",
};

pub(super) const LINUX_CAPABILITY: Rule = Rule {
    holds: |text| {
        text.len() <= 32
            && text.strip_prefix("CAP_").map_or(false, |name| {
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
            })
    },
    wanted: "a Linux capability, such as \"CAP_SYS_ADMIN\"",
};

pub(super) const READ_ONLY_PATH: Rule = Rule {
    holds: is_plain_absolute,
    wanted: "an absolute path without '..', such as \"/etc/pki\"",
};

pub(super) const WEB_ADDRESS: Rule = Rule {
    holds: |text| {
        ["https://", "http://"].iter().any(|scheme| {
            text.strip_prefix(scheme)
                .map_or(false, |rest| !rest.is_empty() && !rest.contains(char::is_whitespace))
        })
    },
    wanted: "an http or https address",
};

pub(super) fn is_plugin_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().next().map_or(false, |b| b.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Relative or absolute, but without parts that could lead elsewhere.
fn is_library_path(text: &str) -> bool {
    let relative = text.strip_prefix('/').unwrap_or(text);
    text.len() <= 1024 && has_plain_parts(relative)
}

fn is_plain_absolute(text: &str) -> bool {
    text.len() <= 1024
        && text.strip_prefix('/').map_or(false, |rest| rest.is_empty() || has_plain_parts(rest))
}

fn has_plain_parts(path: &str) -> bool {
    !path.contains(char::is_control)
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rule: Rule, accepted: &[&str], refused: &[&str]) {
        for text in accepted {
            assert!((rule.holds)(text), "refused: {:?}", text);
        }
        for text in refused {
            assert!(!(rule.holds)(text), "accepted: {:?}", text);
        }
    }

    #[test]
    fn library_paths_cannot_lead_elsewhere() {
        check(
            LIBRARY_PATH,
            &["a.so", "ec2/a.so", "/opt/x/a.so", "..so"],
            &["", "/", "../a.so", "x/../a.so", "./a.so", "x//a.so", "a.so/", "/opt/../a.so"],
        );
    }

    #[test]
    fn ids_are_safe_as_file_names_and_in_addresses() {
        check(
            PLUGIN_ID,
            &["EC2Cloud", "a", "9lives", "x.y_z-1"],
            &["", ".hidden", "-x", "a/b", "a b", "ä", "a\0b", "..", &"x".repeat(65)],
        );
    }

    #[test]
    fn devices_stay_below_dev() {
        check(DEVICE, &["/dev/kvm", "/dev/vfio/vfio"], &["/dev/", "/dev/../etc/shadow", "kvm"]);
    }

    #[test]
    fn the_other_rules_tell_the_right_from_the_wrong() {
        check(SHA256, &[&"0af1".repeat(16)], &["", &"0AF1".repeat(16), &"0".repeat(63)]);
        check(ARCH, &["x86_64", "ppc64le"], &["", "X86", "a b"]);
        check(TOOL, &["qemu-img", "mkfs.ext4", "g++"], &["", "/bin/sh", "a b", "-x", "$(x)"]);
        check(LINUX_CAPABILITY, &["CAP_SYS_ADMIN"], &["CAP_", "SYS_ADMIN", "cap_sys_admin"]);
        check(READ_ONLY_PATH, &["/", "/etc/pki"], &["etc", "/etc/../root", "/etc/"]);
        check(WEB_ADDRESS, &["https://imgfac.org"], &["imgfac.org", "https://", "file:///x"]);
        check(VERSION_TEXT, &["1.0", "1.4.0-rc.1"], &["", "1 0", &"1".repeat(65)]);
        check(VERSION_REQUIREMENT, &["^1.0", ">=1, <3"], &["", " ", "1\n"]);
        check(CAPABILITY, &["cleanup"], &["", "Cleanup", "a-b"]);
    }
}
