//! A machine of QEMU's own: the image on a throw-away overlay, a network that leads nowhere.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};
use imagefactory_toolkit_disk::DiskFormat;

use super::accelerator::{Accelerator, option_value};
use super::qmp::Monitor;
use super::{Firmware, MEMORY_MIB, Machine, PROCESSORS, Screenshot, Trial};
use crate::tool;

/// The half of UEFI that is the same for all machines, and the half that a machine writes
/// (Debian's and Ubuntu's package ovmf).
const UEFI_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const UEFI_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// Started; ends with this value.
pub(super) struct QemuMachine {
    qemu: Child,
    monitor: Monitor,
    complaints: PathBuf,
}

impl QemuMachine {
    /// Starts the image.
    pub(super) fn start(
        host: &Host,
        trial: &Trial<'_>,
        accelerator: Accelerator,
        serial: &Path,
    ) -> Result<QemuMachine> {
        let overlay = make_overlay(host, trial)?;
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-accel", accelerator.option(), "-cpu", "max"])
            .args(["-smp", &PROCESSORS.to_string(), "-m", &MEMORY_MIB.to_string()])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-vga", "std"])
            // A guest that powers itself off or begins anew stays, so that it can be looked at.
            .args(["-action", "reboot=shutdown,shutdown=pause,panic=pause"])
            .args(["-chardev", "stdio,id=monitor,signal=off", "-mon", "monitor,mode=control"])
            .arg("-serial")
            .arg(format!("file:{}", option_value(serial)))
            .arg("-drive")
            .arg(format!("file={},format=qcow2,if=virtio,cache=unsafe", option_value(&overlay)))
            .args(["-netdev", "user,id=net,restrict=on"])
            .args(["-device", "virtio-net-pci,netdev=net,romfile="])
            .args(["-device", "virtio-rng-pci"]);
        if trial.firmware == Firmware::Uefi {
            let variables = trial.folder.join("uefi-variables.fd");
            fs::copy(UEFI_VARIABLES, &variables).map_err(|error| {
                let message = format!("no UEFI firmware ({UEFI_VARIABLES}): {error}");
                PluginError::new(ErrorCode::Io, message).hint("install ovmf on the factory")
            })?;
            command.arg("-drive").arg(format!("if=pflash,format=raw,readonly=on,file={UEFI_CODE}"));
            let variables = option_value(&variables);
            command.arg("-drive").arg(format!("if=pflash,format=raw,file={variables}"));
        }
        let complaints = trial.folder.join("qemu.log");
        let spawned = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&complaints)?)
            .spawn();
        let mut qemu = spawned.map_err(|error| {
            let message = format!("qemu-system-x86_64 cannot be started: {error}");
            PluginError::new(ErrorCode::Io, message).hint("install qemu-system-x86 on the factory")
        })?;
        let opened = match (qemu.stdin.take(), qemu.stdout.take()) {
            (Some(to), Some(from)) => Monitor::open(to, from),
            _ => Err("QEMU has no standard input and output".to_owned()),
        };
        match opened {
            Ok(monitor) => Ok(QemuMachine { qemu, monitor, complaints }),
            Err(why) => {
                end(&mut qemu);
                let message = format!("{why}{}", words_of(&complaints));
                Err(PluginError::new(ErrorCode::Internal, message)
                    .while_doing("starting the image"))
            }
        }
    }
}

impl Machine for QemuMachine {
    fn via(&self) -> &'static str {
        "QEMU"
    }

    fn stopped(&mut self) -> Result<Option<String>> {
        if let Some(status) = self.qemu.try_wait()? {
            return Ok(Some(format!("QEMU ended ({status}){}", words_of(&self.complaints))));
        }
        Ok(match self.monitor.guest_state().as_deref() {
            Ok("running") => None,
            Ok("shutdown") => Some("the guest powered itself off or started anew".to_owned()),
            Ok(state) => Some(format!("the guest is '{state}'{}", words_of(&self.complaints))),
            Err(why) => Some(format!("{why}{}", words_of(&self.complaints))),
        })
    }

    fn screenshot(&mut self, file: &Path) -> std::result::Result<Screenshot, String> {
        match self.monitor.screenshot(file)? {
            true => Ok(Screenshot::Png),
            false => Ok(Screenshot::Ppm),
        }
    }

    fn end(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Drop for QemuMachine {
    fn drop(&mut self) {
        end(&mut self.qemu);
    }
}

/// Nothing of it is wanted any more; ended already is as good.
fn end(qemu: &mut Child) {
    qemu.kill().ok();
    qemu.wait().ok();
}

/// Nothing that the guest writes reaches the image.
fn make_overlay(host: &Host, trial: &Trial<'_>) -> Result<PathBuf> {
    let overlay = trial.folder.join("overlay.qcow2");
    let format = DiskFormat::qemu_name(trial.format);
    let mut make = Command::new("qemu-img");
    make.args(["create", "-q", "-f", "qcow2", "-F", format, "-b"]).arg(trial.image).arg(&overlay);
    tool::run(host, &mut make)?;
    Ok(overlay)
}

/// QEMU's last words, as the end of a sentence.
fn words_of(complaints: &Path) -> String {
    let words = fs::read_to_string(complaints).unwrap_or_default();
    let lines: Vec<&str> = words.lines().filter(|line| !line.trim().is_empty()).collect();
    match lines.is_empty() {
        true => String::new(),
        false => format!(": {}", lines[lines.len().saturating_sub(3)..].join(" | ")),
    }
}
