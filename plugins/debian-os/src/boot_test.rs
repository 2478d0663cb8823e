//! The proof that an image works: it is started on a throw-away overlay and must reach the login
//! prompt.
//!
//! TCG emulation only: the sandbox has no `/dev/kvm`, and a device that opens is no proof that
//! guests run. The serial log is handed over as an artefact also when the image does not boot: then
//! most of all.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result, Stage};
use serde_json::json;

use crate::tool;

/// Debian 12 takes 27 s here on an idle machine; emulation on a busy one takes many times that.
const BOOT_TIMEOUT_S: u64 = 600;

const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What a guest's memory is given; a minimal system needs a third of it.
const MEMORY: &str = "1024";

/// Lines that mean that waiting is of no use.
const HOPELESS: [&str; 5] =
    ["Kernel panic", "grub rescue>", "(initramfs)", "emergency mode", "No bootable device"];

/// Boots the stage's input image.
pub(crate) fn verify(host: &Host, stage: &Stage<'_>) -> Result<()> {
    let work = host.work_dir()?;
    let overlay = work.join("overlay.qcow2");
    let image = host.input_image()?;
    let mut make = Command::new("qemu-img");
    make.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(&image).arg(&overlay);
    tool::run(host, &mut make)?;
    let firmware = stage.text_parameter("boot_firmware")?.unwrap_or_else(|| "bios".to_owned());
    let timeout = stage.number_parameter("boot_timeout_s")?.unwrap_or(BOOT_TIMEOUT_S);
    let serial = work.join("serial.log");
    fs::write(&serial, "")?;
    host.progress("boot", "Starting the image", 0, 100)?;
    let begin = Instant::now();
    let mut guest = start(&work, &overlay, &serial, &firmware)?;
    let reached = wait_for_login(host, &mut guest, &serial, Duration::from_secs(timeout));
    // Ended already is as good; its exit status means nothing any more.
    guest.kill().ok();
    guest.wait()?;
    host.add_artifact(&format!("serial-{firmware}.log"), "text/plain", &serial)?;
    let seconds = begin.elapsed().as_secs();
    match reached? {
        Ok(()) => {
            let how = format!("reached the login prompt in {seconds} s ({firmware}, QEMU, tcg)");
            host.info(&how);
            host.set_result("verified", &json!({ "ok": true, "how": how }))
        }
        Err(why) => {
            let last = last_lines(&serial);
            let message = format!(
                "the image does not boot ({firmware}): {why}; its console ends with: {last}"
            );
            Err(PluginError::new(ErrorCode::Internal, message).hint("see the artefact serial.log"))
        }
    }
}

fn start(work: &Path, overlay: &Path, serial: &Path, firmware: &str) -> Result<Child> {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", MEMORY])
        .args(["-display", "none", "-nodefaults", "-no-reboot", "-no-user-config"])
        .arg("-serial")
        .arg(format!("file:{}", serial.display()))
        .arg("-drive")
        .arg(format!("file={},format=qcow2,if=virtio,cache=unsafe", overlay.display()))
        .args([
            "-netdev",
            "user,id=net,restrict=on",
            "-device",
            "virtio-net-pci,netdev=net,romfile=",
        ])
        .args(["-device", "virtio-rng-pci"]);
    if firmware == "uefi" {
        const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
        let variables = work.join("uefi-variables.fd");
        fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &variables).map_err(|error| {
            PluginError::new(ErrorCode::Io, format!("no UEFI firmware: {error}"))
                .hint("install ovmf on the factory")
        })?;
        qemu.arg("-drive").arg(format!("if=pflash,format=raw,readonly=on,file={CODE}"));
        qemu.arg("-drive").arg(format!("if=pflash,format=raw,file={}", variables.display()));
    }
    let log = fs::File::create(work.join("qemu.log"))?;
    Ok(qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?)
}

/// The outer result is the stage's (cancelled), the inner one the image's.
fn wait_for_login(
    host: &Host,
    guest: &mut Child,
    serial: &Path,
    timeout: Duration,
) -> Result<std::result::Result<(), String>> {
    let begin = Instant::now();
    loop {
        let console = String::from_utf8_lossy(&fs::read(serial)?).into_owned();
        if console.contains("login:") {
            return Ok(Ok(()));
        }
        if let Some(hopeless) = HOPELESS.iter().find(|text| console.contains(**text)) {
            return Ok(Err(format!("its console says '{hopeless}'")));
        }
        if let Some(status) = guest.try_wait()? {
            return Ok(Err(format!("QEMU ended ({status})")));
        }
        if begin.elapsed() > timeout {
            return Ok(Err(format!("no login prompt within {} s", timeout.as_secs())));
        }
        let percent = 95 * begin.elapsed().as_secs() / timeout.as_secs().max(1);
        host.progress("boot", "Waiting for the login prompt", percent, 100)?;
        host.sleep_unless_cancelled(LOOK_EVERY)?;
    }
}

fn last_lines(serial: &Path) -> String {
    let console = fs::read(serial).unwrap_or_default();
    let console = String::from_utf8_lossy(&console);
    let lines: Vec<&str> = console.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}
