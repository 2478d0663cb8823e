//! Our writers of compressed formats beside the usual programs, in one run and by turns.
//!
//! `cargo bench -p imagefactory-toolkit-disk` makes a disk like a Debian's from this machine's
//! `/usr`, converts it [`ROUNDS`] times with each, checks that the disk within is the same, and
//! prints the table of docs/benchmarks/disk-conversion.md. Needs qemu-img, mke2fs, tar and gzip;
//! pigz takes part if it is there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark is a program for people, and a panic is how it says that it failed"
)]

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use imagefactory_toolkit_disk::{
    VmdkDescription, allocated_bytes, write_gce_archive, write_qcow2_zlib, write_stream_optimized,
};

const ROUNDS: usize = 3;
/// A small cloud image: 2 GiB, of which some 400 MB are programs, libraries and texts.
const DISK: &str = "2G";
const CONTENT: [&str; 3] = ["/usr/bin", "/usr/share/perl", "/usr/share/locale"];

/// One contender.
struct Contender {
    name: &'static str,
    /// The file that it writes.
    file: &'static str,
    run: Box<dyn Fn(&Path)>,
}

#[derive(Clone, Copy)]
struct Cost {
    wall_s: f64,
    processor_s: f64,
    bytes: u64,
}

fn main() {
    let folder = tempfile::tempdir_in(std::env::var_os("TMPDIR").unwrap_or("/tmp".into())).unwrap();
    let folder = folder.path();
    make_disk(folder);
    let disk = File::open(folder.join("disk.raw")).unwrap();
    let data = allocated_bytes(&disk).unwrap() >> 20;
    println!("disk of {DISK} with {data} MiB of data; median of {ROUNDS} rounds, by turns\n");
    println!("| format | by | wall s | processor s | size MB | wall, ours = 1 |");
    println!("|---|---|---|---|---|---|");
    for (format, contenders) in formats() {
        let costs = compete(folder, &contenders);
        for (contender, cost) in contenders.iter().zip(&costs) {
            println!(
                "| {format} | {} | {:.2} | {:.2} | {:.1} | {:.2} |",
                contender.name,
                cost.wall_s,
                cost.processor_s,
                cost.bytes as f64 / 1e6,
                cost.wall_s / costs[0].wall_s
            );
        }
    }
}

/// What is compared; ours first.
fn formats() -> Vec<(&'static str, Vec<Contender>)> {
    let contender = |name, file, run: fn(&Path)| Contender { name, file, run: Box::new(run) };
    let mut archives = vec![
        contender("ours", "ours.tar.gz", |folder| {
            let mut to = File::create(folder.join("ours.tar.gz")).unwrap();
            write_gce_archive::<io::Error>(&disk(folder), &mut to, |_| Ok(())).unwrap();
        }),
        contender("tar, gzip -6", "gzip.tar.gz", |folder| {
            shell(folder, "tar --format=oldgnu -Sc disk.raw | gzip -6 > gzip.tar.gz");
        }),
    ];
    if Command::new("pigz").arg("--version").output().is_ok() {
        archives.push(contender("tar, pigz -6", "pigz.tar.gz", |folder| {
            shell(folder, "tar --format=oldgnu -Sc disk.raw | pigz -6 > pigz.tar.gz");
        }));
    }
    vec![
        (
            "vmdk streamOptimized",
            vec![
                contender("ours", "ours.vmdk", |folder| {
                    let mut to = File::create(folder.join("ours.vmdk")).unwrap();
                    let description = VmdkDescription::new("ours.vmdk", [7; 16]);
                    let from = disk(folder);
                    write_stream_optimized::<io::Error>(&from, &mut to, &description, |_| Ok(()))
                        .unwrap();
                }),
                contender("qemu-img", "qemu.vmdk", |folder| {
                    convert(folder, &["vmdk", "-o", "subformat=streamOptimized"], "qemu.vmdk");
                }),
                contender("qemu-img -m 16 -W", "qemu-w.vmdk", |folder| {
                    let options = ["vmdk", "-m", "16", "-W", "-o", "subformat=streamOptimized"];
                    convert(folder, &options, "qemu-w.vmdk");
                }),
            ],
        ),
        (
            "qcow2 zlib",
            vec![
                contender("ours", "ours.qcow2", |folder| {
                    let path = folder.join("ours.qcow2");
                    let mut options = File::options();
                    options.read(true).write(true).create(true).truncate(true);
                    let to = options.open(path).unwrap();
                    write_qcow2_zlib::<io::Error>(&disk(folder), &to, |_| Ok(())).unwrap();
                }),
                contender("qemu-img", "qemu.qcow2", |folder| {
                    convert(folder, &["qcow2", "-c"], "qemu.qcow2");
                }),
                contender("qemu-img -m 16 -W", "qemu-w.qcow2", |folder| {
                    convert(folder, &["qcow2", "-m", "16", "-W", "-c"], "qemu-w.qcow2");
                }),
            ],
        ),
        ("tar.gz for Compute Engine", archives),
    ]
}

