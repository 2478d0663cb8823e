//! The minimal root of `os-userns`: what is not needed is not there.
//!
//! Everything that is to be seen is first taken as a detached copy of its mount; then an empty
//! tmpfs becomes the root and the copies are put into it. /usr, parts of /etc and what the order
//! lists as read-only cannot be written; what it lists as writable can; /dev has the harmless
//! devices and /dev/kvm; /proc is the namespace's own; /tmp is memory.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use imagefactory_model::frames::{SandboxOrder, SandboxReport};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::kvm;
use super::mounts::no_proc;
use crate::error::RunnerError;

/// Folders of the host's root that are shown, or kept as the links that they are.
const SYSTEM: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"];

/// Names in /etc that programs in /usr cannot do without, and that tell no secrets.
const ETC: [&str; 29] = [
    "alternatives",
    "apt/trusted.gpg.d",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "dpkg",
    "e2scrub.conf",
    "gai.conf",
    "group",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "login.defs",
    "magic",
    "mime.types",
    "mke2fs.conf",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "pki",
    "protocols",
    "resolv.conf",
    "rpm",
    "services",
    "ssl",
    "terminfo",
];

/// Devices that every user may use.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Links that programs expect in /dev.
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Where the new root is built. Every system has it, and what it hides meanwhile was taken before.
const BUILDING_SITE: &str = "/tmp";

/// Memory that /tmp may take: tools' small files; big ones belong into WORK_DIR.
const TMP_OPTIONS: &std::ffi::CStr = c"mode=1777,size=512m,nr_inodes=100k";

/// A copy of a mount and where it goes.
pub(super) struct Copy {
    tree: OwnedFd,
    target: PathBuf,
    is_folder: bool,
}

/// Makes the minimal root this process's root.
pub fn enter(
    order: &SandboxOrder,
    kvm: Option<OwnedFd>,
    report: &mut SandboxReport,
) -> Result<(), RunnerError> {
    let here = std::env::current_dir().ok();
    let mut copies = take_copies(order)?;
    if kvm.is_none() {
        copies.extend(take_existing(Path::new(kvm::DEVICE), false)?);
    }
    build(&copies, kvm, report)
        .map_err(|error| RunnerError::layer("cannot build the root", error))?;
    // A working folder that is not shown any more is replaced by the root.
    if here.is_none_or(|here| std::env::set_current_dir(here).is_err())
        && let Err(error) = std::env::set_current_dir("/")
    {
        return Err(RunnerError::layer("cannot enter the root", error));
    }
    report.active.push("minimal-root".into());
    Ok(())
}

fn take_copies(order: &SandboxOrder) -> Result<Vec<Copy>, RunnerError> {
    let mut copies = Vec::new();
    for folder in SYSTEM {
        if !Path::new(folder).is_symlink() {
            copies.extend(take_existing(Path::new(folder), true)?);
        }
    }
    for name in ETC {
        copies.extend(take_existing(&Path::new("/etc").join(name), true)?);
    }
    for name in DEVICES {
        copies.extend(take_existing(&Path::new("/dev").join(name), false)?);
    }
    let read_only = order.read_only.iter().map(|path| (path, true));
    let writable = order.writable.iter().map(|path| (path, false));
    let mut listed: Vec<(&PathBuf, bool)> = read_only.chain(writable).collect();
    // Outer folders first, so that an inner one is laid over them.
    listed.sort_by_key(|(path, _)| path.components().count());
    for (path, read_only) in listed {
        let copy = take(path, read_only);
        copies.push(copy.map_err(|errno| cannot_show(path, errno))?);
    }
    Ok(copies)
}

/// A copy of what lies at `path`, if something does.
pub(super) fn take_existing(path: &Path, read_only: bool) -> Result<Option<Copy>, RunnerError> {
    match take(path, read_only) {
        Ok(copy) => Ok(Some(copy)),
        Err(Errno::NOENT | Errno::ACCESS) => Ok(None),
        Err(errno) => Err(cannot_show(path, errno)),
    }
}

fn cannot_show(path: &Path, errno: Errno) -> RunnerError {
    RunnerError::layer(format!("cannot show {}", path.display()), errno)
}

fn take(path: &Path, read_only: bool) -> Result<Copy, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(CWD, path, flags)?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&tree)?.st_mode);
    let device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
    let mut attributes = libc::MOUNT_ATTR_NOSUID;
    if read_only {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    if !device {
        attributes |= libc::MOUNT_ATTR_NODEV;
    }
    set_attributes(&tree, attributes)?;
    let is_folder = kind == FileType::Directory;
    Ok(Copy { tree, target: path.to_owned(), is_folder })
}

fn set_attributes(tree: &OwnedFd, attributes: u64) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let wanted =
        libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: mount_setattr reads one mount_attr of the stated size and an empty path.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &wanted,
            size_of_val(&wanted),
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
    }
}

