//! Another form of the disk, made by qemu-img in the stage's own folder, where the input is not
//! what the package needs. The input's format is always said and never guessed.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};

use crate::disk::Disk;

/// How often the host is asked whether the stage is to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What an error quotes of a failing program, from its end.
const COMPLAINT_BYTES_MAX: usize = 2 << 10;

/// A form, as qemu-img's arguments after `-O`.
pub(crate) const RAW: &[&str] = &["raw"];
/// What VMware's desktop programs write to.
pub(crate) const VMDK_SPARSE: &[&str] = &["vmdk", "-o", "subformat=monolithicSparse"];
pub(crate) const QCOW2: &[&str] = &["qcow2", "-c", "-o", "compression_type=zlib"];
pub(crate) const VHDX: &[&str] = &["vhdx", "-o", "subformat=dynamic"];

/// Converts into the work folder, to a file of this name: a VMDK tells its own.
pub(crate) fn convert(host: &Host, disk: &Disk, to: &[&str], name: &str) -> Result<Disk> {
    let folder = host.work_dir()?;
    let path = folder.join(name);
    let complaints = folder.join("qemu-img.log");
    let stderr = std::fs::File::create(&complaints)?;
    host.progress("convert", &format!("converting {} to {}", disk.format, to[0]), 0, 0)?;
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-f", disk.format.qemu_name(), "-O"]).args(to);
    command.arg(&disk.path).arg(&path).env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let mut child = command.spawn().map_err(|error| {
        PluginError::from(error)
            .while_doing("qemu-img cannot be started")
            .hint("install it: the package is qemu-utils or qemu-img")
    })?;
    let status = match watch(host, &mut child) {
        Ok(status) => status,
        Err(error) => {
            // Gone already is as good; waited for in any case.
            child.kill().ok();
            child.wait()?;
            return Err(error);
        }
    };
    if !status.success() {
        let said = std::fs::read(&complaints).unwrap_or_default();
        let said = &said[said.len().saturating_sub(COMPLAINT_BYTES_MAX)..];
        let said = String::from_utf8_lossy(said);
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let message = format!("qemu-img failed ({status}): {said}");
        return Err(PluginError::new(ErrorCode::Io, message));
    }
    Disk::at(path)
}

fn watch(host: &Host, child: &mut Child) -> Result<std::process::ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        host.sleep_unless_cancelled(LOOK_EVERY)?;
    }
}