/// By turns, so that a busy minute hits all; the median of each.
fn compete(folder: &Path, contenders: &[Contender]) -> Vec<Cost> {
    let mut costs = vec![Vec::new(); contenders.len()];
    for _ in 0..ROUNDS {
        for (contender, costs) in contenders.iter().zip(&mut costs) {
            // Not into the other's write-back.
            assert!(Command::new("sync").arg("-f").arg(folder).status().unwrap().success());
            let (start, before) = (Instant::now(), processor_s());
            (contender.run)(folder);
            let wall_s = start.elapsed().as_secs_f64();
            let bytes = folder.join(contender.file).metadata().unwrap().len();
            costs.push(Cost { wall_s, processor_s: processor_s() - before, bytes });
        }
    }
    contenders.iter().for_each(|contender| check_same(folder, contender.file));
    let median = |mut costs: Vec<Cost>| {
        costs.sort_by(|a, b| a.wall_s.total_cmp(&b.wall_s));
        costs[ROUNDS / 2]
    };
    costs.into_iter().map(median).collect()
}

fn check_same(folder: &Path, file: &str) {
    let format = file.rsplit_once('.').unwrap().1;
    if format == "gz" {
        shell(folder, &format!("tar -xzOf {file} | cmp - disk.raw"));
    } else {
        shell(folder, &format!("qemu-img compare -q -f raw -F {format} disk.raw {file}"));
    }
}

/// A file system with this machine's programs and texts, made without being root.
fn make_disk(folder: &Path) {
    let there = CONTENT.iter().filter(|path| Path::new(path).exists());
    for path in there {
        let (parent, _) = path.rsplit_once('/').unwrap();
        shell(folder, &format!("mkdir -p tree{parent} && cp -a {path} tree{parent}/"));
    }
    shell(folder, &format!("truncate -s {DISK} disk.raw && mke2fs -q -t ext4 -d tree disk.raw"));
    shell(folder, "rm -rf tree && cat disk.raw > /dev/null");
}

fn disk(folder: &Path) -> File {
    File::open(folder.join("disk.raw")).unwrap()
}

fn convert(folder: &Path, options: &[&str], to: &str) {
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-f", "raw", "-O"]).args(options).args(["disk.raw", to]);
    assert!(command.current_dir(folder).status().unwrap().success());
}

fn shell(folder: &Path, script: &str) {
    let mut command = Command::new("sh");
    command.args(["-ec", script]).current_dir(folder).env("PATH", path_with_sbin());
    let status = command.stdin(Stdio::null()).status().unwrap();
    assert!(status.success(), "{script}: {status}");
}

/// mke2fs is not in an ordinary user's path.
fn path_with_sbin() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// User and system seconds of this process and of its children that have ended (proc(5), fields 14
/// to 17, in hundredths of a second).
fn processor_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(4);
    fields.map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}
