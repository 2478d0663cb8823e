//! Partition tables that sfdisk wrote.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test says that it failed"
)]

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use imagefactory_toolkit_disk::partitions;

fn disk(script: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(64 << 20).unwrap();
    let mut sfdisk = Command::new("sfdisk")
        .arg("--quiet")
        .arg(file.path())
        .stdin(Stdio::piped())
        .spawn()
        .expect("sfdisk of the package fdisk");
    sfdisk.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(sfdisk.wait().unwrap().success());
    file
}

const GPT: &str = "label: gpt\n\
    start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649\n\
    start=8192, size=4096, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, \
    uuid=11111111-2222-3333-4444-55555555AAAA, name=root\n";

#[test]
fn a_gpt_is_read_and_its_backup_where_it_is_damaged() {
    let disk = disk(GPT);
    for damage in [false, true] {
        let file = File::options().read(true).write(true).open(disk.path()).unwrap();
        if damage {
            file.write_all_at(&[0xff; 64], 512).unwrap();
        }
        let found = partitions(&file).unwrap();
        let places: Vec<_> =
            found.iter().map(|it| (it.number, it.offset_bytes, it.bytes)).collect();
        assert_eq!(places, [(1, 1 << 20, 1 << 20), (2, 4 << 20, 2 << 20)], "{damage}");
        assert_eq!(found[1].name, "root");
        assert_eq!(found[1].id, "11111111-2222-3333-4444-55555555aaaa");
        assert_eq!(found[1].type_id, "0fc63daf-8483-4772-8e79-3d69d8477de4");
    }
}

#[test]
fn an_mbr_is_read_and_no_table_is_no_partition() {
    let with_mbr = disk("label: dos\nstart=2048, size=4096, type=83\n");
    let found = partitions(with_mbr.as_file()).unwrap();
    assert_eq!((found[0].offset_bytes, found[0].bytes), (1 << 20, 2 << 20));
    assert_eq!(found[0].type_id, "83");
    let empty = tempfile::tempfile().unwrap();
    assert_eq!(partitions(&empty).unwrap(), []);
    empty.set_len(1 << 20).unwrap();
    assert_eq!(partitions(&empty).unwrap(), []);
}

#[test]
fn a_table_that_leads_out_of_the_disk_is_damage() {
    let disk = disk(GPT);
    let short = disk.as_file();
    short.set_len(5 << 20).unwrap();
    let error = partitions(short).unwrap_err().to_string();
    assert!(error.contains("beyond the end"), "{error}");
}
