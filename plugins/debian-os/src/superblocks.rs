//! The backup superblocks of the root file system, made equal in every build.
//!
//! Each carries how much was ever written to the file system, which is chance; debugfs sets that in
//! the first superblock only. Offsets: Linux, `fs/ext4/ext4.h`. Called by `disk`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use imagefactory_plugin_sdk::author::Result;

const SUPERBLOCK_BYTES: usize = 1024;
const MAGIC_AT: usize = 0x38;
const MAGIC: [u8; 2] = [0x53, 0xef];
const READ_ONLY_FEATURES_AT: usize = 0x64;
const HAS_CHECKSUMS: u32 = 0x400;
const KBYTES_WRITTEN_AT: usize = 0x178;
/// The last member: CRC-32C of all before it.
const CHECKSUM_AT: usize = 0x3fc;

/// Says zero in all backups of the file system at `offset` bytes of `image`, which has `blocks`
/// blocks of 4096 bytes.
pub(crate) fn forget_writes(image: &Path, offset: u64, blocks: u64) -> Result<()> {
    // A block of bits describes a group: 4096 × 8.
    const GROUP_BLOCKS: u64 = 32_768;
    let file = File::options().read(true).write(true).open(image)?;
    for group in (1..blocks.div_ceil(GROUP_BLOCKS)).filter(|group| has_backup(*group)) {
        let at = offset + group * GROUP_BLOCKS * 4096;
        let mut superblock = [0; SUPERBLOCK_BYTES];
        file.read_exact_at(&mut superblock, at)?;
        if superblock[MAGIC_AT..MAGIC_AT + 2] == MAGIC {
            forget(&mut superblock);
            file.write_all_at(&superblock, at)?;
        }
    }
    Ok(())
}

fn forget(superblock: &mut [u8; SUPERBLOCK_BYTES]) {
    superblock[KBYTES_WRITTEN_AT..KBYTES_WRITTEN_AT + 8].fill(0);
    let mut features = [0; 4];
    features.copy_from_slice(&superblock[READ_ONLY_FEATURES_AT..READ_ONLY_FEATURES_AT + 4]);
    if u32::from_le_bytes(features) & HAS_CHECKSUMS != 0 {
        let checksum = crc32c(&superblock[..CHECKSUM_AT]);
        superblock[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// The feature sparse_super: group 1 and the powers of 3, 5 and 7.
fn has_backup(group: u64) -> bool {
    let is_power_of = |base: u64| {
        let mut power = base;
        while power < group {
            power *= base;
        }
        power == group
    };
    group == 1 || [3, 5, 7].into_iter().any(is_power_of)
}

/// CRC-32C as ext4 has it: begun with ones, not inverted at the end. A few KiB, so bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn backups_are_where_ext4_has_them() {
        let backups: Vec<u64> = (1..60).filter(|group| has_backup(*group)).collect();
        assert_eq!(backups, [1, 3, 5, 7, 9, 25, 27, 49]);
    }

    #[test]
    fn a_backup_stays_whole_and_forgets_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("root.ext4");
        File::create(&image).unwrap().set_len(600 << 20).unwrap();
        let made = Command::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-b", "4096"])
            .arg(&image)
            .status();
        assert!(made.unwrap().success());
        let written = |image: &Path| {
            let mut field = [0; 8];
            let at = 32_768 * 4096 + KBYTES_WRITTEN_AT as u64;
            File::open(image).unwrap().read_exact_at(&mut field, at).unwrap();
            u64::from_le_bytes(field)
        };
        assert_ne!(written(&image), 0, "mke2fs counts what it writes");
        forget_writes(&image, 0, (600 << 20) / 4096).unwrap();
        assert_eq!(written(&image), 0);
        // Reads the backup as the truth, its checksum included.
        let checked = Command::new("dumpe2fs")
            .args(["-h", "-o", "superblock=32768", "-o", "blocksize=4096"])
            .arg(&image)
            .output()
            .unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}
