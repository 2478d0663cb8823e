//! What is in the image: ICICLE for the factory's clients, SPDX and CycloneDX for everybody else.

use std::path::Path;
use std::process::Command;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result, Stage};
use imagefactory_plugin_sdk::payload::icicle::{Icicle, IciclePackage};
use serde_json::{Value, json};

use crate::plan::Plan;
use crate::tool;
use crate::tree::{Network, Tree};

/// One installed package.
pub(crate) struct Installed {
    name: String,
    version: String,
    arch: String,
    source: String,
}

/// The packages of the tree, by name.
pub(crate) fn installed(host: &Host, root: &Path) -> Result<Vec<Installed>> {
    let format =
        "${db:Status-Abbrev}\t${Package}\t${Version}\t${Architecture}\t${source:Package}\n";
    let mut query = Command::new("dpkg-query");
    query
        .arg(format!("--admindir={}", root.join("var/lib/dpkg").display()))
        .args(["-W", "-f", format]);
    let text = tool::quiet_output(host, &mut query)?;
    // dpkg-query sorts by name; what an extra command prints comes in the same order.
    Ok(text.lines().filter_map(read_line).collect())
}

fn read_line(line: &str) -> Option<Installed> {
    let mut fields = line.split('\t').map(str::to_owned);
    fields.next().filter(|status| status.starts_with("ii"))?;
    Some(Installed {
        name: fields.next()?,
        version: fields.next()?,
        arch: fields.next()?,
        source: fields.next()?,
    })
}

/// Sets the ICICLE, unless the parameter `generate_icicle` is false, and hands the bills of
/// materials over.
pub(crate) fn hand_over(
    host: &Host,
    stage: &Stage<'_>,
    plan: &Plan,
    root: &Path,
    packages: &[Installed],
) -> Result<()> {
    if stage.bool_parameter("generate_icicle")? != Some(false) {
        let extras = extras(host, plan, root, packages)?;
        let icicle = Icicle {
            description: plan.template.description.clone(),
            packages: packages
                .iter()
                .enumerate()
                .map(|(index, package)| IciclePackage {
                    name: format!("{}-{}.{}", package.name, package.version, package.arch),
                    extra: extras.get(index).cloned(),
                })
                .collect(),
        };
        let xml = icicle
            .to_xml()
            .map_err(|error| PluginError::new(ErrorCode::Internal, error.to_string()))?;
        host.set_result_text("icicle", &xml)?;
    }
    artifact(host, "sbom.spdx.json", "application/spdx+json", &spdx(plan, packages))?;
    artifact(host, "sbom.cdx.json", "application/vnd.cyclonedx+json", &cyclonedx(plan, packages))
}

/// What the template's `extra_command` prints: one line for each package, in the order of
/// `dpkg-query -W`; none without such a command.
fn extras(host: &Host, plan: &Plan, root: &Path, packages: &[Installed]) -> Result<Vec<String>> {
    let Some(command) = &plan.template.os.icicle_extra_command else { return Ok(Vec::new()) };
    let tree = Tree::new(host, root);
    let mut run = tree.command(Network::Nothing, "/bin/sh");
    let text = tool::quiet_output(host, run.args(["-c", command]))
        .map_err(|error| error.while_doing("running the icicle's extra command").by_user())?;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.len() == packages.len() {
        return Ok(lines);
    }
    let message = format!(
        "the icicle's extra command printed {} lines for {} packages; it must print one for each \
         that 'dpkg-query -W' lists, in that order",
        lines.len(),
        packages.len()
    );
    Err(PluginError::user_fault(message))
}

fn artifact(host: &Host, name: &str, media_type: &str, document: &Value) -> Result<()> {
    let path = host.work_dir()?.join(name);
    let text = serde_json::to_vec_pretty(document)
        .map_err(|error| PluginError::new(ErrorCode::Internal, error.to_string()))?;
    std::fs::write(&path, text)?;
    host.add_artifact(name, media_type, &path)
}

/// Package URL (purl-spec, type deb).
fn purl(plan: &Plan, package: &Installed) -> String {
    let vendor = plan.suite.os.to_lowercase();
    let version = package.version.replace('+', "%2B").replace(':', "%3A");
    format!(
        "pkg:deb/{vendor}/{}@{version}?arch={}&distro={}-{}",
        package.name, package.arch, vendor, plan.suite.version
    )
}

/// SPDX 2.3, https://spdx.github.io/spdx-spec/v2.3/.
fn spdx(plan: &Plan, packages: &[Installed]) -> Value {
    let id = |package: &Installed| {
        let safe = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
        format!("SPDXRef-{}-{}", safe(&package.name), safe(&package.arch))
    };
    let entries: Vec<Value> = packages
        .iter()
        .map(|package| {
            json!({
                "SPDXID": id(package), "name": package.name, "versionInfo": package.version,
                "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
                "licenseConcluded": "NOASSERTION", "licenseDeclared": "NOASSERTION",
                "copyrightText": "NOASSERTION", "sourceInfo": format!("built from {}", package.source),
                "externalRefs": [{ "referenceCategory": "PACKAGE-MANAGER",
                    "referenceType": "purl", "referenceLocator": purl(plan, package) }],
            })
        })
        .collect();
    let describes: Vec<Value> = packages
        .iter()
        .map(|package| {
            json!({ "spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",
                    "relatedSpdxElement": id(package) })
        })
        .collect();
    json!({
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",
        "name": plan.template.name,
        "documentNamespace": format!("urn:uuid:{}", plan.seed.uuid("spdx")),
        "creationInfo": { "created": "2024-01-01T00:00:00Z", "creators": ["Tool: DebianOS-2.0.0"] },
        "packages": entries, "relationships": describes,
    })
}

/// CycloneDX 1.5, https://cyclonedx.org/docs/1.5/json/.
fn cyclonedx(plan: &Plan, packages: &[Installed]) -> Value {
    let components: Vec<Value> = packages
        .iter()
        .map(|package| {
            let purl = purl(plan, package);
            json!({ "type": "library", "bom-ref": purl, "name": package.name,
                    "version": package.version, "purl": purl })
        })
        .collect();
    json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "serialNumber": format!("urn:uuid:{}", plan.seed.uuid("cyclonedx")),
        "metadata": { "timestamp": "2024-01-01T00:00:00Z",
            "component": { "type": "operating-system", "name": plan.template.name,
                           "version": plan.suite.version } },
        "components": components,
    })
}
