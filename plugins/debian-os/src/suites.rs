//! Versions of Debian and Ubuntu, their code names and what differs between them.

use imagefactory_plugin_sdk::author::{PluginError, Result};

/// One release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Suite {
    /// As in the template's `os/name`.
    pub(crate) os: &'static str,
    /// As in the template's `os/version`.
    pub(crate) version: &'static str,
    /// As in the archive.
    pub(crate) codename: &'static str,
    /// The kernel's package for virtual machines.
    pub(crate) kernel: &'static str,
    /// Components that are enabled.
    pub(crate) components: &'static [&'static str],
    /// The package of systemd-resolved, where it is one of its own.
    pub(crate) resolver: Option<&'static str>,
    /// The archive's keys, below `/usr/share/keyrings`.
    pub(crate) keyring: &'static str,
}

const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const UBUNTU_KEYRING: &str = "/usr/share/keyrings/ubuntu-archive-keyring.gpg";

/// The package, where it is not part of systemd's own.
const RESOLVED: Option<&str> = Some("systemd-resolved");

const fn debian(
    version: &'static str,
    codename: &'static str,
    resolver: Option<&'static str>,
) -> Suite {
    Suite {
        os: "Debian",
        version,
        codename,
        kernel: "linux-image-cloud-amd64",
        components: &["main"],
        resolver,
        keyring: DEBIAN_KEYRING,
    }
}

const fn ubuntu(
    version: &'static str,
    codename: &'static str,
    resolver: Option<&'static str>,
) -> Suite {
    Suite {
        os: "Ubuntu",
        version,
        codename,
        kernel: "linux-image-virtual",
        components: &["main", "universe"],
        resolver,
        keyring: UBUNTU_KEYRING,
    }
}

const SUITES: [Suite; 6] = [
    debian("11", "bullseye", None),
    debian("12", "bookworm", RESOLVED),
    debian("13", "trixie", RESOLVED),
    ubuntu("20.04", "focal", None),
    ubuntu("22.04", "jammy", None),
    ubuntu("24.04", "noble", RESOLVED),
];

/// The release of this version, by number (point releases too) or code name.
pub(crate) fn suite(os: &str, version: &str) -> Result<Suite> {
    let names = |suite: &&Suite| {
        suite.os == os
            && (suite.version == version
                || suite.codename == version
                || (os == "Debian" && version.split('.').next() == Some(suite.version)))
    };
    SUITES.iter().find(names).copied().ok_or_else(|| {
        let known: Vec<&str> =
            SUITES.iter().filter(|suite| suite.os == os).map(|suite| suite.version).collect();
        let message = format!("{os} {version} is not known; there are {os} {}", known.join(", "));
        PluginError::user_fault(message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_by_number_point_release_and_code_name() {
        for version in ["12", "12.5", "bookworm"] {
            assert_eq!(suite("Debian", version).unwrap().codename, "bookworm");
        }
        assert_eq!(suite("Ubuntu", "22.04").unwrap().codename, "jammy");
        let unknown = suite("Debian", "99").unwrap_err();
        assert!(unknown.message().contains("11, 12, 13"), "{}", unknown.message());
    }
}
