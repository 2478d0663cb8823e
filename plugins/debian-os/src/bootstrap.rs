//! The root tree: mmdebstrap as root of the stage's user namespace.
//!
//! One apt run for everything that needs nothing before it. `update-initramfs` is diverted until
//! the tree is finished: the kernel's and udev's packages would each run it (6 s of CPU each).

use std::fs;
use std::path::Path;
use std::process::Command;

use imagefactory_plugin_sdk::author::{Host, Result};
use sha2::{Digest, Sha256};

use crate::apt::{self, PackageWatch};
use crate::archive::Archive;
use crate::fetch::hex;
use crate::plan::{EPOCH_S, Plan};
use crate::tree::Tree;
use crate::tree_cache::{self, TreeCache};
use crate::{finishing, inputs, tool};

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

/// Hook for `update-initramfs`: held until `finishing` releases it.
const HOLD: &str = "chroot \"$1\" dpkg-divert --quiet --local --rename --add \
    --divert /usr/sbin/update-initramfs.imagefactory /usr/sbin/update-initramfs \
    && printf '#!/bin/sh\\n: > /var/lib/imagefactory-initramfs\\n' \
        > \"$1/usr/sbin/update-initramfs\" \
    && chmod 755 \"$1/usr/sbin/update-initramfs\"";

/// What the code below makes of the same packages changes with this number: trees that an older one
/// made are not used.
const REVISION: u32 = 1;

/// Makes the tree in `root`, which does not exist yet, or takes it from the cache; the cache is out
/// of reach afterwards.
pub(crate) fn make_tree(host: &Host, plan: &Plan, root: &Path) -> Result<()> {
    // apt runs outside of the tree here, and a key's path must be the same in both.
    apt::write_keys(&plan.keys, Path::new("/"))?;
    let make = || {
        bootstrap(host, plan, root)?;
        finishing::make_first_initramfs(&Tree::new(host, root), plan)
    };
    match TreeCache::open(host)?.filter(|_| plan.is_distributions_own()) {
        Some(cache) => cache.tree(&key(host, plan)?, root, make)?,
        None => make()?,
    }
    tree_cache::put_out_of_reach(host)?;
    apt::write_keys(&plan.keys, root)
}

/// Digest of all that a tree is made of.
fn key(host: &Host, plan: &Plan) -> Result<String> {
    let mut digest = Sha256::new();
    let version = env!("CARGO_PKG_VERSION");
    digest.update(format!("{version} {REVISION} {EPOCH_S} {}\n", plan.suite.codename));
    digest.update(tool::quiet_output(host, Command::new("mmdebstrap").arg("--version"))?);
    digest.update(inputs::releases(host, plan.bootstrap_archives())?);
    digest.update(fs::read(plan.suite.keyring)?);
    for archive in plan.bootstrap_archives() {
        digest.update(format!("{}\n", archive.build_line()));
    }
    for package in &plan.packages {
        digest.update(format!("{package}\n"));
    }
    Ok(hex(&digest.finalize()))
}

fn bootstrap(host: &Host, plan: &Plan, root: &Path) -> Result<()> {
    let mut command = Command::new("mmdebstrap");
    command
        .env("SOURCE_DATE_EPOCH", EPOCH_S.to_string())
        .env("TMPDIR", host.work_dir()?)
        .env("HOME", host.work_dir()?)
        // Its and apt's lines are read.
        .env("LC_ALL", "C.UTF-8")
        .args(["--mode=root", "--variant=minbase", "--format=directory", "--verbose"])
        .arg(format!("--keyring={}", plan.suite.keyring))
        // The tree is scratch until it is a disk; an fsync for each file doubles the time.
        .arg("--dpkgopt=force-unsafe-io")
        .arg("--aptopt=Acquire::Retries \"3\"")
        .arg("--aptopt=Acquire::Languages \"none\"")
        .arg("--aptopt=APT::Install-Recommends \"false\"")
        .arg("--aptopt=APT::Update::Error-Mode \"any\"")
        .arg(format!("--essential-hook={HOLD}"))
        .arg(format!("--include={}", plan.packages.join(",")))
        // /sys of the host cannot be mounted in a user namespace; nothing of a bootstrap reads it.
        .arg("--skip=chroot/mount/sys");
    for archive in plan.bootstrap_archives() {
        for option in archive.tls_option(&archive.build_url).lines() {
            command.arg(format!("--aptopt={option}"));
        }
    }
    command.arg(plan.suite.codename).arg(root);
    command.args(plan.bootstrap_archives().iter().map(Archive::build_line));
    let mut watch = PackageWatch::new(0..0);
    let ran = tool::run_watched(host, &mut command, &[], |line| {
        let Some(at) = PHASES.iter().position(|(words, ..)| line.contains(words)) else {
            return watch.see(host, line);
        };
        let (_, message, begin) = PHASES[at];
        let end = PHASES.get(at + 1).map_or(begin, |(.., next)| *next);
        watch.fill(begin..end);
        host.progress("bootstrap", message, begin, 100)
    });
    ran.map_err(|error| watch.explain(error.while_doing("bootstrapping")))
}
