//! What a file is: format by magic number, virtual size, bytes that it occupies.
//!
//! Reads some hundred bytes of an open file and follows no reference to another one. The file is
//! whoever's who made it, so every number in it is doubted; a damaged header is an error and never
//! a size of nothing.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::extents::allocated_bytes;
use crate::vhdx;

/// The unit of all these headers.
const SECTOR: u64 = 512;

/// What a file could not be read as.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Reading failed.
    #[error("the image cannot be read")]
    Read(#[from] io::Error),
    /// It begins like a format and does not go on like one.
    #[error("the image begins like {format}, but {what}")]
    Damaged {
        /// What it begins like.
        format: DiskFormat,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Disk image formats that clouds and hypervisors take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiskFormat {
    /// The disk's bytes and nothing else; also whatever is not recognised.
    Raw,
    /// QEMU's.
    Qcow2,
    /// VMware's: sparse and streamOptimized.
    Vmdk,
    /// Virtual PC's and Azure's, fixed or dynamic; `vpc` in QEMU.
    Vhd,
    /// Hyper-V's.
    Vhdx,
    /// VirtualBox's.
    Vdi,
}

impl DiskFormat {
    /// All of them.
    pub const ALL: [DiskFormat; 6] = [
        DiskFormat::Raw,
        DiskFormat::Qcow2,
        DiskFormat::Vmdk,
        DiskFormat::Vhd,
        DiskFormat::Vhdx,
        DiskFormat::Vdi,
    ];

    /// As plugins and users call it; also the file name's extension.
    pub fn name(self) -> &'static str {
        match self {
            DiskFormat::Raw => "raw",
            DiskFormat::Qcow2 => "qcow2",
            DiskFormat::Vmdk => "vmdk",
            DiskFormat::Vhd => "vhd",
            DiskFormat::Vhdx => "vhdx",
            DiskFormat::Vdi => "vdi",
        }
    }

    /// As QEMU and libvirt call it.
    pub fn qemu_name(self) -> &'static str {
        match self {
            DiskFormat::Vhd => "vpc",
            other => other.name(),
        }
    }

    /// The format of either name.
    pub fn parse(name: &str) -> Option<DiskFormat> {
        DiskFormat::ALL.into_iter().find(|it| it.name() == name || it.qemu_name() == name)
    }
}

impl fmt::Display for DiskFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What inspection finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageFacts {
    /// By its first bytes, and for fixed VHD its last.
    pub format: DiskFormat,
    /// Size of the disk that a guest sees, in bytes. Of a raw image its file size.
    pub virtual_bytes: u64,
    /// Size of the file.
    pub file_bytes: u64,
    /// What the file occupies; less than its size where it has holes.
    pub allocated_bytes: u64,
}

/// Looks at the headers.
pub fn inspect(file: &File) -> Result<ImageFacts, DiskError> {
    let file_bytes = file.metadata()?.len();
    let format = format_of(file, file_bytes)?;
    let damaged = |what| DiskError::Damaged { format, what };
    let virtual_bytes = match format {
        DiskFormat::Raw => file_bytes,
        DiskFormat::Qcow2 => u64::from_be_bytes(field(file, format, 24)?),
        DiskFormat::Vmdk => u64::from_le_bytes(field(file, format, 12)?)
            .checked_mul(SECTOR)
            .ok_or_else(|| damaged("its capacity is beyond 16 EiB"))?,
        DiskFormat::Vhd => {
            // The footer; dynamic disks have a copy of it at the start.
            let footer = file_bytes.checked_sub(SECTOR).ok_or_else(|| damaged("it is cut off"))?;
            u64::from_be_bytes(field(file, format, footer + 48)?)
        }
        DiskFormat::Vhdx => vhdx::virtual_bytes(file)?,
        DiskFormat::Vdi => u64::from_le_bytes(field(file, format, 0x170)?),
    };
    Ok(ImageFacts { format, virtual_bytes, file_bytes, allocated_bytes: allocated_bytes(file)? })
}

