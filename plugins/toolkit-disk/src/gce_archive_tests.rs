//! The archive before its judges: GNU tar, gzip, and a reader of another make (Python's).

use std::fs::File;
use std::io;
use std::process::Command;

use super::*;
use crate::sample_disks::SampleDisk;
use crate::sha256::sha256_of;

/// Writes `disk.tar.gz` beside the disk.
fn write(disk: &SampleDisk, threads: usize) -> Written {
    let mut output = File::create(disk.path("disk.tar.gz")).unwrap();
    let watch = |_: u64| io::Result::Ok(());
    write_with_threads(&disk.open(), &mut output, threads, watch).unwrap()
}

/// Unpacks `disk.raw` into the folder `out`.
fn unpack(disk: &SampleDisk, program: &[&str]) -> Result<File, String> {
    let out = disk.path("out");
    std::fs::create_dir_all(&out).unwrap();
    let output = Command::new(program[0]).args(&program[1..]).current_dir(&out).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", program[0]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() || !said.is_empty() {
        return Err(said);
    }
    Ok(File::open(out.join("disk.raw")).unwrap())
}

const GNU_TAR: [&str; 3] = ["tar", "-xzf", "../disk.tar.gz"];
const PYTHON: [&str; 3] =
    ["python3", "-c", "import tarfile; tarfile.open('../disk.tar.gz').extract('disk.raw')"];

fn digest(file: &File) -> String {
    sha256_of::<io::Error>(file, |_| Ok(())).unwrap()
}

#[test]
fn each_disk_is_unpacked_as_it_was_and_sparse() {
    for disk in SampleDisk::all() {
        let written = write(&disk, 2);
        let archive = File::open(disk.path("disk.tar.gz")).unwrap();
        let bytes = archive.metadata().unwrap().len();
        assert_eq!(written, Written { bytes, sha256: digest(&archive) }, "{}", disk.name);
        for judge in [&GNU_TAR, &PYTHON] {
            let unpacked = unpack(&disk, judge).unwrap_or_else(|said| panic!("{said}"));
            assert_eq!(digest(&unpacked), digest(&disk.open()), "{}, {}", disk.name, judge[0]);
            let blocks = |file: &File| {
                std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap()) * 512
            };
            assert!(blocks(&unpacked) <= blocks(&disk.open()) + (1 << 20), "{}", disk.name);
        }
    }
}

#[test]
fn it_is_the_format_that_the_importer_asks_for() {
    let disk = SampleDisk::plain();
    write(&disk, 2);
    let listed = Command::new("tar").arg("-tvzf").arg(disk.path("disk.tar.gz")).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.starts_with("-rw-r--r-- 0/0       100663296 1970-01-01"), "{listed}");
    assert!(listed.trim_end().ends_with(" disk.raw"), "{listed}");
    let mut head = [0; 512];
    let packed = File::open(disk.path("disk.tar.gz")).unwrap();
    io::Read::read_exact(&mut flate2::read::GzDecoder::new(&packed), &mut head).unwrap();
    assert_eq!(&head[257..265], b"ustar  \0");
    // One member: a reader that knows of no others sees all of it.
    let mut whole = flate2::read::GzDecoder::new(File::open(disk.path("disk.tar.gz")).unwrap());
    let bytes = io::copy(&mut whole, &mut io::sink()).unwrap();
    assert!(bytes > 3 << 20 && bytes.is_multiple_of(RECORD), "{bytes}");
}

#[test]
fn a_size_that_octal_digits_cannot_say_is_read_by_both() {
    let disk = SampleDisk::large();
    write(&disk, 2);
    let archive = disk.path("disk.tar.gz");
    let script = "import sys, tarfile; print(tarfile.open(sys.argv[1]).getmember('disk.raw').size)";
    for command in [&["tar", "-tvzf"][..], &["python3", "-c", script]] {
        let listed = Command::new(command[0]).args(&command[1..]).arg(&archive).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.contains("9663676416"), "{}: {listed}", command[0]);
    }
}

#[test]
fn the_bytes_do_not_depend_on_threads_or_on_who_made_the_holes() {
    for disk in SampleDisk::all() {
        let one = write(&disk, 1);
        for threads in [2, 5] {
            assert_eq!(write(&disk, threads), one, "{}, {threads} threads", disk.name);
        }
    }
    let disk = SampleDisk::plain();
    let sparse = write(&disk, 2);
    let content = std::fs::read(disk.path("disk.raw")).unwrap();
    std::fs::write(disk.path("disk.raw"), content).unwrap();
    assert_eq!(write(&disk, 2), sparse);
}

#[test]
fn damage_is_seen_by_the_judge() {
    let disk = SampleDisk::plain();
    write(&disk, 2);
    let bytes = std::fs::read(disk.path("disk.tar.gz")).unwrap();
    // The magic number, deflated data, and the checksum.
    for at in [0, bytes.len() / 2, bytes.len() - 6] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        std::fs::write(disk.path("disk.tar.gz"), damaged).unwrap();
        assert!(unpack(&disk, &GNU_TAR).is_err(), "damage at {at} is not seen");
    }
    std::fs::write(disk.path("disk.tar.gz"), &bytes[..bytes.len() - 100]).unwrap();
    assert!(unpack(&disk, &GNU_TAR).is_err());
}

#[test]
fn the_watcher_can_end_it_while_it_looks_and_while_it_packs() {
    let disk = SampleDisk::plain();
    for turns in [0, 4] {
        let mut left = turns;
        let watch = |_| {
            left -= 1;
            if left < 0 { Err(io::Error::other("enough")) } else { Ok(()) }
        };
        let ended = write_gce_archive(&disk.open(), &mut io::sink(), watch);
        assert_eq!(ended.unwrap_err().to_string(), "enough");
    }
}
