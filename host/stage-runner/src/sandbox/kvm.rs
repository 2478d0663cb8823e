//! /dev/kvm for the stages of `os-userns`, which boot what they have built.
//!
//! Inside a user namespace nobody may make a device node, and the host's belongs to a group that
//! does not exist there. So the warden, while it is still root outside, makes one with the stage's
//! ids on a memory file system that is mounted nowhere, and the process inside lays it over its
//! /dev. A machine without the device, a kernel without such mounts and a daemon that is not root
//! end with what the host's own node allows: an emulated guest is slower, and no less of a proof.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use imagefactory_model::frames::{SandboxReport, StageIdentity};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags};

use super::profiles::{IdMapping, Layers, View};

/// The device.
pub(super) const DEVICE: &str = "/dev/kvm";

/// The node on its own file system.
const NAME: &str = "kvm";

/// A file system, mounted nowhere, with a node for the stage that these layers are of.
pub fn node_for(layers: &Layers) -> Option<OwnedFd> {
    let (View::Minimal, Some(IdMapping::Range(identity))) = (layers.view, layers.user_namespace)
    else {
        return None;
    };
    let device = fs::metadata(DEVICE).ok()?;
    if !device.file_type().is_char_device() {
        return None;
    }
    make(device.rdev(), identity).ok()
}

fn make(device: u64, identity: StageIdentity) -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mounted =
        rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(&mounted, NAME, FileType::CharacterDevice, mode, device)?;
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    rustix::fs::chownat(&mounted, NAME, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(mounted)
}

/// Lays the node over `dev`/kvm; `aside` is an empty folder of the same root.
pub(super) fn place(node: OwnedFd, dev: &str, aside: &str, report: &mut SandboxReport) {
    match lay_over(node, dev, aside) {
        Ok(()) => report.active.push(DEVICE.into()),
        Err(error) => report.missing.push(format!("{DEVICE}: {error}; guests are emulated")),
    }
}

fn lay_over(node: OwnedFd, dev: &str, aside: &str) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(node.as_fd(), "", CWD, aside, flags)?;
    let target = format!("{dev}/{NAME}");
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    drop(rustix::fs::open(&target, flags, Mode::from_raw_mode(0o600))?);
    rustix::mount::mount_bind(format!("{aside}/{NAME}"), &target)?;
    // The node lives on below the bind mount.
    rustix::mount::unmount(aside, UnmountFlags::DETACH)?;
    Ok(())
}
