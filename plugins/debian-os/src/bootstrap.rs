//! The root tree: mmdebstrap as root of the stage's user namespace.
//!
//! One apt run for everything that needs nothing before it. `update-initramfs` is diverted until
//! the tree is finished: the kernel's and udev's packages would each run it (6 s of CPU each).

use std::path::Path;
use std::process::Command;

use imagefactory_plugin_sdk::author::{Host, Result};

use crate::plan::{EPOCH_S, Plan};
use crate::tool;

/// What mmdebstrap says when a phase begins, and how much of the bootstrap is done then (measured
/// on a minimal Debian 12: download and unpacking take about half).
const PHASES: [(&str, &str, u64); 6] = [
    ("running apt-get update", "Reading the package lists", 2),
    ("downloading packages", "Downloading packages", 8),
    ("extracting archives", "Unpacking the essential packages", 20),
    ("installing essential", "Configuring the essential packages", 30),
    ("installing remaining", "Installing packages", 45),
    ("cleaning package lists", "Cleaning up", 70),
];

/// Hooks for `update-initramfs`: diverted early, restored by `customisation::finish`.
const DIVERT: &str = "chroot \"$1\" dpkg-divert --quiet --local --rename --add \
    --divert /usr/sbin/update-initramfs.imagefactory /usr/sbin/update-initramfs \
    && ln -s /bin/true \"$1/usr/sbin/update-initramfs\"";

/// Makes the tree in `root`, which does not exist yet.
pub(crate) fn make_tree(host: &Host, plan: &Plan, root: &Path) -> Result<()> {
    let mut command = Command::new("mmdebstrap");
    command
        .env("SOURCE_DATE_EPOCH", EPOCH_S.to_string())
        .env("TMPDIR", host.work_dir()?)
        .env("HOME", host.work_dir()?)
        .args(["--mode=root", "--variant=minbase", "--format=directory"])
        .arg(format!("--keyring={}", plan.suite.keyring))
        // The tree is scratch until it is a disk; an fsync for each file doubles the time.
        .arg("--dpkgopt=force-unsafe-io")
        .arg("--aptopt=Acquire::Retries \"3\"")
        .arg("--aptopt=APT::Install-Recommends \"false\"")
        .arg(format!("--essential-hook={DIVERT}"))
        .arg(format!("--include={}", plan.packages.join(",")))
        // /sys of the host cannot be mounted in a user namespace; nothing of a bootstrap reads it.
        .arg("--skip=chroot/mount/sys")
        .arg(plan.suite.codename)
        .arg(root);
    for archive in &plan.archives {
        command.arg(archive.line(&archive.build_url));
    }
    tool::run_watched(host, &mut command, &[], |line| {
        match PHASES.iter().find(|(words, ..)| line.contains(words)) {
            Some((_, message, percent)) => host.progress("bootstrap", message, *percent, 100),
            None => Ok(()),
        }
    })
    .map_err(|error| error.while_doing("bootstrapping"))
}
