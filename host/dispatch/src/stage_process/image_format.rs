//! Recognises disk image formats by their magic numbers, and images that point elsewhere.
//!
//! A format that names another file (a backing file, an extent, a parent disk) would make a later
//! conversion read that file with the host's rights, so an image that does is refused here. Reads
//! at most some hundred bytes of an open file; never by path.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A sector, the unit of all these headers.
const SECTOR: u64 = 512;

/// Largest embedded VMDK descriptor that is looked at; VMware's own are 20 sectors.
const VMDK_DESCRIPTOR_BYTES_MAX: u64 = 64 << 10;

/// What the bytes of a file say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProbedFormat {
    /// `QFI\xfb`.
    Qcow2,
    /// `KDMV`: hosted sparse and streamOptimized.
    Vmdk,
    /// `conectix`.
    Vhd,
    /// `vhdxfile`.
    Vhdx,
    /// VirtualBox.
    Vdi,
    /// None of them: raw, or something that is no disk format.
    Other,
}

impl ProbedFormat {
    /// The name, as plugins declare it.
    pub(super) fn name(self) -> &'static str {
        match self {
            ProbedFormat::Qcow2 => "qcow2",
            ProbedFormat::Vmdk => "vmdk",
            ProbedFormat::Vhd => "vhd",
            ProbedFormat::Vhdx => "vhdx",
            ProbedFormat::Vdi => "vdi",
            ProbedFormat::Other => "raw",
        }
    }

    /// May a file that looks like this be declared as `name`? Names that we cannot probe (tar, iso)
    /// fit everything that is not recognised as something else.
    pub(super) fn fits(self, name: &str) -> bool {
        let name = if name == "vpc" { "vhd" } else { name };
        match self {
            ProbedFormat::Other => !["qcow2", "vmdk", "vhd", "vhdx", "vdi"].contains(&name),
            known => known.name() == name,
        }
    }
}

/// Looks at the first sectors and the last one.
pub(super) fn probe(file: &File) -> io::Result<ProbedFormat> {
    let head = Head::read(file)?;
    let bytes = file.metadata()?.len();
    Ok(if head.starts_with(b"QFI\xfb") {
        ProbedFormat::Qcow2
    } else if head.starts_with(b"KDMV") {
        ProbedFormat::Vmdk
    } else if head.starts_with(b"vhdxfile") {
        ProbedFormat::Vhdx
    } else if head.u32_le(0x40) == Some(0xbeda_107f) {
        ProbedFormat::Vdi
    } else if head.starts_with(b"conectix") || has_vhd_footer(file, bytes)? {
        ProbedFormat::Vhd
    } else {
        ProbedFormat::Other
    })
}

/// The format of a disk image that comes from outside, by its first bytes; or why it is not taken:
/// it "has a backing file".
pub fn format_of_import(file: &File) -> io::Result<Result<&'static str, String>> {
    let format = probe(file)?;
    Ok(match points_elsewhere(file, format)? {
        Some(why) => Err(why),
        None => Ok(format.name()),
    })
}

/// Why the image does not stand alone; `None` = it does, as far as its header tells.
pub(super) fn points_elsewhere(file: &File, format: ProbedFormat) -> io::Result<Option<String>> {
    let head = Head::read(file)?;
    Ok(match format {
        ProbedFormat::Qcow2 => {
            let backing = head.u64_be(8).unwrap_or(0) != 0;
            let version = head.u32_be(4).unwrap_or(0);
            // incompatible_features bit 2 (version 3): the data lie in an external file.
            let external = version >= 3 && head.u64_be(72).unwrap_or(0) & 4 != 0;
            match (backing, external) {
                (true, _) => Some("has a backing file".to_owned()),
                (_, true) => Some("keeps its data in an external file".to_owned()),
                (false, false) => None,
            }
        }
        ProbedFormat::Vmdk => vmdk_points_elsewhere(file, &head)?,
        ProbedFormat::Vhd => {
            let bytes = file.metadata()?.len();
            let mut footer = [0; SECTOR as usize];
            if head.starts_with(b"conectix") {
                file.read_exact_at(&mut footer, 0)?;
            } else {
                file.read_exact_at(&mut footer, bytes.saturating_sub(SECTOR))?;
            }
            // Disk type at 60: 2 fixed, 3 dynamic, 4 differencing.
            (footer.get(60..64) == Some(&[0, 0, 0, 4])).then(|| "is a differencing disk".to_owned())
        }
        // Image type at 0x4c: 1 dynamic, 2 fixed, 3 undo, 4 differencing.
        ProbedFormat::Vdi => {
            matches!(head.u32_le(0x4c), Some(3 | 4)).then(|| "is a differencing disk".to_owned())
        }
        // VHDX keeps its parent locator deep in its metadata region; qemu-img opens no parent of
        // it.
        ProbedFormat::Vhdx => None,
        ProbedFormat::Other if head.starts_with(b"# Disk DescriptorFile") => {
            Some("is a VMDK descriptor, which names other files; write a sparse VMDK".to_owned())
        }
        ProbedFormat::Other => None,
    })
}

