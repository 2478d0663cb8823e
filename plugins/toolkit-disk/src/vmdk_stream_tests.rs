//! The VMDK writer before its judge, qemu-img, and before damage.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::*;
use crate::inspection::{DiskFormat, inspect};
use crate::sample_disks::{SampleDisk, qemu_img};
use crate::sha256::sha256_of;

fn description() -> VmdkDescription {
    VmdkDescription::new("disk.vmdk", [7; 16])
}

/// Writes `disk.vmdk` beside the disk.
fn write(disk: &SampleDisk, threads: usize) -> Written {
    let mut output = File::create(disk.path("disk.vmdk")).unwrap();
    let watch = |_: u64| io::Result::Ok(());
    write_with_threads(&disk.open(), &mut output, &description(), (threads, watch)).unwrap()
}

fn compare(disk: &SampleDisk) -> Result<String, String> {
    let folder = disk.folder.path();
    qemu_img(folder, &["compare", "-f", "raw", "-F", "vmdk", "disk.raw", "disk.vmdk"])
}

#[test]
fn each_disk_is_read_back_as_it_was() {
    for disk in SampleDisk::all().into_iter().chain([SampleDisk::large()]) {
        let written = write(&disk, 2);
        let name = disk.name;
        let checked = qemu_img(disk.folder.path(), &["check", "-f", "vmdk", "disk.vmdk"]);
        checked.unwrap_or_else(|said| panic!("{name}: {said}"));
        compare(&disk).unwrap_or_else(|said| panic!("{name}: {said}"));
        let file = File::open(disk.path("disk.vmdk")).unwrap();
        let facts = inspect(&file).unwrap();
        let sectors = disk.open().metadata().unwrap().len().div_ceil(512);
        assert_eq!(
            (facts.format, facts.virtual_bytes),
            (DiskFormat::Vmdk, sectors * 512),
            "{name}"
        );
        let sha256 = sha256_of::<io::Error>(&file, |_| Ok(())).unwrap();
        assert_eq!(written, Written { bytes: facts.file_bytes, sha256 }, "{name}");
    }
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    for disk in SampleDisk::all() {
        let one = write(&disk, 1);
        for threads in [2, 3, 16] {
            assert_eq!(write(&disk, threads), one, "{}, {threads} threads", disk.name);
        }
    }
}

#[test]
fn written_zeros_and_holes_make_the_same_file() {
    let disk = SampleDisk::plain();
    let sparse = write(&disk, 2);
    let content = std::fs::read(disk.path("disk.raw")).unwrap();
    std::fs::write(disk.path("disk.raw"), content).unwrap();
    assert_eq!(write(&disk, 2), sparse);
}

#[test]
fn damage_anywhere_is_seen_by_the_judge() {
    let disk = SampleDisk::plain();
    write(&disk, 2);
    compare(&disk).unwrap();
    let file = File::options().read(true).write(true).open(disk.path("disk.vmdk")).unwrap();
    let end = file.metadata().unwrap().len();
    let first_grain = OVERHEAD_SECTORS * 512;
    // Deflated data, the magic number, and in the footer the directory's place.
    for at in [first_grain + 40, 0, end - 1024 + 60] {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x55], at).unwrap();
        assert!(compare(&disk).is_err(), "damage at {at} is not seen");
        file.write_all_at(&byte, at).unwrap();
    }
    compare(&disk).unwrap();
    // An end that is missing.
    file.set_len(end - 1536).unwrap();
    assert!(compare(&disk).is_err());
}

#[test]
fn the_stream_is_as_the_specification_draws_it() {
    let disk = SampleDisk::plain();
    write(&disk, 2);
    let bytes = std::fs::read(disk.path("disk.vmdk")).unwrap();
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    // Walks from marker to marker, as a reader that cannot seek does.
    let (mut at, mut seen) = (OVERHEAD_SECTORS as usize * 512, Vec::new());
    loop {
        let (value, size, kind) = (number(at), number(at + 8), number(at + 12));
        if size > 0 {
            seen.push(b'g');
            at = (at + 12 + size as usize).next_multiple_of(512);
            continue;
        }
        at += 512 * (1 + value as usize);
        seen.push(b"etdf"[kind as usize]);
        if kind == 0 {
            break;
        }
    }
    assert_eq!(at, bytes.len());
    seen.dedup();
    assert_eq!(String::from_utf8(seen).unwrap(), "gtgtgtdfe");
}

#[test]
fn progress_ends_at_the_size_and_the_watcher_can_end_it() {
    let disk = SampleDisk::plain();
    let mut seen = Vec::new();
    let watch = |done| {
        seen.push(done);
        io::Result::Ok(())
    };
    write_stream_optimized(&disk.open(), &mut io::sink(), &description(), watch).unwrap();
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!(seen.last(), Some(&(96 << 20)));
    let watch = |_| Err(io::Error::other("enough"));
    let ended = write_stream_optimized(&disk.open(), &mut io::sink(), &description(), watch);
    assert_eq!(ended.unwrap_err().to_string(), "enough");
}

#[test]
fn an_output_that_fails_fails_the_work() {
    let disk = SampleDisk::plain();
    let mut room = [0; 100_000];
    let ended = write_stream_optimized::<io::Error>(
        &disk.open(),
        &mut &mut room[..],
        &description(),
        |_| Ok(()),
    );
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::WriteZero);
}

#[test]
fn a_table_beyond_32_bits_is_refused_and_not_cut_off() {
    assert!(sector_number(u64::from(u32::MAX)).is_ok());
    assert_eq!(sector_number(1 << 32).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
}
