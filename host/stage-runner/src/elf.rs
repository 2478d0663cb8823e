//! A cheap look at an ELF file, before the dynamic linker runs its constructors.
//!
//! Reads the header, the program headers and the dynamic section; every offset comes from a file
//! that may be hostile, so all reads are bounded and none is trusted further than its own bytes.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// What the loader must know before it loads.
#[derive(Debug, PartialEq, Eq)]
pub struct ElfLook {
    /// RPATH or RUNPATH name `$ORIGIN`.
    pub needs_origin: bool,
}

#[cfg(target_arch = "x86_64")]
const MACHINE: (u16, &str) = (62, "x86_64");
#[cfg(target_arch = "aarch64")]
const MACHINE: (u16, &str) = (183, "aarch64");
#[cfg(target_arch = "s390x")]
const MACHINE: (u16, &str) = (22, "s390x");
#[cfg(target_arch = "powerpc64")]
const MACHINE: (u16, &str) = (21, "ppc64");
#[cfg(target_arch = "riscv64")]
const MACHINE: (u16, &str) = (243, "riscv64");

const NATIVE_ENDIANNESS: u8 = if cfg!(target_endian = "little") { 1 } else { 2 };
const TYPE_SHARED: u16 = 3;
const SEGMENT_LOAD: u32 = 1;
const SEGMENT_DYNAMIC: u32 = 2;
const TAG_END: u64 = 0;
const TAG_STRING_TABLE: u64 = 5;
const TAG_RPATH: u64 = 15;
const TAG_RUNPATH: u64 = 29;
const HEADER_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 56;
const DYNAMIC_BYTES: usize = 16;
/// A shared library has about ten; 128 leaves room for odd linkers.
const SEGMENTS_MAX: usize = 128;
/// A large C++ library has some dozens.
const DYNAMIC_MAX: usize = 4096;
/// PATH_MAX: a longer search path cannot be meant.
const RUNPATH_BYTES_MAX: usize = 4096;

/// Refuses what is no shared library for this machine; the message continues "PATH: ".
pub fn look(file: &File) -> Result<ElfLook, String> {
    let header: [u8; HEADER_BYTES] = read(file, 0).ok_or("is no ELF file")?;
    if &header[..4] != b"\x7fELF" {
        return Err("is no ELF file".into());
    }
    let machine = u16_at(&header, 18);
    if header[4] != 2 || header[5] != NATIVE_ENDIANNESS || machine != MACHINE.0 {
        return Err(format!("is built for another machine (number {machine}), not {}", MACHINE.1));
    }
    let kind = u16_at(&header, 16);
    if kind != TYPE_SHARED {
        return Err(format!("is an ELF file of type {kind}, not a shared library (3)"));
    }
    let segments = segments(file, &header)?;
    Ok(ElfLook { needs_origin: search_paths(file, &segments)?.iter().any(|p| names_origin(p)) })
}

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    bytes: u64,
}

fn segments(file: &File, header: &[u8; HEADER_BYTES]) -> Result<Vec<Segment>, String> {
    let table = u64_at(header, 32);
    let (entry_bytes, count) = (u16_at(header, 54) as usize, u16_at(header, 56) as usize);
    if entry_bytes != SEGMENT_BYTES || count > SEGMENTS_MAX {
        return Err(format!("has {count} program headers of {entry_bytes} bytes: it is damaged"));
    }
    let segment = |index: usize| {
        let entry: [u8; SEGMENT_BYTES] =
            read(file, table.checked_add((index * SEGMENT_BYTES) as u64)?)?;
        Some(Segment {
            kind: u32_at(&entry, 0),
            offset: u64_at(&entry, 8),
            address: u64_at(&entry, 16),
            bytes: u64_at(&entry, 32),
        })
    };
    let all: Option<Vec<Segment>> = (0..count).map(segment).collect();
    all.ok_or_else(|| "ends within its program headers: it is damaged".into())
}

/// The texts of RPATH and RUNPATH.
fn search_paths(file: &File, segments: &[Segment]) -> Result<Vec<Vec<u8>>, String> {
    let Some(dynamic) = segments.iter().find(|segment| segment.kind == SEGMENT_DYNAMIC) else {
        return Err("has no dynamic section: it is no shared library".into());
    };
    let mut strings = None;
    let mut names = Vec::new();
    let entries = (dynamic.bytes as usize / DYNAMIC_BYTES).min(DYNAMIC_MAX);
    for index in 0..entries {
        let offset = dynamic.offset.checked_add((index * DYNAMIC_BYTES) as u64);
        let entry: [u8; DYNAMIC_BYTES] = offset
            .and_then(|offset| read(file, offset))
            .ok_or("ends within its dynamic section: it is damaged")?;
        match u64_at(&entry, 0) {
            TAG_END => break,
            TAG_STRING_TABLE => strings = Some(u64_at(&entry, 8)),
            TAG_RPATH | TAG_RUNPATH => names.push(u64_at(&entry, 8)),
            _ => {}
        }
    }
    let text = |name: u64| {
        let address = strings?.checked_add(name)?;
        let loaded = segments.iter().find(|segment| {
            segment.kind == SEGMENT_LOAD
                && address.checked_sub(segment.address).is_some_and(|at| at < segment.bytes)
        })?;
        let mut text = vec![0u8; RUNPATH_BYTES_MAX];
        let offset = loaded.offset.checked_add(address - loaded.address)?;
        let count = file.read_at(&mut text, offset).ok()?;
        let end = text[..count].iter().position(|byte| *byte == 0)?;
        text.truncate(end);
        Some(text)
    };
    let texts: Option<Vec<Vec<u8>>> = names.into_iter().map(text).collect();
    texts.ok_or_else(|| "has a RUNPATH that cannot be read: it is damaged".into())
}

fn names_origin(search_path: &[u8]) -> bool {
    let contains = |name: &[u8]| search_path.windows(name.len()).any(|part| part == name);
    contains(b"$ORIGIN") || contains(b"${ORIGIN}")
}

fn read<const N: usize>(file: &File, offset: u64) -> Option<[u8; N]> {
    let mut bytes = [0u8; N];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0u8; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_ne_bytes(four)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0u8; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(eight)
}
