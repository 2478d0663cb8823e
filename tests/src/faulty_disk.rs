//! Disks that are full or broken: a small file system of a test's own, and a library that lets
//! single system calls of a daemon fail.
//!
//! The file system needs root (CI is root); the library works for everybody, but sees only calls
//! that go through the C library: SQLite's and Rust's own do.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::daemon::Setup;
use crate::fixture_plugins;

/// A tmpfs with a size limit. Dropping it unmounts it.
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts a file system of so many bytes and files.
    pub fn mount(bytes: u64, files: u64) -> SmallDisk {
        let folder = tempfile::Builder::new().prefix("disk-").tempdir().expect("a folder");
        let options = format!("size={bytes},nr_inodes={files},mode=755");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "imagefactory-test"]).arg(folder.path());
        assert!(mount.status().expect("mount can be started").success(), "this test needs root");
        SmallDisk { folder }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Fills it but for so many bytes.
    pub fn fill_but(&self, left: u64) {
        let numbers = rustix::fs::statvfs(self.path()).expect("it is mounted");
        let free = numbers.f_bavail * numbers.f_frsize;
        let filler = File::create(self.filler()).expect("a file");
        let flags = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&filler, flags, 0, free.saturating_sub(left)).expect("there is room");
    }

    /// Fills it to the last byte, also where it is written to meanwhile.
    pub fn fill(&self) {
        self.fill_but(1 << 20);
        let mut filler = File::options().append(true).open(self.filler()).expect("the filler");
        // Ends with an error: that is what "full" means.
        while filler.write_all(&[1; 4096]).is_ok() {}
    }

    /// Leaves no room for another file.
    pub fn use_all_files(&self) {
        let folder = self.path().join("files");
        fs::create_dir(&folder).expect("a folder");
        let mut count = 0;
        while File::create(folder.join(format!("{count}"))).is_ok() {
            count += 1;
        }
    }

    /// Room again.
    pub fn free(&self) {
        // Either may not be there.
        fs::remove_file(self.filler()).ok();
        fs::remove_dir_all(self.path().join("files")).ok();
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a daemon of a failed test may still be there. What fails shows in the mount
        // table.
        Command::new("umount").arg("--lazy").arg(self.path()).status().ok();
    }
}

/// System calls of one daemon that fail on demand.
pub struct FailingCalls {
    rules: tempfile::NamedTempFile,
}

impl FailingCalls {
    /// With no rules yet.
    pub fn new() -> FailingCalls {
        FailingCalls { rules: tempfile::NamedTempFile::new().expect("a file") }
    }

    /// A daemon under these rules.
    pub fn over(&self, setup: Setup) -> Setup {
        // The flags of fixtures hide everything but a plugin's entry.
        let library =
            fixture_plugins::c_library_with("failing-disk", &["-fvisibility=default", "-ldl"]);
        setup
            .environment("LD_PRELOAD", &library.display().to_string())
            .environment("FAILING_DISK", &self.rules.path().display().to_string())
    }

    /// From now on `call` (open, write, fsync, rename, copy) on paths that contain `part` fails.
    pub fn fail(&self, call: &str, error: i32, part: &str) {
        fs::write(self.rules.path(), format!("{call} {error} {part}\n")).expect("the rules");
    }

    /// From now on nothing that matches can be made or written at all.
    pub fn fail_all(&self, error: i32, part: &str) {
        let rule = |call: &str| format!("{call} {error} {part}\n");
        let rules: String = ["open", "write", "fsync", "rename", "copy"].map(rule).concat();
        fs::write(self.rules.path(), rules).expect("the rules");
    }

    /// Everything works again.
    pub fn heal(&self) {
        fs::write(self.rules.path(), "").expect("the rules");
    }
}

impl Default for FailingCalls {
    fn default() -> Self {
        FailingCalls::new()
    }
}
