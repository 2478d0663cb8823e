//! The proof that an image works: it is started on a throw-away overlay and must reach multi-user.
//!
//! Read on: [`console`] judges what the guest says, [`accelerator`] finds out who executes it,
//! [`qemu`] and [`libvirt`] are the two that start it (`boot_via` in the configuration). Serial log
//! and screenshot are handed over as artefacts also when the image does not boot: then most of all.

mod accelerator;
mod console;
mod libvirt;
pub(crate) mod multi_user;
mod probe_guest;
mod qemu;
mod qmp;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Resource, Result, Stage};
use imagefactory_toolkit_disk::{DiskFormat, inspect};
use serde_json::json;

use accelerator::Accelerator;
use console::{Console, Sight};
use libvirt::LibvirtMachine;
use qemu::QemuMachine;

/// Debian 12 takes 27 s here on an idle machine; emulation on a busy one takes many times that.
const BOOT_TIMEOUT_S: u64 = 600;

const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What a guest's memory is given; a minimal system needs a third of it.
const MEMORY_MIB: u32 = 1024;
/// Two, so that services start beside each other.
const PROCESSORS: u32 = 2;

/// The last look at the screen waits so long: a text console draws a prompt after the serial one.
const SCREEN_SETTLES: Duration = Duration::from_millis(500);

/// What the machine begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Firmware {
    Bios,
    Uefi,
}

impl Firmware {
    fn name(self) -> &'static str {
        match self {
            Firmware::Bios => "bios",
            Firmware::Uefi => "uefi",
        }
    }

    fn all_of(parameter: Option<&str>) -> Result<&'static [Firmware]> {
        match parameter {
            None | Some("bios") => Ok(&[Firmware::Bios]),
            Some("uefi") => Ok(&[Firmware::Uefi]),
            Some("both") => Ok(&[Firmware::Bios, Firmware::Uefi]),
            Some(other) => {
                let message = format!("boot_firmware is {other:?}, not one of bios, uefi, both");
                Err(PluginError::user_fault(message))
            }
        }
    }
}

/// The format in which a screenshot came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Screenshot {
    Png,
    Ppm,
}

impl Screenshot {
    fn extension(self) -> &'static str {
        match self {
            Screenshot::Png => "png",
            Screenshot::Ppm => "ppm",
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Screenshot::Png => "image/png",
            Screenshot::Ppm => "image/x-portable-pixmap",
        }
    }
}

/// One start of an image.
struct Trial<'t> {
    image: &'t Path,
    format: DiskFormat,
    firmware: Firmware,
    timeout: Duration,
    /// Of this start alone.
    folder: PathBuf,
}

/// A started image.
trait Machine {
    /// Who runs it, for people.
    fn via(&self) -> &'static str;
    /// Why it does not run any more; `None` while it does.
    fn stopped(&mut self) -> Result<Option<String>>;
    /// Writes what its screen shows; the error is a sentence.
    fn screenshot(&mut self, file: &Path) -> std::result::Result<Screenshot, String>;
    /// Ends it, and leaves nothing of it.
    fn end(self: Box<Self>) -> Result<()>;
}

/// Removes what a boot test left outside.
pub(crate) fn clean_up(host: &Host, left: &[Resource]) -> Result<()> {
    let ours = left.iter().filter(|resource| resource.kind == libvirt::KIND);
    ours.map(|resource| libvirt::clean_up(host, resource)).fold(Ok(()), Result::and)
}

/// Boots the stage's input image, with each firmware that is asked for.
pub(crate) fn verify(host: &Host, stage: &Stage<'_>) -> Result<()> {
    let firmwares = Firmware::all_of(stage.text_parameter("boot_firmware")?.as_deref())?;
    let timeout = stage.number_parameter("boot_timeout_s")?.unwrap_or(BOOT_TIMEOUT_S);
    let image = host.input_image()?;
    let facts = inspect(&File::open(&image)?);
    let facts =
        facts.map_err(|error| PluginError::new(ErrorCode::InvalidArgument, error.to_string()))?;
    let accelerator = accelerator::choose(host)?;
    let mut proofs = Vec::new();
    for firmware in firmwares {
        let folder = host.work_dir()?.join(format!("boot-{}", firmware.name()));
        fs::create_dir_all(&folder)?;
        let trial = Trial {
            image: &image,
            format: facts.format,
            firmware: *firmware,
            timeout: Duration::from_secs(timeout),
            folder,
        };
        proofs.push(boot(host, stage, &trial, accelerator)?);
    }
    host.set_result("verified", &json!({ "ok": true, "how": proofs.join("; ") }))
}