/// The descriptor within a sparse VMDK: its sector at 28, its length in sectors at 36.
fn vmdk_points_elsewhere(file: &File, head: &Head) -> io::Result<Option<String>> {
    let offset = head.u64_le(28).unwrap_or(0).saturating_mul(SECTOR);
    let bytes = head.u64_le(36).unwrap_or(0).saturating_mul(SECTOR);
    if offset == 0 || bytes == 0 {
        return Ok(None);
    }
    let mut text = vec![0; bytes.min(VMDK_DESCRIPTOR_BYTES_MAX) as usize];
    let read = file.read_at(&mut text, offset)?;
    text.truncate(read);
    let text = String::from_utf8_lossy(&text).to_ascii_lowercase();
    let has_parent = text.lines().any(|line| {
        let line = line.trim();
        line.starts_with("parentfilenamehint")
            || line
                .strip_prefix("parentcid")
                .and_then(|rest| rest.trim_start().strip_prefix('='))
                .is_some_and(|cid| cid.trim() != "ffffffff")
    });
    Ok(has_parent.then(|| "has a parent disk".to_owned()))
}

fn has_vhd_footer(file: &File, bytes: u64) -> io::Result<bool> {
    let mut magic = [0; 8];
    if bytes < SECTOR {
        return Ok(false);
    }
    file.read_exact_at(&mut magic, bytes - SECTOR)?;
    Ok(&magic == b"conectix")
}

/// The first sector, or less of a small file.
struct Head(Vec<u8>);

impl Head {
    fn read(file: &File) -> io::Result<Self> {
        let mut bytes = vec![0; SECTOR as usize];
        let mut read = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        bytes.truncate(read);
        Ok(Head(bytes))
    }

    fn starts_with(&self, magic: &[u8]) -> bool {
        self.0.starts_with(magic)
    }

    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at + N)?.try_into().ok()
    }

    fn u32_le(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    fn u32_be(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    fn u64_le(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    fn u64_be(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn sector(pieces: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; 2048];
        for (at, piece) in pieces {
            bytes[*at..at + piece.len()].copy_from_slice(piece);
        }
        bytes
    }

    fn check(bytes: &[u8], format: ProbedFormat, elsewhere: bool) {
        let file = file(bytes);
        assert_eq!(probe(&file).unwrap(), format);
        let found = points_elsewhere(&file, format).unwrap();
        assert_eq!(found.is_some(), elsewhere, "{format:?}: {found:?}");
    }

    #[test]
    fn formats_are_told_by_their_bytes_and_links_to_other_files_are_seen() {
        use ProbedFormat::*;
        check(&sector(&[(0, b"QFI\xfb\0\0\0\x03")]), Qcow2, false);
        check(&sector(&[(0, b"QFI\xfb\0\0\0\x02"), (8, &[0, 0, 0, 0, 0, 0, 1, 0])]), Qcow2, true);
        check(&sector(&[(0, b"QFI\xfb\0\0\0\x03"), (79, &[4])]), Qcow2, true);
        let sparse = (0, &b"KDMV"[..]);
        let place = [(28, &[1u8][..]), (36, &[2u8][..])];
        let orphan = (512, &b"parentCID=ffffffff\n"[..]);
        check(&sector(&[sparse, place[0], place[1], orphan]), Vmdk, false);
        let child = (512, &b"CID=1\nparentCID = 12345678\n"[..]);
        check(&sector(&[sparse, place[0], place[1], child]), Vmdk, true);
        check(b"# Disk DescriptorFile\nRW 1 FLAT \"/etc/shadow\" 0\n", Other, true);
        check(&sector(&[(1536, b"conectix"), (1596, &[0, 0, 0, 2])]), Vhd, false);
        check(&sector(&[(1536, b"conectix"), (1596, &[0, 0, 0, 4])]), Vhd, true);
        check(&sector(&[(0, b"vhdxfile")]), Vhdx, false);
        check(&sector(&[(0x40, &[0x7f, 0x10, 0xda, 0xbe]), (0x4c, &[1])]), Vdi, false);
        check(&sector(&[(0x40, &[0x7f, 0x10, 0xda, 0xbe]), (0x4c, &[4])]), Vdi, true);
        check(&sector(&[(510, &[0x55, 0xaa])]), Other, false);
        check(b"x", Other, false);
    }

    #[test]
    fn a_disk_format_never_passes_as_raw_nor_raw_as_a_disk_format() {
        assert!(!ProbedFormat::Qcow2.fits("raw"), "a backing file would be opened as raw later");
        assert!(!ProbedFormat::Other.fits("qcow2"));
        assert!(ProbedFormat::Other.fits("raw") && ProbedFormat::Other.fits("tar"));
        assert!(ProbedFormat::Vhd.fits("vpc") && ProbedFormat::Vhd.fits("vhd"));
    }
}
