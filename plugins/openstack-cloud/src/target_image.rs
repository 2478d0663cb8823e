//! The target image: what a guest of OpenStack needs, and the format that it is kept in.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result, Stage};
use imagefactory_plugin_sdk::payload::target_content::{TargetCommand, TargetContent};
use imagefactory_plugin_sdk::payload::template::{ContentType, Package};
use imagefactory_toolkit_disk::{DiskFormat, inspect, write_qcow2_zlib};
use serde_json::json;

/// Each server has network cards of its own: names that stick to the build machine's are removed,
/// and no new ones are written. Rules of udev for old systems, HWADDR for those of Red Hat.
const NO_PERSISTENT_NET_NAMES: &str = "\
rm -f /etc/udev/rules.d/70-persistent-net.rules /etc/udev/rules.d/75-persistent-net-generator.rules
if [ -d /etc/udev/rules.d ]; then
    ln -s /dev/null /etc/udev/rules.d/75-persistent-net-generator.rules
fi
for file in /etc/sysconfig/network-scripts/ifcfg-*; do
    if [ -f \"$file\" ]; then sed -i -e '/^HWADDR=/d' -e '/^UUID=/d' \"$file\"; fi
done
";

/// How often a silent program is asked whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a failing program's error quotes.
const COMPLAINT_BYTES_MAX: u64 = 2 << 10;

/// How the target image is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Raw,
    Qcow2(Compression),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Zlib,
    Zstd,
}

/// What the OS plugin is to add.
pub(crate) fn content() -> Result<TargetContent> {
    let name = "cloud-init".to_owned();
    let cloud_init = Package { name, repository: None, file: None, arguments: None };
    Ok(TargetContent {
        packages: vec![cloud_init],
        commands: vec![TargetCommand {
            name: "no-persistent-net-names".to_owned(),
            kind: ContentType::Raw,
            command: NO_PERSISTENT_NET_NAMES.to_owned(),
        }],
        ..TargetContent::default()
    })
}

/// Brings the image into its format; nothing is written where it is in it already.
pub(crate) fn transform(host: &Host, stage: &Stage<'_>) -> Result<()> {
    let kept = Kept::of(host, stage)?;
    host.set_result("effective_parameters", &kept.used())?;
    let input_path = host.input_image()?;
    let input = File::open(&input_path)?;
    let facts = inspect(&input).map_err(|error| {
        PluginError::new(ErrorCode::InvalidArgument, format!("the target image: {error}"))
    })?;
    if kept == Kept::Raw && facts.format == DiskFormat::Raw {
        return Ok(());
    }
    let output_path = host.output_image()?;
    match (kept, facts.format) {
        (Kept::Qcow2(Compression::Zlib), DiskFormat::Raw) => {
            let output =
                File::options().read(true).write(true).create_new(true).open(&output_path)?;
            let total = facts.virtual_bytes;
            write_qcow2_zlib(&input, &output, |done| {
                host.progress("convert", "compressing the image", done.min(total), total)
            })?;
            output.sync_all()?;
        }
        (kept, from) => {
            let mut command = Command::new("qemu-img");
            command.args(["convert", "-f", from.qemu_name()]).args(kept.options());
            command.arg(&input_path).arg(&output_path);
            run(host, command)?;
        }
    }
    host.set_result("format", kept.name())
}

impl Kept {
    /// The parameters, else the configuration, else qcow2 with zlib, which every QEMU reads.
    fn of(host: &Host, stage: &Stage<'_>) -> Result<Kept> {
        let asked = stage.text_parameter("openstack_image_format")?;
        let format = match asked {
            Some(format) => Some(format),
            None => host.config::<String>("openstack_image_format")?,
        };
        let compression = stage.text_parameter("openstack_compression")?;
        let compression = match compression.as_deref() {
            None | Some("zlib") => Compression::Zlib,
            Some("zstd") => Compression::Zstd,
            Some("none") => Compression::None,
            Some(other) => {
                let message = format!("openstack_compression is {other:?}, not zlib, zstd or none");
                return Err(PluginError::user_fault(message));
            }
        };
        match format.as_deref() {
            None | Some("qcow2") => Ok(Kept::Qcow2(compression)),
            Some("raw") => Ok(Kept::Raw),
            Some(other) => {
                let message = format!("openstack_image_format is {other:?}, not qcow2 or raw");
                Err(PluginError::user_fault(message))
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kept::Raw => "raw",
            Kept::Qcow2(_) => "qcow2",
        }
    }

    fn used(self) -> serde_json::Value {
        let compression = match self {
            Kept::Raw | Kept::Qcow2(Compression::None) => "none",
            Kept::Qcow2(Compression::Zlib) => "zlib",
            Kept::Qcow2(Compression::Zstd) => "zstd",
        };
        json!({ "openstack_image_format": self.name(), "openstack_compression": compression })
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            Kept::Raw => &["-O", "raw"],
            Kept::Qcow2(Compression::None) => &["-O", "qcow2"],
            Kept::Qcow2(Compression::Zlib) => &["-O", "qcow2", "-c", "-o", "compression_type=zlib"],
            Kept::Qcow2(Compression::Zstd) => &["-O", "qcow2", "-c", "-o", "compression_type=zstd"],
        }
    }
}

/// Runs a program to its end, or ends it with the stage.
fn run(host: &Host, mut command: Command) -> Result<()> {
    command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| {
        PluginError::from(error)
            .while_doing("qemu-img cannot be started")
            .hint("install it: the package is qemu-utils or qemu-img")
    })?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let wanted = host
            .progress("convert", "converting the image", 0, 0)
            .and_then(|()| host.sleep_unless_cancelled(LOOK_EVERY));
        if let Err(cancelled) = wanted {
            // Gone already is as good.
            child.kill().ok();
            child.wait()?;
            return Err(cancelled);
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut complaint = String::new();
    if let Some(stderr) = child.stderr.take() {
        stderr.take(COMPLAINT_BYTES_MAX).read_to_string(&mut complaint)?;
    }
    let complaint = complaint.split_whitespace().collect::<Vec<_>>().join(" ");
    Err(PluginError::new(ErrorCode::Io, format!("qemu-img failed ({status}): {complaint}")))
}
