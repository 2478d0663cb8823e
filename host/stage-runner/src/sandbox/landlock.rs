//! Files by allow-list (Landlock), and on newer kernels network, signals and abstract sockets.
//!
//! What is not listed cannot be opened, whatever its owner and mode. Each kernel enforces as much
//! as it knows; the report says which version of Landlock that is.

use std::path::{Path, PathBuf};

use imagefactory_model::frames::{SandboxOrder, SandboxProfile, SandboxReport};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    PathFdError, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope,
};

use super::namespaces::Walls;
use crate::error::RunnerError;

/// The newest version that we ask for; older kernels enforce what they know of it.
const NEWEST: ABI = ABI::V6;

/// Programs, libraries, and what they cannot do without; may be read and executed.
const SYSTEM: [&str; 34] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/crypto-policies",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki",
    "/etc/protocols",
    "/etc/qemu",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl",
    "/etc/timezone",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/run/systemd/resolve",
    "/var/lib/ca-certificates",
    "/etc/magic",
];

/// Devices that every user may use.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Parts of the host's /proc, where the process has none of its own.
const SHARED_PROC: [&str; 4] =
    ["/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/filesystems"];

/// Shuts everything that is not listed. For this thread and all that come from it.
pub fn confine(
    order: &SandboxOrder,
    walls: Walls,
    report: &mut SandboxReport,
) -> Result<(), RunnerError> {
    let network_denied = !order.network && !walls.network;
    match restrict(order, walls, network_denied) {
        Ok(RulesetStatus::NotEnforced) => {
            report.missing.push(
                "landlock: this kernel has none; boot a kernel from 5.13 with lsm=landlock".into(),
            );
        }
        Ok(_) => report.active.push(format!("landlock {}", version())),
        Err(Fault::Path(path, error)) => {
            return Err(RunnerError::layer(format!("cannot grant {}", path.display()), error));
        }
        Err(Fault::Ruleset(error)) => {
            return Err(RunnerError::layer("landlock", std::io::Error::other(error)));
        }
    }
    Ok(())
}

enum Fault {
    Path(PathBuf, std::io::Error),
    Ruleset(RulesetError),
}

impl From<RulesetError> for Fault {
    fn from(error: RulesetError) -> Self {
        Fault::Ruleset(error)
    }
}

fn restrict(
    order: &SandboxOrder,
    walls: Walls,
    network_denied: bool,
) -> Result<RulesetStatus, Fault> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?;
    if network_denied {
        ruleset = ruleset.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?;
    }
    let mut rules = ruleset.create()?;
    let read = AccessFs::from_read(NEWEST);
    let all = AccessFs::from_all(NEWEST);
    for path in SYSTEM {
        rules = allow_existing(rules, Path::new(path), read)?;
    }
    for path in DEVICES {
        rules = allow_existing(rules, Path::new(path), all)?;
    }
    if order.profile == SandboxProfile::OsVm {
        rules = allow_existing(rules, Path::new("/dev/kvm"), all)?;
    }
    let proc: &[&str] = if walls.processes_and_mounts { &["/proc"] } else { &SHARED_PROC };
    for path in proc {
        rules = allow_existing(rules, Path::new(path), read | AccessFs::WriteFile)?;
    }
    for path in &order.read_only {
        rules = allow(rules, path, read)?;
    }
    for path in &order.writable {
        rules = allow(rules, path, all)?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

fn allow_existing(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, Fault> {
    match PathFd::new(path) {
        Ok(fd) => allow_opened(rules, fd, access),
        Err(_) => Ok(rules),
    }
}

fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, Fault> {
    let fd = PathFd::new(path).map_err(|error| {
        let reason = match error {
            PathFdError::OpenCall { source, .. } => source,
            other => std::io::Error::other(other),
        };
        Fault::Path(path.to_owned(), reason)
    })?;
    allow_opened(rules, fd, access)
}

/// Rights on folders mean nothing on a file and are refused there by the kernel.
fn allow_opened(
    rules: RulesetCreated,
    fd: PathFd,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, Fault> {
    use std::os::fd::AsFd;
    let kind =
        rustix::fs::fstat(fd.as_fd()).map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode));
    let access = match kind {
        Ok(rustix::fs::FileType::Directory) => access,
        _ => access & AccessFs::from_file(NEWEST),
    };
    Ok(rules.add_rule(PathBeneath::new(fd, access))?)
}

/// The kernel's version of Landlock.
fn version() -> i64 {
    const VERSION_FLAG: u32 = 1;
    // SAFETY: with this flag the call takes no attributes and only answers a number.
    unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0usize,
            VERSION_FLAG,
        )
    }
}
