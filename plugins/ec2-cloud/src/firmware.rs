//! What can start an image: BIOS, UEFI or both, told by its partition table.
//!
//! Reads the first sectors of a raw disk. An EFI system partition means UEFI; boot code in the
//! first sector, and on GPT a BIOS boot partition, means BIOS. What looks like neither is left to
//! EC2's own default for the instance's type.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// EC2's word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BootMode {
    /// BIOS only.
    LegacyBios,
    /// UEFI only.
    Uefi,
    /// Both; UEFI where the instance's type has it.
    UefiPreferred,
}

impl BootMode {
    /// As RegisterImage takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            BootMode::LegacyBios => "legacy-bios",
            BootMode::Uefi => "uefi",
            BootMode::UefiPreferred => "uefi-preferred",
        }
    }
}

const SECTOR: usize = 512;

/// EFI system partition: C12A7328-F81F-11D2-BA4B-00A0C93EC93B as it lies on disk.
const ESP_TYPE: [u8; 16] = [
    0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
];

/// BIOS boot partition: 21686148-6449-6E6F-744E-656564454649, which is "Hah!IdontNeedEFI".
const BIOS_BOOT_TYPE: [u8; 16] = *b"Hah!IdontNeedEFI";

/// The same as ESP in a DOS partition table.
const ESP_MBR_TYPE: u8 = 0xef;

/// A table has 128 entries of 128 bytes; more is read of none.
const TABLE_BYTES_MAX: usize = 16 << 10;

/// What starts the image; `None` = it says nothing.
pub(crate) fn boot_mode(image: &File) -> io::Result<Option<BootMode>> {
    let bytes = image.metadata()?.len();
    if bytes < 3 * SECTOR as u64 {
        return Ok(None);
    }
    let mut head = [0; 2 * SECTOR];
    image.read_exact_at(&mut head, 0)?;
    let (mbr, gpt) = head.split_at(SECTOR);
    if mbr[510..] != [0x55, 0xaa] {
        return Ok(None);
    }
    let boot_code = mbr[..440].iter().any(|byte| *byte != 0);
    let (bios, uefi) = if gpt.starts_with(b"EFI PART") {
        let types = gpt_types(image, gpt, bytes)?;
        (boot_code && types.contains(&BIOS_BOOT_TYPE), types.contains(&ESP_TYPE))
    } else {
        let uefi = mbr[446..510].chunks(16).any(|entry| entry[4] == ESP_MBR_TYPE);
        (boot_code, uefi)
    };
    Ok(match (bios, uefi) {
        (true, true) => Some(BootMode::UefiPreferred),
        (true, false) => Some(BootMode::LegacyBios),
        (false, true) => Some(BootMode::Uefi),
        (false, false) => None,
    })
}

fn gpt_types(image: &File, header: &[u8], image_bytes: u64) -> io::Result<Vec<[u8; 16]>> {
    let number = |at: usize, length: usize| {
        header[at..at + length].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    // UEFI specification, table "GPT Header": place, number and size of the entries.
    let (start, count, size) = (number(72, 8), number(80, 4), number(84, 4));
    let Some(start) = start.checked_mul(SECTOR as u64).filter(|start| *start < image_bytes) else {
        return Ok(Vec::new());
    };
    if !(128..=4096).contains(&size) {
        return Ok(Vec::new());
    }
    let wanted = count.saturating_mul(size).min(TABLE_BYTES_MAX as u64).min(image_bytes - start);
    let mut table = vec![0; wanted as usize];
    image.read_exact_at(&mut table, start)?;
    let types = table.chunks_exact(size as usize).filter_map(|entry| entry[..16].try_into().ok());
    Ok(types.collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    /// sfdisk writes the table, boot code is a byte.
    fn check_boot_mode(table: &str, boot_code: bool, expected: Option<BootMode>) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(64 << 20).unwrap();
        if !table.is_empty() {
            let mut sfdisk = Command::new("sfdisk")
                .args(["--quiet", "--no-reread", "--no-tell-kernel"])
                .arg(file.path())
                .stdin(Stdio::piped())
                .spawn()
                .expect("sfdisk of the package fdisk can be started");
            sfdisk.stdin.take().unwrap().write_all(table.as_bytes()).unwrap();
            assert!(sfdisk.wait().unwrap().success(), "{table}");
        }
        if boot_code {
            file.write_all(&[0xeb]).unwrap();
        }
        assert_eq!(boot_mode(file.as_file()).unwrap(), expected, "{table}");
    }

    #[test]
    fn the_partition_table_tells_what_starts_an_image() {
        const BIOS: &str = "size=1MiB, type=21686148-6449-6E6F-744E-656564454649\n";
        const ESP: &str = "size=8MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n";
        const LINUX: &str = "type=0FC63DAF-8483-4772-8E79-3D69D8477DE4\n";
        let gpt = |parts: &[&str]| format!("label: gpt\n{}", parts.concat());
        let both = gpt(&[BIOS, ESP, LINUX]);
        check_boot_mode(&both, true, Some(BootMode::UefiPreferred));
        check_boot_mode(&both, false, Some(BootMode::Uefi));
        check_boot_mode(&gpt(&[BIOS, LINUX]), true, Some(BootMode::LegacyBios));
        check_boot_mode(&gpt(&[ESP, LINUX]), false, Some(BootMode::Uefi));
        check_boot_mode(&gpt(&[LINUX]), true, None);
        check_boot_mode("label: dos\ntype=83, bootable\n", true, Some(BootMode::LegacyBios));
        let dos_esp = "label: dos\nsize=8MiB, type=ef\ntype=83\n";
        check_boot_mode(dos_esp, true, Some(BootMode::UefiPreferred));
        check_boot_mode("", true, None);
    }

    #[test]
    fn a_table_that_lies_is_read_within_the_image() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        file.write_all_at(&[0x55, 0xaa], 510).unwrap();
        file.write_all_at(b"EFI PART", 512).unwrap();
        for (start, count, size) in [(u64::MAX, 4u32, 128u32), (2, u32::MAX, 128), (2, 4, 0)] {
            file.write_all_at(&start.to_le_bytes(), 512 + 72).unwrap();
            file.write_all_at(&count.to_le_bytes(), 512 + 80).unwrap();
            file.write_all_at(&size.to_le_bytes(), 512 + 84).unwrap();
            assert_eq!(boot_mode(&file).unwrap(), None, "{start} {count} {size}");
        }
    }
}
