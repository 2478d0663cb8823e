//! Which accelerator QEMU is started with: the one with which a guest was seen to run.
//!
//! `/dev/kvm` may be there, open, and answer, and guests hang all the same (nested and
//! para-virtualised hosts). So it is tried, with a guest of one sector (`probe_guest.rs`), and the
//! outcome is kept until the host boots again. The emulator `tcg` runs everywhere and is what is
//! left. Whoever knows better sets `boot_accelerator`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};
use serde::{Deserialize, Serialize};

use super::probe_guest::{PASSED, boot_sector};

/// The guest needs some milliseconds of a processor, and QEMU 0.3 s to get there.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

const LOOK_EVERY: Duration = Duration::from_millis(50);

const DEVICE: &str = "/dev/kvm";

/// Who executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU's emulation.
    Tcg,
}

impl Accelerator {
    /// As QEMU calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        }
    }

    /// The option after `-accel`.
    pub(super) fn option(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg,thread=multi",
        }
    }

    /// As libvirt calls a domain that runs so.
    pub(super) fn domain_type(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "qemu",
        }
    }
}

/// What was tried, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Trial {
    /// Of which boot of the host.
    boot_id: String,
    accelerator: Accelerator,
    /// Why it is no better one.
    refused: Option<String>,
}

/// The accelerator for this stage; the log says why it is not `kvm`.
pub(super) fn choose(host: &Host) -> Result<Accelerator> {
    match host.config::<String>("boot_accelerator")?.as_deref() {
        None | Some("auto") => {}
        Some("kvm") => return Ok(Accelerator::Kvm),
        Some("tcg") => return Ok(Accelerator::Tcg),
        Some(other) => {
            let message = format!("boot_accelerator is {other:?}, not one of auto, kvm, tcg");
            return Err(PluginError::new(ErrorCode::InvalidArgument, message));
        }
    }
    // Asked each time: it costs nothing, and an operator may have changed it a moment ago.
    if let Err(error) = File::options().read(true).write(true).open(DEVICE) {
        host.info(&format!("guests are emulated (tcg): {DEVICE} cannot be opened: {error}"));
        return Ok(Accelerator::Tcg);
    }
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let boot_id = boot_id.trim().to_owned();
    let record = host.cache_dir()?.map(|folder| folder.join("accelerator.json"));
    let trial = match record.as_deref().and_then(|record| remembered(record, &boot_id)) {
        Some(trial) => trial,
        None => {
            let trial = tried(host, boot_id)?;
            remember(host, record.as_deref(), &trial);
            trial
        }
    };
    if let Some(refused) = &trial.refused {
        host.info(&format!("guests are emulated (tcg): {refused}"));
    }
    Ok(trial.accelerator)
}

fn remembered(record: &Path, boot_id: &str) -> Option<Trial> {
    let trial: Trial = serde_json::from_slice(&fs::read(record).ok()?).ok()?;
    (trial.boot_id == boot_id && !boot_id.is_empty()).then_some(trial)
}

/// A record that cannot be kept costs the next stage a second.
fn remember(host: &Host, record: Option<&Path>, trial: &Trial) {
    let Some(record) = record else { return };
    let partial = record.with_extension(format!("{}.part", std::process::id()));
    let written = serde_json::to_vec(trial)
        .map_err(std::io::Error::from)
        .and_then(|text| fs::write(&partial, text))
        .and_then(|()| fs::rename(&partial, record));
    if let Err(error) = written {
        host.info(&format!("{}: {error}", record.display()));
    }
}

fn tried(host: &Host, boot_id: String) -> Result<Trial> {
    host.progress("accelerator", "Trying the accelerator kvm", 0, 1)?;
    let begin = Instant::now();
    let refused = Probe::new(host)?.run(host, Accelerator::Kvm)?;
    let seconds = begin.elapsed().as_secs_f32();
    let accelerator = match refused {
        None => {
            host.info(&format!("a guest ran with kvm ({seconds:.1} s)"));
            Accelerator::Kvm
        }
        Some(_) => Accelerator::Tcg,
    };
    let refused = refused.map(|why| format!("{DEVICE} opens, but a guest does not run: {why}"));
    Ok(Trial { boot_id, accelerator, refused })
}

/// One run of the guest of one sector.
struct Probe {
    disk: PathBuf,
    serial: PathBuf,
    complaints: PathBuf,
}

impl Probe {
    fn new(host: &Host) -> Result<Probe> {
        let folder = host.work_dir()?.join("accelerator");
        fs::create_dir_all(&folder)?;
        let disk = folder.join("guest.raw");
        fs::write(&disk, boot_sector())?;
        Ok(Probe { disk, serial: folder.join("serial"), complaints: folder.join("qemu.log") })
    }

    /// `None`: the guest ran. Otherwise why not.
    fn run(&self, host: &Host, accelerator: Accelerator) -> Result<Option<String>> {
        fs::write(&self.serial, "")?;
        let mut qemu = self.start(accelerator)?;
        let begin = Instant::now();
        let refused = loop {
            if fs::read_to_string(&self.serial).unwrap_or_default().contains(PASSED) {
                break None;
            }
            if let Some(status) = qemu.try_wait()? {
                // It may have written its line and ended between the two looks.
                let passed = fs::read_to_string(&self.serial)?.contains(PASSED);
                break (!passed).then(|| self.complaint(&format!("QEMU ended ({status})")));
            }
            if begin.elapsed() > PROBE_TIMEOUT {
                let silent = format!("no answer within {} s", PROBE_TIMEOUT.as_secs());
                break Some(self.complaint(&silent));
            }
            if let Err(cancelled) = host.sleep_unless_cancelled(LOOK_EVERY) {
                end(&mut qemu)?;
                return Err(cancelled);
            }
        };
        end(&mut qemu)?;
        Ok(refused)
    }

    fn start(&self, accelerator: Accelerator) -> Result<Child> {
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", accelerator.option(), "-cpu", "max", "-m", "16"])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
            .arg("-serial")
            .arg(format!("file:{}", option_value(&self.serial)))
            .arg("-drive")
            .arg(format!("file={},format=raw,if=ide", option_value(&self.disk)));
        let complaints = File::create(&self.complaints)?;
        Ok(qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(complaints).spawn()?)
    }

    /// The fact, and QEMU's own words that matter: it prints registers around them.
    fn complaint(&self, fact: &str) -> String {
        let words = fs::read_to_string(&self.complaints).unwrap_or_default();
        let matters = |line: &&str| line.contains("error") || line.contains("fail");
        let mut said: Vec<&str> = words.lines().filter(matters).take(2).collect();
        if said.is_empty() {
            said.extend(words.lines().next());
        }
        [&[fact], &said[..]].concat().join(": ")
    }
}

/// A path within one of QEMU's comma-separated options.
pub(super) fn option_value(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

fn end(qemu: &mut Child) -> Result<()> {
    // Ended already is as good.
    qemu.kill().ok();
    qemu.wait()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_for_the_boot_in_which_it_was_made_only() {
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join("accelerator.json");
        let trial = Trial {
            boot_id: "this".to_owned(),
            accelerator: Accelerator::Tcg,
            refused: Some("no answer within 5 s".to_owned()),
        };
        fs::write(&record, serde_json::to_vec(&trial).unwrap()).unwrap();
        assert_eq!(remembered(&record, "this"), Some(trial));
        assert_eq!(remembered(&record, "the next"), None);
        fs::write(&record, "damaged").unwrap();
        assert_eq!(remembered(&record, "this"), None);
    }
}