fn format_of(file: &File, file_bytes: u64) -> io::Result<DiskFormat> {
    let mut head = [0; SECTOR as usize];
    let read = file_bytes.min(SECTOR) as usize;
    file.read_exact_at(&mut head[..read], 0)?;
    Ok(if head.starts_with(b"QFI\xfb") {
        DiskFormat::Qcow2
    } else if head.starts_with(b"KDMV") {
        DiskFormat::Vmdk
    } else if head.starts_with(b"vhdxfile") {
        DiskFormat::Vhdx
    } else if head[0x40..0x44] == [0x7f, 0x10, 0xda, 0xbe] {
        DiskFormat::Vdi
    } else if head.starts_with(b"conectix") || has_vhd_footer(file, file_bytes)? {
        DiskFormat::Vhd
    } else {
        DiskFormat::Raw
    })
}

fn has_vhd_footer(file: &File, file_bytes: u64) -> io::Result<bool> {
    let Some(footer) = file_bytes.checked_sub(SECTOR) else { return Ok(false) };
    let mut magic = [0; 8];
    file.read_exact_at(&mut magic, footer)?;
    Ok(&magic == b"conectix")
}

/// Bytes at a place; an end of the file before them is damage.
pub(crate) fn field<const N: usize>(
    file: &File,
    format: DiskFormat,
    at: u64,
) -> Result<[u8; N], DiskError> {
    let mut bytes = [0; N];
    match file.read_exact_at(&mut bytes, at) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(DiskError::Damaged { format, what: "it is cut off" })
        }
        Err(error) => Err(DiskError::Read(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn qemu_img(folder: &Path, arguments: &[&str]) {
        let output = Command::new("qemu-img").current_dir(folder).args(arguments).output();
        let output = output.expect("qemu-img of the package qemu-utils can be started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// qemu-img makes it, we look at it.
    fn check_made_by_qemu(format: DiskFormat, options: &str) {
        let folder = tempfile::tempdir().unwrap();
        let mut arguments = vec!["create", "-q", "-f", format.qemu_name()];
        if !options.is_empty() {
            arguments.extend(["-o", options]);
        }
        arguments.extend(["disk", "12345344"]); // 24112 sectors: no round number
        qemu_img(folder.path(), &arguments);
        let file = File::open(folder.path().join("disk")).unwrap();
        let facts = inspect(&file).unwrap();
        assert_eq!((facts.format, facts.virtual_bytes), (format, 12_345_344), "{options}");
        assert_eq!(facts.file_bytes, file.metadata().unwrap().len());
    }

    #[test]
    fn format_and_virtual_size_are_those_that_qemu_wrote() {
        check_made_by_qemu(DiskFormat::Raw, "");
        check_made_by_qemu(DiskFormat::Qcow2, "");
        check_made_by_qemu(DiskFormat::Qcow2, "compat=0.10");
        check_made_by_qemu(DiskFormat::Vmdk, "");
        check_made_by_qemu(DiskFormat::Vmdk, "subformat=streamOptimized");
        check_made_by_qemu(DiskFormat::Vhd, "subformat=dynamic,force_size=on");
        check_made_by_qemu(DiskFormat::Vhd, "subformat=fixed,force_size=on");
        check_made_by_qemu(DiskFormat::Vhdx, "");
        check_made_by_qemu(DiskFormat::Vdi, "");
    }

    #[test]
    fn what_is_cut_off_is_damaged_and_never_a_size() {
        for start in [&b"QFI\xfb"[..], b"KDMV\x01", b"vhdxfile", b"conectix"] {
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(start, 0).unwrap();
            let error = inspect(&file).unwrap_err();
            assert!(matches!(error, DiskError::Damaged { .. }), "{start:?}: {error}");
        }
        let huge = tempfile::tempfile().unwrap();
        huge.write_all_at(b"KDMV\x01\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", 0).unwrap();
        assert!(inspect(&huge).unwrap_err().to_string().contains("16 EiB"));
    }

    #[test]
    fn whatever_is_not_recognised_is_raw_of_its_own_size() {
        for bytes in [&b""[..], b"x", &[0x55; 700]] {
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(bytes, 0).unwrap();
            let facts = inspect(&file).unwrap();
            assert_eq!((facts.format, facts.virtual_bytes), (DiskFormat::Raw, bytes.len() as u64));
        }
    }

    #[test]
    fn either_name_of_a_format_is_read() {
        assert_eq!(DiskFormat::parse("vpc"), Some(DiskFormat::Vhd));
        assert_eq!(DiskFormat::parse("vhd"), Some(DiskFormat::Vhd));
        assert_eq!(DiskFormat::parse("ova"), None);
        for format in DiskFormat::ALL {
            assert_eq!(DiskFormat::parse(format.name()), Some(format));
        }
    }
}
