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
use std::path::Path;
use std::process::Command;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};
use serde_json::Value;

use crate::boot_loader;
use crate::plan::{EPOCH_S, Plan};
use crate::tool;

const SECTOR_BYTES: u64 = 512;

/// First sector of the BIOS boot partition: where the BIOS boot code looks for grub's core.
pub(crate) const BIOS_BOOT_SECTOR: u64 = 2048;
const ESP_SECTOR: u64 = 4096;
const ESP_SECTORS: u64 = 131_072;
const ROOT_SECTOR: u64 = ESP_SECTOR + ESP_SECTORS;

/// Partition types: the GPT's own of a BIOS boot and an ESP (UEFI 2.10), and the root of x86-64 of
/// the Discoverable Partitions Specification.
const BIOS_BOOT_TYPE: &str = "21686148-6449-6E6F-744E-656564454649";
const ESP_TYPE: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
const ROOT_TYPE: &str = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";

/// Writes the image; `output` does not exist yet.
pub(crate) fn write_image(host: &Host, plan: &Plan, root: &Path, output: &Path) -> Result<()> {
    host.progress("disk", "Writing the disk image", 92, 100)?;
    let image = File::options().read(true).write(true).create_new(true).open(output)?;
    image.set_len(plan.disk_bytes)?;
    let root_sectors = write_table(host, plan, output)?;
    write_root(host, plan, root, output, root_sectors)?;
    host.progress("disk", "Writing the boot loaders", 97, 100)?;
    write_esp(host, plan, output)?;
    boot_loader::write_bios(host, plan, &image)?;
    image.sync_all()?;
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

fn write_root(host: &Host, plan: &Plan, root: &Path, output: &Path, sectors: u64) -> Result<()> {
    let offset = ROOT_SECTOR * SECTOR_BYTES;
    let blocks = sectors * SECTOR_BYTES / 4096;
    let options = format!(
        "offset={offset},root_owner=0:0,hash_seed={},lazy_itable_init=1,lazy_journal_init=1",
        plan.seed.uuid("hash-seed")
    );
    let mut make = Command::new("mke2fs");
    make.env("E2FSPROGS_FAKE_TIME", EPOCH_S.to_string())
        .env("SOURCE_DATE_EPOCH", EPOCH_S.to_string())
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "1", "-L", "root"])
        .args(["-U", &plan.seed.uuid("root"), "-E", &options, "-d"])
        .arg(root)
        .arg(output)
        .arg(blocks.to_string());
    tool::run(host, &mut make).map_err(|error| {
        error
            .while_doing("writing the root file system")
            .hint("if it says that there is no space, give the template a larger <disk><size>")
    })
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