fn build(copies: &[Copy], kvm: Option<OwnedFd>, report: &mut SandboxReport) -> io::Result<()> {
    let nothing_special = MountFlags::NOSUID | MountFlags::NODEV;
    let options = Some(c"mode=755,size=16m");
    rustix::mount::mount("tmpfs", BUILDING_SITE, "tmpfs", nothing_special, options)?;
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(BUILDING_SITE, folder, Mode::empty())?;
    for link in SYSTEM {
        if let Ok(target) = std::fs::read_link(link) {
            rustix::fs::symlinkat(target, &root, link.trim_start_matches('/'))?;
        }
    }
    for name in ["etc", "dev", "proc", "sys", "run", "var", "var/tmp", "root", "mnt", "tmp"] {
        rustix::fs::mkdirat(&root, name, Mode::from_raw_mode(0o755))?;
    }
    let inside = |name: &str| format!("{BUILDING_SITE}/{name}");
    rustix::mount::mount("tmpfs", inside("tmp"), "tmpfs", nothing_special, Some(TMP_OPTIONS))?;
    mount_proc(&inside("proc"), report)?;
    for copy in copies {
        place(copy, root.as_fd())?;
    }
    furnish_dev(&inside("dev"), report)?;
    if let Some(node) = kvm {
        kvm::place(node, &inside("dev"), &inside("mnt"), report);
    }
    std::os::unix::fs::symlink("/proc/self/mounts", inside("etc/mtab"))?;
    rustix::process::chdir(BUILDING_SITE)?;
    rustix::process::pivot_root(".", ".")?;
    // The old root lies over the new one now; take it away.
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}

fn mount_proc(target: &str, report: &mut SandboxReport) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match rustix::mount::mount("proc", target, "proc", flags, None) {
        Ok(()) => report.active.push("own-proc".into()),
        Err(errno) => {
            report.missing.push(no_proc(errno));
            rustix::mount::mount_bind_recursive("/proc", target)?;
        }
    }
    Ok(())
}

fn furnish_dev(dev: &str, report: &mut SandboxReport) -> io::Result<()> {
    for (name, target) in DEVICE_LINKS {
        std::os::unix::fs::symlink(target, format!("{dev}/{name}"))?;
    }
    for name in ["pts", "shm"] {
        std::fs::create_dir(format!("{dev}/{name}"))?;
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", format!("{dev}/shm"), "tmpfs", flags, Some(TMP_OPTIONS))?;
    let options = Some(c"newinstance,ptmxmode=0666,mode=0620");
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    // Programs that ask for a terminal fail; builds seldom do.
    if let Err(errno) =
        rustix::mount::mount("devpts", format!("{dev}/pts"), "devpts", flags, options)
    {
        report.missing.push(format!("pseudo-terminals: {errno}"));
    }
    Ok(())
}

/// Puts a copy at its path below `root`, making what is missing on the way.
pub(super) fn place(copy: &Copy, root: rustix::fd::BorrowedFd<'_>) -> io::Result<()> {
    let relative = copy.target.strip_prefix("/").map_err(io::Error::other)?;
    if place_in_folder(copy, relative, root) {
        return Ok(());
    }
    let mut made = PathBuf::new();
    let mut folder = beneath(root, Path::new("."))?;
    let mut names = relative.components().peekable();
    while let Some(name) = names.next() {
        made.push(name);
        match beneath(root, &made) {
            Ok(found) => folder = found,
            Err(Errno::NOENT) => {
                let last = names.peek().is_none();
                if last && !copy.is_folder {
                    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                    drop(rustix::fs::openat(&folder, name.as_os_str(), flags, 0o644.into())?);
                } else {
                    rustix::fs::mkdirat(&folder, name.as_os_str(), 0o755.into())?;
                }
                folder = beneath(root, &made)?;
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(&copy.tree, "", &folder, "", flags)?;
    Ok(())
}

/// The way for nearly all copies: their folder is there and they are not. False = not done.
fn place_in_folder(copy: &Copy, relative: &Path, root: rustix::fd::BorrowedFd<'_>) -> bool {
    let (Some(folder), Some(name)) = (relative.parent(), relative.file_name()) else {
        return false;
    };
    // A path without a parent lies in the root itself.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(folder) = beneath(root, folder) else { return false };
    let made = if copy.is_folder {
        rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755))
    } else {
        let mode = Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(&folder, name, FileType::RegularFile, mode, 0)
    };
    // Just made, so no link: nothing leads out.
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    made.is_ok() && rustix::mount::move_mount(&copy.tree, "", &folder, name, flags).is_ok()
}

/// Opens a path as if `root` were the root: links cannot lead out.
fn beneath(root: rustix::fd::BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
}
