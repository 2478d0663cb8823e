//! Opens a plugin's library so that the file that was checked is the file that is loaded.
//!
//! Nothing of the plugin is executed here. It happens with the daemon's own rights, before any
//! namespace: inside a user namespace owners would look different. The caller loads the result
//! through its descriptor (`negotiation.rs`).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use imagefactory_model::frames::PluginLibrary;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::elf;
use crate::error::RunnerError;

/// Larger than any plugin seen (a Go cloud plugin with debug information takes 150 MiB); bounds
/// the time that the checksum takes.
const LIBRARY_BYTES_MAX: u64 = 512 << 20;

/// A library whose file, folders, checksum and ELF header are in order.
#[derive(Debug)]
pub struct CheckedLibrary {
    /// Where it was found.
    pub path: PathBuf,
    /// Lower-case hex of the open file.
    pub sha256: String,
    file: File,
    load_by_path: bool,
}

impl CheckedLibrary {
    /// What `dlopen` is to be given.
    pub fn load_path(&self) -> PathBuf {
        if self.load_by_path {
            self.path.clone()
        } else {
            PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
        }
    }
}

/// For a runner that loads nothing.
pub fn open_nothing() -> Result<CheckedLibrary, RunnerError> {
    let path = PathBuf::from("/dev/null");
    let file = File::open(&path).map_err(|error| refuse(&path, error, ""))?;
    Ok(CheckedLibrary { path, sha256: String::new(), file, load_by_path: true })
}

/// Opens and checks the library of a manifest.
pub fn open_checked(library: &PluginLibrary) -> Result<CheckedLibrary, RunnerError> {
    let opened = open_trusted(&library.path, library.trusted_uid)?;
    let file = File::from(opened.file);
    let sha256 = checksum(&file).map_err(|error| refuse(&library.path, error, ""))?;
    if let Some(expected) = &library.sha256
        && !expected.eq_ignore_ascii_case(&sha256)
    {
        return Err(refuse(
            &library.path,
            format!("its SHA-256 is {sha256}, the manifest says {expected}"),
            "reinstall the plugin's package, or correct library.sha256 in its manifest",
        ));
    }
    let look = elf::look(&file).map_err(|fault| {
        let hint = "a plugin is a 64-bit shared library built for this machine";
        refuse(&library.path, fault, hint)
    })?;
    // Loaded through its descriptor, $ORIGIN would mean /proc/self/fd. By path it is right, but
    // then only root may be able to exchange the file between check and load.
    if look.needs_origin && !opened.only_root {
        return Err(refuse(
            &library.path,
            "its RUNPATH uses $ORIGIN and it does not lie in folders of root alone",
            "link it without -rpath '$ORIGIN', or install it below a folder that root owns",
        ));
    }
    let path = library.path.clone();
    Ok(CheckedLibrary { path, sha256, file, load_by_path: look.needs_origin })
}

struct Trusted {
    file: OwnedFd,
    /// Root owns the file and every folder above it, and nobody else may write to them.
    only_root: bool,
}

/// Walks down from the root folder, one descriptor after the other, without following any link.
fn open_trusted(path: &Path, trusted_uid: Option<u32>) -> Result<Trusted, RunnerError> {
    let names = names_of(path)?;
    let (file_name, folders) = names.split_last().ok_or_else(|| {
        refuse(path, "is no file", "give the absolute path of the library in the manifest")
    })?;
    let folder_flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut walked = PathBuf::from("/");
    let mut only_root = true;
    let mut folder = rustix::fs::open("/", folder_flags, Mode::empty())
        .map_err(|errno| open_fault(&walked, errno))?;
    only_root &= check_owner(&walked, folder.as_fd(), trusted_uid)?.1;
    for name in folders {
        walked.push(name);
        folder = rustix::fs::openat(&folder, *name, folder_flags, Mode::empty())
            .map_err(|errno| open_fault(&walked, errno))?;
        only_root &= check_owner(&walked, folder.as_fd(), trusted_uid)?.1;
    }
    // NONBLOCK: a FIFO in the library's place must not make us wait.
    let file_flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::openat(&folder, *file_name, file_flags, Mode::empty())
        .map_err(|errno| open_fault(path, errno))?;
    let (stat, root_file) = check_owner(path, file.as_fd(), trusted_uid)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(refuse(path, "is no regular file", ""));
    }
    let bytes = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    if bytes > LIBRARY_BYTES_MAX {
        let fault = format!("has {bytes} bytes; at most {LIBRARY_BYTES_MAX} are loaded");
        return Err(refuse(path, fault, "strip its debug information"));
    }
    Ok(Trusted { file, only_root: only_root && root_file })
}

fn names_of(path: &Path) -> Result<Vec<&std::ffi::OsStr>, RunnerError> {
    let mut parts = path.components();
    if parts.next() != Some(Component::RootDir) {
        return Err(refuse(path, "is not an absolute path", ""));
    }
    let names = parts.map(|part| match part {
        Component::Normal(name) => Ok(name),
        _ => Err(refuse(path, "holds a part that is no plain name", "write it without ..")),
    });
    names.collect()
}

/// Refuses what somebody else than root or the trusted user could change. The flag tells whether
/// it is root's alone.
fn check_owner(
    path: &Path,
    fd: BorrowedFd<'_>,
    trusted_uid: Option<u32>,
) -> Result<(Stat, bool), RunnerError> {
    let stat = rustix::fs::fstat(fd).map_err(|errno| open_fault(path, errno))?;
    let mode = stat.st_mode & 0o7777;
    if stat.st_uid != 0 && Some(stat.st_uid) != trusted_uid {
        let fault = format!("belongs to uid {}, not to root", stat.st_uid);
        return Err(refuse(path, fault, &format!("chown root {}", path.display())));
    }
    // In a sticky folder (/tmp) others can add names, but not exchange what belongs to the owners
    // that the next step of the walk checks.
    let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let sticky = folder && mode & 0o1000 != 0;
    if mode & 0o022 != 0 && !sticky {
        let fault = format!("may be changed by others than its owner (mode {mode:04o})");
        return Err(refuse(path, fault, &format!("chmod go-w {}", path.display())));
    }
    Ok((stat, stat.st_uid == 0 && mode & 0o022 == 0))
}

fn checksum(file: &File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    // One read call for every 256 KiB: more gains nothing (measured).
    let mut buffer = vec![0u8; 256 << 10];
    let mut offset = 0;
    loop {
        match file.read_at(&mut buffer, offset) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn open_fault(path: &Path, errno: Errno) -> RunnerError {
    match errno {
        Errno::LOOP | Errno::NOTDIR => refuse(
            path,
            "is a symbolic link or no folder; links are not followed",
            "give the real path in the manifest (readlink -f)",
        ),
        Errno::NOENT => refuse(path, "does not exist", "reinstall the plugin's package"),
        _ => refuse(path, io::Error::from(errno), ""),
    }
}

fn refuse(path: &Path, fault: impl ToString, hint: &str) -> RunnerError {
    RunnerError::File { path: path.to_owned(), fault: fault.to_string(), hint: hint.to_owned() }
}
