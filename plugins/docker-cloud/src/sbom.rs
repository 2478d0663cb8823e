//! The list of a container's packages, as CycloneDX, out of dpkg's own records.
//!
//! What the base image's list says would be too much: the container has less. Where there is no
//! dpkg there is no list; none is better than a wrong one.

use std::io::Read;

use imagefactory_plugin_sdk::author::Result;
use serde_json::{Value, json};

use crate::documents::{Document, SBOM};
use crate::root_file_system::{RootFileSystem, unreadable};

/// Where dpkg keeps account.
const STATUS: &str = "var/lib/dpkg/status";

/// A full desktop's is below 10 MB.
const STATUS_BYTES_MAX: u64 = 64 << 20;

/// The list; `None`: there is no dpkg. `name`: repository and tag.
pub(crate) fn of(
    root: &RootFileSystem<'_>,
    name: (&str, &str),
    distribution: &str,
) -> Result<Option<Document>> {
    let Some(entry) = root.entries.iter().find(|entry| entry.path.as_os_str() == STATUS) else {
        return Ok(None);
    };
    let content = root.ext4.content(entry).map_err(|error| unreadable(&error.to_string()))?;
    let mut status = Vec::new();
    content.take(STATUS_BYTES_MAX).read_to_end(&mut status)?;
    let components = components(&String::from_utf8_lossy(&status), distribution);
    let content = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": { "type": "container", "name": name.0, "version": name.1 },
        },
        "components": components,
    });
    Document::new(SBOM, &content).map(Some)
}

/// Installed packages, by name.
fn components(status: &str, distribution: &str) -> Vec<Value> {
    let mut packages: Vec<(String, Value)> =
        status.split("\n\n").filter_map(|record| component(record, distribution)).collect();
    packages.sort_by(|one, other| one.0.cmp(&other.0));
    packages.into_iter().map(|(_, component)| component).collect()
}

fn component(record: &str, distribution: &str) -> Option<(String, Value)> {
    let field = |name: &str| {
        record.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    };
    let installed = field("Status").is_some_and(|status| status.ends_with(" installed"));
    let (name, version, architecture) =
        (field("Package")?, field("Version")?, field("Architecture")?);
    if !installed {
        return None;
    }
    let encoded = |text: &str| text.replace('%', "%25").replace('+', "%2B").replace(':', "%3A");
    let purl = format!(
        "pkg:deb/{distribution}/{}@{}?arch={architecture}",
        encoded(name),
        encoded(version)
    );
    let component = json!({
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
    });
    Some((format!("{name}:{architecture}"), component))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_packages_are_listed_by_name_and_others_are_not() {
        let status = "Package: libstdc++6\nStatus: install ok installed\nArchitecture: amd64\n\
            Version: 1:12.2\nDescription: x\n Package: no\n\nPackage: bash\nStatus: install ok \
            installed\nArchitecture: amd64\nVersion: 5.2\n\nPackage: gone\nStatus: deinstall ok \
            config-files\nArchitecture: amd64\nVersion: 1\n";
        let found = components(status, "debian");
        let purls: Vec<&str> = found.iter().filter_map(|one| one["purl"].as_str()).collect();
        let expected = [
            "pkg:deb/debian/bash@5.2?arch=amd64",
            "pkg:deb/debian/libstdc%2B%2B6@1%3A12.2?arch=amd64",
        ];
        assert_eq!(purls, expected);
    }
}
