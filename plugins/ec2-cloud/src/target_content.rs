//! What an image needs to be at home on EC2, for the OS plugin to add.
//!
//! cloud-init takes the user's key and data from the metadata service; the initramfs has to bring
//! the drivers of both generations of instances: nvme and ena of the current one, xen of the old.
//! The original's `ec2_modify: false` and `skip_ec2_modifications: true` leave the image alone.

use imagefactory_plugin_sdk::author::{Result, Stage};
use imagefactory_plugin_sdk::payload::target_content::{TargetCommand, TargetContent};
use imagefactory_plugin_sdk::payload::template::{ContentType, Package, TemplateFile};
use serde_json::{Map, Value};

/// Asking other metadata services delays each start by seconds.
const DATASOURCE: &str = "# Written by Image Factory for EC2.\n\
    datasource_list: [ Ec2, None ]\n\
    datasource:\n  Ec2:\n    strict_id: false\n";

/// The original's file that tells an image where it lives.
const CLOUD_INFO: &str = "CLOUD_TYPE=\"ec2\"\n";

/// Whichever of the two makes this system's initramfs; and names of network cards that are not
/// those of the machine that built it.
const DRIVERS: &str = r#"set -e
rm -f /etc/udev/rules.d/70-persistent-net.rules
if command -v update-initramfs >/dev/null; then
    for module in nvme ena xen-blkfront; do
        grep -qx "$module" /etc/initramfs-tools/modules 2>/dev/null ||
            echo "$module" >> /etc/initramfs-tools/modules
    done
    update-initramfs -u -k all
elif command -v dracut >/dev/null; then
    mkdir -p /etc/dracut.conf.d
    echo 'add_drivers+=" nvme ena xen-blkfront "' > /etc/dracut.conf.d/60-ec2.conf
    dracut --force --regenerate-all
fi
"#;

/// What is asked of the OS plugin; `None` = nothing.
pub(crate) fn target_content(stage: &Stage<'_>) -> Result<Option<TargetContent>> {
    let parameters: Map<String, Value> = stage.parameters()?;
    let says = |name: &str, word: &str| match parameters.get(name) {
        Some(Value::Bool(is)) => is.to_string() == word,
        Some(Value::String(text)) => text.eq_ignore_ascii_case(word),
        _ => false,
    };
    if says("skip_ec2_modifications", "true") || says("ec2_modify", "false") {
        return Ok(None);
    }
    let file = |name: &str, content: &str| TemplateFile {
        name: name.to_owned(),
        kind: ContentType::Raw,
        file: content.to_owned(),
    };
    Ok(Some(TargetContent {
        packages: vec![package("cloud-init")],
        files: vec![
            file("/etc/cloud/cloud.cfg.d/91-imagefactory-ec2.cfg", DATASOURCE),
            file("/etc/sysconfig/cloud-info", CLOUD_INFO),
        ],
        commands: vec![TargetCommand {
            name: "ec2-drivers".to_owned(),
            kind: ContentType::Raw,
            command: DRIVERS.to_owned(),
        }],
        ..TargetContent::default()
    }))
}

fn package(name: &str) -> Package {
    Package { name: name.to_owned(), repository: None, file: None, arguments: None }
}
