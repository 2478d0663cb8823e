//! The qcow2 writer before its judge, qemu-img, and before damage.

use std::fs::File;
use std::io;

use super::*;
use crate::inspection::{DiskFormat, inspect};
use crate::sample_disks::{SampleDisk, qemu_img};
use crate::sha256::sha256_of;

/// Writes `disk.qcow2` beside the disk; answers its checksum.
fn write(disk: &SampleDisk, threads: usize) -> String {
    let path = disk.path("disk.qcow2");
    let file =
        File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    let watch = |_: u64| io::Result::Ok(());
    let bytes = write_with_threads(&disk.open(), &file, threads, watch).unwrap();
    assert_eq!(bytes, file.metadata().unwrap().len());
    sha256_of::<io::Error>(&file, |_| Ok(())).unwrap()
}

fn compare(disk: &SampleDisk) -> Result<String, String> {
    let folder = disk.folder.path();
    qemu_img(folder, &["compare", "-f", "raw", "-F", "qcow2", "disk.raw", "disk.qcow2"])
}

#[test]
fn each_disk_is_read_back_as_it_was_and_checked_without_a_leak() {
    for disk in SampleDisk::all().into_iter().chain([SampleDisk::large()]) {
        write(&disk, 2);
        let name = disk.name;
        let checked = qemu_img(disk.folder.path(), &["check", "-f", "qcow2", "disk.qcow2"]);
        let checked = checked.unwrap_or_else(|said| panic!("{name}: {said}"));
        assert!(checked.contains("No errors were found"), "{name}: {checked}");
        compare(&disk).unwrap_or_else(|said| panic!("{name}: {said}"));
        let facts = inspect(&File::open(disk.path("disk.qcow2")).unwrap()).unwrap();
        let sectors = disk.open().metadata().unwrap().len().div_ceil(512);
        let wanted = (DiskFormat::Qcow2, sectors * 512);
        assert_eq!((facts.format, facts.virtual_bytes), wanted, "{name}");
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
fn it_is_compressed_and_a_guest_can_write_to_it() {
    let disk = SampleDisk::plain();
    write(&disk, 2);
    let data = disk.open().metadata().unwrap();
    let bytes = std::fs::metadata(disk.path("disk.qcow2")).unwrap().len();
    assert!(bytes < std::os::unix::fs::MetadataExt::blocks(&data) * 512 / 4, "{bytes}");
    let folder = disk.folder.path();
    for (format, image) in [("raw", "disk.raw"), ("qcow2", "disk.qcow2")] {
        let write = ["-f", format, "-c", "write -P 9 1536k 256k", image];
        let mut guest = std::process::Command::new("qemu-io");
        let wrote = guest.current_dir(folder).args(write).output().unwrap();
        assert!(wrote.status.success(), "{wrote:?}");
    }
    compare(&disk).unwrap();
    qemu_img(folder, &["check", "-f", "qcow2", "disk.qcow2"]).unwrap();
}

#[test]
fn damage_is_seen_by_the_judge() {
    let disk = SampleDisk::plain();
    write(&disk, 2);
    compare(&disk).unwrap();
    let file = File::options().read(true).write(true).open(disk.path("disk.qcow2")).unwrap();
    // The magic number, the place of the L1 table, and compressed data: its block type.
    for at in [0, 45, CLUSTER] {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x57], at).unwrap();
        assert!(compare(&disk).is_err(), "damage at {at} is not seen");
        file.write_all_at(&byte, at).unwrap();
    }
    compare(&disk).unwrap();
}

#[test]
fn what_is_ended_in_the_middle_is_no_qcow2() {
    let disk = SampleDisk::plain();
    let path = disk.path("disk.qcow2");
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    let watch = |_| Err(io::Error::other("enough"));
    let ended = write_qcow2_zlib(&disk.open(), &file, watch);
    assert_eq!(ended.unwrap_err().to_string(), "enough");
    assert!(file.metadata().unwrap().len() > 0);
    assert_eq!(inspect(&file).unwrap().format, DiskFormat::Raw);
}
