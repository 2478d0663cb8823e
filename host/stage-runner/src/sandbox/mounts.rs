//! What the process sees where it keeps the host's files: a /proc of its own, little of /run, and
//! /dev/kvm.
//!
//! Runs in a fresh mount namespace, before rights are given up. Nothing that is mounted here or
//! later reaches the host.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, chown};
use std::path::PathBuf;

use imagefactory_model::frames::{SandboxOrder, SandboxReport, StageIdentity};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::namespaces::Walls;
use super::profiles::{Layers, View};
use super::root_view;
use crate::error::RunnerError;

/// Arranges what can be seen. `kvm`: a node that the warden has made for the minimal root.
pub fn arrange(
    (layers, order): (&Layers, &SandboxOrder),
    walls: Walls,
    kvm: Option<OwnedFd>,
    report: &mut SandboxReport,
) -> Result<(), RunnerError> {
    if !walls.processes_and_mounts {
        return Ok(());
    }
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private)
        .map_err(|errno| RunnerError::layer("cannot make mounts private", errno))?;
    if layers.landlock {
        hide_run(order, report)?;
    }
    match layers.view {
        View::Host => own_proc(report),
        View::HostWithKvm => {
            own_proc(report);
            open_kvm(layers.identity, report)?;
        }
        View::Minimal => root_view::enter(order, kvm, report)?,
    }
    if walls.network {
        loopback_up(report);
    }
    Ok(())
}

/// Mounts the /proc of this pid namespace over the host's.
fn own_proc(report: &mut SandboxReport) {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match rustix::mount::mount("proc", "/proc", "proc", flags, None) {
        Ok(()) => report.active.push("own-proc".into()),
        Err(errno) => report.missing.push(no_proc(errno)),
    }
}

/// Landlock does not guard sockets that have a path, and behind those in /run sit services with
/// the rights of root (Docker, D-Bus, libvirt). So /run shows only how names are resolved, and
/// what the order lists.
fn hide_run(order: &SandboxOrder, report: &mut SandboxReport) -> Result<(), RunnerError> {
    let fault = |error| RunnerError::layer("cannot hide /run", error);
    let resolver = fs::canonicalize("/etc/resolv.conf").unwrap_or_default();
    let mut shown: Vec<(PathBuf, bool)> =
        vec![(resolver, true), ("/run/systemd/resolve".into(), true)];
    shown.extend(order.read_only.iter().map(|path| (path.clone(), true)));
    shown.extend(order.writable.iter().map(|path| (path.clone(), false)));
    shown.retain(|(path, _)| path.starts_with("/run"));
    // Outer folders first, so that an inner one is laid over them.
    shown.sort_by_key(|(path, _)| path.components().count());
    let mut copies = Vec::new();
    for (path, read_only) in &shown {
        copies.extend(root_view::take_existing(path, *read_only)?);
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = Some(c"mode=755,size=1m");
    rustix::mount::mount("tmpfs", "/run", "tmpfs", flags, options).map_err(|e| fault(e.into()))?;
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", folder, Mode::empty()).map_err(|e| fault(e.into()))?;
    for copy in &copies {
        root_view::place(copy, root.as_fd()).map_err(fault)?;
    }
    report.active.push("hidden-run".into());
    Ok(())
}

/// A container that hides parts of /proc forbids fresh ones in user namespaces.
pub(super) fn no_proc(errno: rustix::io::Errno) -> String {
    format!(
        "own-proc: {errno}; the host's processes stay visible (a container with a masked /proc? run it with an unmasked one)"
    )
}

const KVM: &str = "/dev/kvm";

/// Lets the stage's ids open /dev/kvm: the profile is the grant, whatever the host's mode is.
fn open_kvm(
    identity: Option<StageIdentity>,
    report: &mut SandboxReport,
) -> Result<(), RunnerError> {
    let device = match fs::metadata(KVM) {
        Ok(device) if device.file_type().is_char_device() => device,
        Ok(_) => {
            report.missing.push("/dev/kvm: is no device".into());
            return Ok(());
        }
        Err(error) => {
            report.missing.push(format!("/dev/kvm: {error}; enable virtualisation (modprobe kvm)"));
            return Ok(());
        }
    };
    if let Some(identity) = identity {
        kvm_of_the_stage(device.rdev(), identity)
            .map_err(|error| RunnerError::layer("cannot give /dev/kvm to the stage", error))?;
    } else if rustix::fs::access(KVM, rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK)
        .is_err()
    {
        report
            .missing
            .push("/dev/kvm: may not be opened; add the daemon's user to the group kvm".into());
        return Ok(());
    }
    report.active.push(KVM.into());
    Ok(())
}

/// A device node of the same device with the stage's ids, laid over the host's. It exists only in
/// this mount namespace.
fn kvm_of_the_stage(device: u64, identity: StageIdentity) -> io::Result<()> {
    const PLACE: &str = "/tmp";
    let node = format!("{PLACE}/kvm");
    rustix::mount::mount("tmpfs", PLACE, "tmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, None)?;
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(CWD, &node, FileType::CharacterDevice, mode, device)?;
    chown(&node, Some(identity.uid), Some(identity.gid))?;
    rustix::mount::mount_bind(&node, KVM)?;
    // The node lives on below the bind mount.
    rustix::mount::unmount(PLACE, UnmountFlags::DETACH)?;
    Ok(())
}

/// A network namespace begins with its loopback down; tools that talk to themselves need it.
fn loopback_up(report: &mut SandboxReport) {
    if let Err(error) = set_up("lo") {
        report.missing.push(format!("loopback: {error}"));
    }
}

fn set_up(interface: &str) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    // SAFETY: ifreq is plain bytes; zero is a valid value of each of its fields.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which is ours and outlives the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
