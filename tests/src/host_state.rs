//! Snapshots of what must be the same before and after a stage.
//!
//! Other programs of the machine start processes and mount things at the same time, so nothing here
//! compares the whole machine. What belongs to a rig carries its *mark* (a random word that stands
//! in the path of its folder, in the arguments of its programs and in the names of what it leaves)
//! or its own user ids; only that is looked for. Files below a folder and a process's own
//! descriptors are compared in full.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long what was killed may take to vanish from /proc: the kernel takes thousands of processes
/// and gigabytes apart in that time even on a loaded machine.
const VANISH_PATIENCE: Duration = Duration::from_secs(20);

/// What may belong to a rig.
#[derive(Debug, Clone)]
pub struct Belongings {
    /// Stands in paths, arguments and names.
    pub mark: String,
    /// User ids that nobody else on the machine has.
    pub uids: Range<u32>,
    /// Size of a System V shared memory segment that only this rig would make.
    pub shm_bytes: u64,
}

impl Belongings {
    /// Everything of the rig that is on the machine now, each as one line for people.
    pub fn on_this_machine(&self) -> Vec<String> {
        let processes = self.processes().into_iter();
        let mut found: Vec<String> = processes.map(|(_, line)| line).collect();
        found.extend(lines_with("mount", Path::new("/proc/self/mountinfo"), &self.mark));
        found.extend(self.loop_devices());
        found.extend(self.shared_memory());
        found.extend(self.stray_files().iter().map(|path| format!("file {}", path.display())));
        found
    }

    /// Waits until nothing of the rig is left; answers what is still there after 20 s.
    pub fn wait_until_gone(&self) -> Vec<String> {
        let start = Instant::now();
        loop {
            let left = self.on_this_machine();
            if left.is_empty() || start.elapsed() > VANISH_PATIENCE {
                return left;
            }
            // Nothing announces the end of a process that is not our child: look again.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Removes what should not be there, so that one failed test does not fail the next.
    pub fn clear(&self) {
        for path in self.stray_files() {
            // It carries our mark; if it has gone meanwhile, so much the better.
            fs::remove_file(path).unwrap_or_default();
        }
        for (pid, _) in self.processes() {
            // SAFETY: kill has no memory effects; the process carries our mark or our ids.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }

    fn processes(&self) -> Vec<(i32, String)> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
            else {
                continue;
            };
            if pid.unsigned_abs() == std::process::id() {
                continue;
            }
            // A process that ends meanwhile answers nothing: it is gone, which is what we want.
            let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            let maps = fs::read_to_string(entry.path().join("maps")).unwrap_or_default();
            let has_our_uid = status_uids(&status).iter().any(|uid| self.uids.contains(uid));
            if has_our_uid || command.contains(&self.mark) || maps.contains(&self.mark) {
                let name = status.lines().next().unwrap_or_default().replace("Name:\t", "");
                found.push((pid, format!("process {pid} {name}: {command}")));
            }
        }
        found
    }

    fn loop_devices(&self) -> Vec<String> {
        let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
        let backing = devices.map(|device| device.path().join("loop/backing_file"));
        backing.flat_map(|file| lines_with("loop device", &file, &self.mark)).collect()
    }

    fn shared_memory(&self) -> Vec<String> {
        let bytes = self.shm_bytes.to_string();
        let table = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
        let ours = table.lines().filter(|line| line.split_whitespace().any(|word| word == bytes));
        ours.map(|line| format!("shared memory {line}")).collect()
    }

    /// Files named after the rig in places where everybody may write, besides its own folder.
    fn stray_files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for folder in ["/", "/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", "/etc", "/root"]
        {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.contains(&format!("stray-{}", self.mark)) {
                    found.push(entry.path());
                }
            }
        }
        found
    }
}

/// Descriptors of a process by what they point to, with how many: inode numbers are left out, since
/// a socket that was closed and opened again is still one socket.
pub fn descriptors_of(pid: u32) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    let folder = PathBuf::from(format!("/proc/{pid}/fd"));
    for entry in fs::read_dir(&folder).expect("descriptors can be listed").flatten() {
        // The descriptor of this very listing is gone again.
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy();
        if target.starts_with(&format!("/proc/{pid}/fd")) {
            continue;
        }
        let kind = target.split(":[").next().unwrap_or_default().to_owned();
        *count.entry(kind).or_insert(0) += 1;
    }
    count
}

/// Children of a process, dead ones that nobody waited for included, as `PID NAME`.
pub fn children_of(pid: u32) -> Vec<String> {
    let mut children = Vec::new();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in tasks {
        let list = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in list.split_whitespace() {
            let name = fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
            children.push(format!("{child} {}", name.trim()));
        }
    }
    children
}

/// The largest amount of memory that a process ever had resident, in bytes.
pub fn peak_memory_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kilobytes = line.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
    kilobytes.expect("the kernel tells the peak of a process") * 1024
}

/// Every file below a folder with type, mode, owner, links, size and content: two snapshots are
/// equal exactly if nothing changed.
pub fn files_below(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the rig can be read") {
            let path = entry.expect("an entry of the rig can be read").path();
            let about = fs::symlink_metadata(&path).expect("a file of the rig is there");
            let mut line = format!("mode {:o} uid {} ", about.mode(), about.uid());
            let kind = about.file_type();
            let written = if kind.is_file() {
                let content = fs::read(&path).expect("a file of the rig can be read");
                write!(
                    line,
                    "links {} bytes {} sum {}",
                    about.nlink(),
                    content.len(),
                    sum(&content)
                )
            } else if kind.is_symlink() {
                let target = fs::read_link(&path).expect("a link of the rig can be read");
                write!(line, "link to {}", target.display())
            } else {
                write!(line, "special {}", kind.is_fifo() || kind.is_block_device())
            };
            written.expect("a String takes all");
            found.insert(path.clone(), line);
            if kind.is_dir() {
                open.push(path);
            }
        }
    }
    found
}

/// What differs between two snapshots, one line each: `- before`, `+ after`.
pub fn differences<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
) -> Vec<String> {
    let gone = before.iter().filter(|(key, value)| after.get(key) != Some(value));
    let come = after.iter().filter(|(key, value)| before.get(key) != Some(value));
    let gone = gone.map(|(key, value)| format!("- {key:?}: {value:?}"));
    gone.chain(come.map(|(key, value)| format!("+ {key:?}: {value:?}"))).collect()
}

/// Real, effective, saved and file system user id.
fn status_uids(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn lines_with(what: &str, file: &Path, mark: &str) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let ours = text.lines().filter(|line| line.contains(mark));
    ours.map(|line| format!("{what} {line}")).collect()
}

/// FNV-1a: enough to see that content changed.
fn sum(content: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    content.iter().fold(0xcbf2_9ce4_8422_2325, step)
}