/// One start; answers how it went well.
fn boot(
    host: &Host,
    stage: &Stage<'_>,
    trial: &Trial<'_>,
    accelerator: Accelerator,
) -> Result<String> {
    let firmware = trial.firmware.name();
    host.progress("boot", &format!("Starting the image ({firmware})"), 0, 100)?;
    let begin = Instant::now();
    let mut console = Console::new(&trial.folder.join("serial.log"))?;
    let mut machine = start(host, stage, trial, (accelerator, console.path()))?;
    let reached = wait_until_booted(host, trial, machine.as_mut(), &mut console);
    let seconds = begin.elapsed().as_secs();
    let handed_over = hand_over(host, trial, machine.as_mut(), &console);
    let via = machine.via();
    let ended = machine.end();
    let reached = reached?;
    handed_over?;
    ended?;
    match reached {
        Ok(()) => {
            let failed = console.failed_units();
            for unit in &failed {
                host.warn(&format!("while booting: {unit}"));
            }
            let but = match failed.len() {
                0 => String::new(),
                units => format!(", {units} units failed"),
            };
            let how = format!(
                "reached multi-user and a login prompt in {seconds} s ({firmware}, {via}, {}{but})",
                accelerator.name()
            );
            host.info(&how);
            Ok(how)
        }
        Err(why) => {
            let last = console.last_lines();
            let message = format!(
                "the image does not boot ({firmware}): {why}; its console ends with: {last}"
            );
            let hint = format!("see the artefacts serial-{firmware}.log and screenshot-{firmware}");
            Err(PluginError::new(ErrorCode::Internal, message).hint(hint))
        }
    }
}

/// By the configuration's `boot_via`.
fn start(
    host: &Host,
    stage: &Stage<'_>,
    trial: &Trial<'_>,
    (accelerator, serial): (Accelerator, &Path),
) -> Result<Box<dyn Machine>> {
    match host.config::<String>("boot_via")?.as_deref() {
        None | Some("qemu") => Ok(Box::new(QemuMachine::start(host, trial, accelerator, serial)?)),
        Some("libvirt") => {
            Ok(Box::new(LibvirtMachine::start(host, stage, trial, accelerator, serial)?))
        }
        Some(other) => {
            let message = format!("boot_via is {other:?}, not one of qemu, libvirt");
            Err(PluginError::new(ErrorCode::InvalidArgument, message))
        }
    }
}

/// The outer result is the stage's (cancelled), the inner one the image's.
fn wait_until_booted(
    host: &Host,
    trial: &Trial<'_>,
    machine: &mut dyn Machine,
    console: &mut Console,
) -> Result<std::result::Result<(), String>> {
    let begin = Instant::now();
    loop {
        // In this order: what a guest said before it stopped is read after it stopped.
        let stopped = machine.stopped()?;
        let phase = match console.look()? {
            Sight::Booted => return Ok(Ok(())),
            Sight::Hopeless(why) => return Ok(Err(why)),
            Sight::Booting(phase) => phase,
        };
        if let Some(why) = stopped {
            return Ok(Err(why));
        }
        if begin.elapsed() > trial.timeout {
            let seconds = trial.timeout.as_secs();
            return Ok(Err(format!("not there within {seconds} s; {}", lower(phase))));
        }
        // Nobody knows how long a boot takes; half of the limit is much.
        let permille = 900 * begin.elapsed().as_millis() / trial.timeout.as_millis().max(1);
        let done = u64::try_from(permille).unwrap_or(900);
        host.progress("boot", phase, done, 1000)?;
        host.sleep_unless_cancelled(LOOK_EVERY)?;
    }
}

/// "Waiting for …" within a sentence.
fn lower(phase: &str) -> String {
    let mut characters = phase.chars();
    let first = characters.next().map(|first| first.to_lowercase().to_string());
    first.unwrap_or_default() + characters.as_str()
}

/// Serial log and screenshot. A screen that cannot be had fails no image: the log says why.
fn hand_over(
    host: &Host,
    trial: &Trial<'_>,
    machine: &mut dyn Machine,
    console: &Console,
) -> Result<()> {
    let firmware = trial.firmware.name();
    host.add_artifact(&format!("serial-{firmware}.log"), "text/plain", console.path())?;
    host.sleep_unless_cancelled(SCREEN_SETTLES)?;
    let file = trial.folder.join("screen");
    match machine.screenshot(&file) {
        Ok(format) => {
            let name = format!("screenshot-{firmware}.{}", format.extension());
            host.add_artifact(&name, format.media_type(), &file)
        }
        Err(why) => {
            host.warn(&format!("no screenshot: {why}"));
            Ok(())
        }
    }
}
