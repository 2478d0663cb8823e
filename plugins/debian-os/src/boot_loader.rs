//! grub for both firmwares: an EFI program, and boot code for the BIOS, which we write by hand.
//!
//! `grub-install` wants block devices; what it does for a BIOS is little: `boot.img` goes into the
//! first sector with the address of the core image, and the core image's first sector gets the list
//! of blocks of the rest. Offsets: grub's `include/grub/i386/pc/boot.h` (kernel sector 0x5c, drive
//! check 0x66) and `kernel.h`/`diskboot.S` (block list at the end of the first sector).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};

use crate::disk::BIOS_BOOT_SECTOR;
use crate::plan::{EPOCH_S, Plan};
use crate::tool;

const SECTOR: usize = 512;

/// Modules that find the root file system and start a kernel from it.
const MODULES: [&str; 12] = [
    "normal",
    "part_gpt",
    "ext2",
    "search",
    "search_fs_uuid",
    "configfile",
    "linux",
    "echo",
    "serial",
    "terminal",
    "boot",
    "test",
];

/// In boot.img: 8 bytes, the sector of the core image.
const KERNEL_SECTOR_OFFSET: usize = 0x5c;
/// In boot.img: a jump that is patched out so that the drive number of the BIOS is believed.
const DRIVE_CHECK_OFFSET: usize = 0x66;
/// In boot.img: code ends here, then come disk signature and partition table.
const BOOT_CODE_BYTES: usize = 440;
/// In the core's first sector: 8 bytes first sector, 2 bytes count, 2 bytes load segment.
const BLOCK_LIST_OFFSET: usize = 0x1f4;
/// Where the rest of the core is loaded (0x8200).
const LOAD_SEGMENT: u16 = 0x820;

/// The EFI program, in the work folder.
pub(crate) fn make_efi(host: &Host, plan: &Plan) -> Result<PathBuf> {
    make(host, plan, "x86_64-efi", "BOOTX64.EFI", &["fat", "all_video"])
}

/// Writes the BIOS boot code into the image.
pub(crate) fn write_bios(host: &Host, plan: &Plan, image: &File) -> Result<()> {
    let core = make(host, plan, "i386-pc", "core.img", &["biosdisk"])?;
    let mut core = std::fs::read(core)?;
    let mut boot = std::fs::read("/usr/lib/grub/i386-pc/boot.img")?;
    if boot.len() < SECTOR || core.len() < SECTOR {
        return Err(PluginError::new(
            ErrorCode::Internal,
            "grub's boot.img or core.img is too short",
        ));
    }
    let sectors = core.len().div_ceil(SECTOR);
    core.resize(sectors * SECTOR, 0);
    let rest = u16::try_from(sectors - 1)
        .map_err(|_| PluginError::new(ErrorCode::Internal, "grub's core image is too long"))?;
    put(&mut boot, KERNEL_SECTOR_OFFSET, &BIOS_BOOT_SECTOR.to_le_bytes());
    put(&mut boot, DRIVE_CHECK_OFFSET, &[0x90, 0x90]);
    put(&mut core, BLOCK_LIST_OFFSET, &(BIOS_BOOT_SECTOR + 1).to_le_bytes());
    put(&mut core, BLOCK_LIST_OFFSET + 8, &rest.to_le_bytes());
    put(&mut core, BLOCK_LIST_OFFSET + 10, &LOAD_SEGMENT.to_le_bytes());
    image.write_all_at(&boot[..BOOT_CODE_BYTES], 0)?;
    image.write_all_at(&core, BIOS_BOOT_SECTOR * SECTOR as u64)?;
    Ok(())
}

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}

/// grub with a first configuration that finds the root file system's own.
fn make(host: &Host, plan: &Plan, format: &str, name: &str, more: &[&str]) -> Result<PathBuf> {
    let work = host.work_dir()?;
    let early = work.join("early.cfg");
    let uuid = plan.seed.uuid("root");
    std::fs::write(
        &early,
        format!("search --no-floppy --fs-uuid --set=root {uuid}\nconfigfile /boot/grub/grub.cfg\n"),
    )?;
    let output = work.join(name);
    let mut make = Command::new("grub-mkimage");
    make.env("SOURCE_DATE_EPOCH", EPOCH_S.to_string())
        .args(["-O", format, "-p", "/boot/grub", "-c"])
        .arg(&early)
        .arg("-o")
        .arg(&output)
        .args(MODULES)
        .args(more);
    tool::run(host, &mut make)
        .map_err(|error| error.hint("install grub-pc-bin and grub-efi-amd64-bin on the factory"))?;
    // Its time stamp is copied into the ESP.
    let epoch = UNIX_EPOCH + Duration::from_secs(EPOCH_S);
    File::options().write(true).open(&output)?.set_modified(epoch)?;
    Ok(output)
}
