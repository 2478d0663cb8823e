//! The root tree becomes a disk: a sparse raw file with a GPT, written by tools that need no root.
//!
//! ```text
//!     1 MiB  BIOS boot   grub's core image
//!     2 MiB  ESP         64 MiB FAT, EFI/BOOT/BOOTX64.EFI
//!    66 MiB  root        ext4 to the end (minus the backup table): grows on the first boot
//! ```
//!
//! Everything that is random elsewhere (disk, partition and file system ids, hash seed, serial
//! numbers) comes from the plan's seed, and times are fixed: the same tree gives the same bytes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};
use serde_json::Value;

use crate::boot_loader;
use crate::plan::{EPOCH_S, Plan};
use crate::superblocks;
use crate::tool;

const SECTOR_BYTES: u64 = 512;

/// First sector of the BIOS boot partition: where the BIOS boot code looks for grub's core.
pub(crate) const BIOS_BOOT_SECTOR: u64 = 2048;
const ESP_SECTOR: u64 = 4096;
const ESP_SECTORS: u64 = 131_072;
const ROOT_SECTOR: u64 = ESP_SECTOR + ESP_SECTORS;

/// The first inode that is not reserved (ext4's default, EXT4_GOOD_OLD_FIRST_INO).
const FIRST_INODE: u64 = 11;

/// Partition types: the GPT's own of a BIOS boot and an ESP (UEFI 2.10), and the root of x86-64 of
/// the Discoverable Partitions Specification.
const BIOS_BOOT_TYPE: &str = "21686148-6449-6E6F-744E-656564454649";
const ESP_TYPE: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
const ROOT_TYPE: &str = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";

/// Of all partitions, in order.
pub(crate) const PARTITION_TYPES: [&str; 3] = [BIOS_BOOT_TYPE, ESP_TYPE, ROOT_TYPE];

/// Where the root file system lies, and what is random in it elsewhere.
pub(crate) struct RootFileSystem {
    pub(crate) offset_bytes: u64,
    pub(crate) bytes: u64,
    pub(crate) uuid: String,
    pub(crate) hash_seed: String,
}

/// Writes an image with another root file system and everything else as it is in `image`.
pub(crate) fn rewrite_image(
    host: &Host,
    image: &File,
    file_system: &RootFileSystem,
    root: &Path,
    output: &Path,
) -> Result<()> {
    host.progress("disk", "Writing the disk image", 92, 100)?;
    let written = File::options().read(true).write(true).create_new(true).open(output)?;
    let bytes = image.metadata()?.len();
    written.set_len(bytes)?;
    let end = file_system.offset_bytes + file_system.bytes;
    for range in [0..file_system.offset_bytes, end..bytes] {
        copy_range(image, &written, range)?;
    }
    write_root(host, file_system, root, output)?;
    host.progress("disk", "Done", 100, 100)
}

/// Copies bytes to the same place; zeros stay holes.
fn copy_range(from: &File, to: &File, range: std::ops::Range<u64>) -> Result<()> {
    let mut chunk = vec![0; 64 << 10];
    let mut at = range.start;
    while at < range.end {
        let part = &mut chunk[..(range.end - at).min(64 << 10) as usize];
        from.read_exact_at(part, at)?;
        if part.iter().any(|byte| *byte != 0) {
            to.write_all_at(part, at)?;
        }
        at += part.len() as u64;
    }
    Ok(())
}

/// Writes the image; `output` does not exist yet.
pub(crate) fn write_image(host: &Host, plan: &Plan, root: &Path, output: &Path) -> Result<()> {
    host.progress("disk", "Writing the disk image", 92, 100)?;
    let image = File::options().read(true).write(true).create_new(true).open(output)?;
    image.set_len(plan.disk_bytes)?;
    let root_sectors = write_table(host, plan, output)?;
    let file_system = RootFileSystem {
        offset_bytes: ROOT_SECTOR * SECTOR_BYTES,
        bytes: root_sectors * SECTOR_BYTES,
        uuid: plan.seed.uuid("root"),
        hash_seed: plan.seed.uuid("hash-seed"),
    };
    write_root(host, &file_system, root, output)?;
    host.progress("disk", "Writing the boot loaders", 97, 100)?;
    write_esp(host, plan, output)?;
    boot_loader::write_bios(host, plan, &image)?;
    // The host syncs what it takes over.
    host.progress("disk", "Done", 100, 100)
}

