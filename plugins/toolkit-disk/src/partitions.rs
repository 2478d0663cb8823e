//! Where the partitions of a raw image lie, by its GPT or its MBR. Nothing is written; a damaged
//! primary GPT is read from its backup.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::inspection::{DiskError, DiskFormat};

/// Sectors of disk images have 512 bytes; no cloud takes others.
const SECTOR_BYTES: u64 = 512;

/// An MBR's partition type that says: look at the GPT.
const MBR_PROTECTIVE: u8 = 0xee;

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// As in `/dev/sda3`.
    pub number: u32,
    /// First byte.
    pub offset_bytes: u64,
    /// Length.
    pub bytes: u64,
    /// GPT: the type's UUID in lower case. MBR: two hexadecimal digits.
    pub type_id: String,
    /// GPT: the partition's UUID in lower case. MBR: empty.
    pub id: String,
    /// GPT: its name. MBR: empty.
    pub name: String,
}

/// The partitions, by number; none where there is no table.
pub fn partitions(image: &File) -> Result<Vec<Partition>, DiskError> {
    let mut mbr = [0; SECTOR_BYTES as usize];
    match image.read_exact_at(&mut mbr, 0) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(Vec::new()),
        other => other?,
    }
    if mbr[510..] != [0x55, 0xaa] {
        return Ok(Vec::new());
    }
    let entries = || mbr[446..510].chunks_exact(16);
    if entries().any(|entry| entry[4] == MBR_PROTECTIVE) {
        return read_gpt(image);
    }
    let number = |bytes: &[u8]| {
        u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])) * SECTOR_BYTES
    };
    let used = entries().zip(1..).filter(|(entry, _)| entry[4] != 0);
    let all = used.map(|(entry, index)| Partition {
        number: index,
        offset_bytes: number(&entry[8..]),
        bytes: number(&entry[12..]),
        type_id: format!("{:02x}", entry[4]),
        id: String::new(),
        name: String::new(),
    });
    check_inside(image, all.collect())
}

fn read_gpt(image: &File) -> Result<Vec<Partition>, DiskError> {
    let sectors = gpt::disk::LogicalBlockSize::Lb512;
    let disk = gpt::GptConfig::new()
        .writable(false)
        .logical_block_size(sectors)
        .open_from_device(image.try_clone()?)
        .map_err(|_| damaged("its partition table (GPT) and the backup of it are broken"))?;
    let mut all = Vec::new();
    for (number, partition) in disk.partitions() {
        let (Ok(start), Ok(bytes)) = (partition.bytes_start(sectors), partition.bytes_len(sectors))
        else {
            return Err(damaged("a partition is longer than every disk"));
        };
        all.push(Partition {
            number: *number,
            offset_bytes: start,
            bytes,
            type_id: partition.part_type_guid.guid.to_string(),
            id: partition.part_guid.to_string(),
            name: partition.name.clone(),
        });
    }
    check_inside(image, all)
}

fn check_inside(image: &File, all: Vec<Partition>) -> Result<Vec<Partition>, DiskError> {
    let bytes = image.metadata()?.len();
    let outside = |partition: &Partition| {
        partition.offset_bytes.checked_add(partition.bytes).is_none_or(|end| end > bytes)
    };
    if all.iter().any(outside) {
        return Err(damaged("a partition lies beyond the end of the disk"));
    }
    Ok(all)
}

fn damaged(what: &'static str) -> DiskError {
    DiskError::Damaged { format: DiskFormat::Raw, what }
}