/// The partition table; answers how many sectors the root partition got (sfdisk aligns its end).
fn write_table(host: &Host, plan: &Plan, output: &Path) -> Result<u64> {
    let id = |purpose: &str| plan.seed.uuid(purpose).to_uppercase();
    let script = format!(
        "label: gpt\nlabel-id: {}\n\
         start={BIOS_BOOT_SECTOR}, size={}, type={BIOS_BOOT_TYPE}, uuid={}\n\
         start={ESP_SECTOR}, size={ESP_SECTORS}, type={ESP_TYPE}, uuid={}, name=esp\n\
         start={ROOT_SECTOR}, type={ROOT_TYPE}, uuid={}, name=root\n",
        id("disk"),
        ESP_SECTOR - BIOS_BOOT_SECTOR,
        id("bios-partition"),
        id("esp-partition"),
        id("root-partition"),
    );
    let mut write = Command::new("sfdisk");
    tool::run_watched(host, write.arg("--quiet").arg(output), script.as_bytes(), |_| Ok(()))?;
    let table = tool::output(host, Command::new("sfdisk").arg("--json").arg(output))?;
    let table: Value = serde_json::from_str(&table).map_err(|error| {
        PluginError::new(ErrorCode::Internal, format!("sfdisk --json: {error}"))
    })?;
    table["partitiontable"]["partitions"][2]["size"]
        .as_u64()
        .ok_or_else(|| PluginError::new(ErrorCode::Internal, "sfdisk made no root partition"))
}

fn write_root(host: &Host, file_system: &RootFileSystem, root: &Path, output: &Path) -> Result<()> {
    let offset = file_system.offset_bytes;
    let blocks = file_system.bytes / 4096;
    let options = format!(
        "offset={offset},root_owner=0:0,hash_seed={},lazy_itable_init=1,lazy_journal_init=1",
        file_system.hash_seed
    );
    let mut make = Command::new("mke2fs");
    make.env("E2FSPROGS_FAKE_TIME", EPOCH_S.to_string())
        .env("SOURCE_DATE_EPOCH", EPOCH_S.to_string())
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "1", "-L", "root"])
        .args(["-U", &file_system.uuid, "-E", &options, "-d"])
        .arg(root)
        .arg(output)
        .arg(blocks.to_string());
    tool::run(host, &mut make).map_err(|error| {
        let hint = "if it says that there is no space, give the template a larger <disk><size>";
        error.while_doing("writing the root file system").hint(hint)
    })?;
    fix_times(host, output, offset)?;
    superblocks::forget_writes(output, offset, blocks)
}

/// mke2fs copies the change times of the tree, which nobody can set: they are set in the image.
///
/// (e2fsprogs 1.47.1 clamps them to SOURCE_DATE_EPOCH by itself; Debian 12 has 1.47.0.)
fn fix_times(host: &Host, output: &Path, offset: u64) -> Result<()> {
    let at = format!("{}?offset={offset}", output.display());
    let epoch = EPOCH_S.to_string();
    let program = |name: &str| {
        let mut command = Command::new(name);
        command.env("E2FSPROGS_FAKE_TIME", &epoch);
        command
    };
    let mut header = program("dumpe2fs");
    let header = tool::quiet_output(host, header.arg("-h").arg(&at))?;
    let number = |name: &str| {
        let line = header.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<u64>().ok()
    };
    let (Some(all), Some(free)) = (number("Inode count:"), number("Free inodes:")) else {
        let message = "dumpe2fs did not say how many inodes there are";
        return Err(PluginError::new(ErrorCode::Internal, message));
    };
    // How much was written until here is chance as well; e2fsprogs leave a zero as it is.
    let mut script = "ssv kbytes_written 0\n".to_owned();
    // The root folder, then everything behind the reserved ones; mke2fs numbers without gaps.
    for inode in std::iter::once(2).chain(FIRST_INODE..=all.saturating_sub(free)) {
        for field in ["atime", "ctime", "crtime"] {
            let fixed = format!("sif <{inode}> {field} @{epoch}\nsif <{inode}> {field}_extra 0\n");
            script.push_str(&fixed);
        }
    }
    let path = host.work_dir()?.join("times.debugfs");
    std::fs::write(&path, script)?;
    let mut fix = program("debugfs");
    tool::quiet_output(host, fix.args(["-w", "-f"]).arg(&path).arg(&at)).map(|_| ())
}

fn write_esp(host: &Host, plan: &Plan, output: &Path) -> Result<()> {
    let loader = boot_loader::make_efi(host, plan)?;
    let at = format!("{}@@{}", output.display(), ESP_SECTOR * SECTOR_BYTES);
    let epoch = EPOCH_S.to_string();
    let mtool = |name: &str| {
        let mut command = Command::new(name);
        command
            .env("SOURCE_DATE_EPOCH", &epoch)
            .env("TZ", "UTC")
            .env("MTOOLS_SKIP_CHECK", "1")
            .args(["-i", &at]);
        command
    };
    let sectors = ESP_SECTORS.to_string();
    tool::run(
        host,
        mtool("mformat").args([
            "-T",
            &sectors,
            "-h",
            "255",
            "-s",
            "63",
            "-F",
            "-N",
            &plan.seed.fat_serial(),
            "-v",
            "ESP",
            "::",
        ]),
    )?;
    tool::run(host, mtool("mmd").args(["::/EFI", "::/EFI/BOOT"]))?;
    tool::run(host, mtool("mcopy").arg("-m").arg(loader).arg("::/EFI/BOOT/BOOTX64.EFI"))
}
