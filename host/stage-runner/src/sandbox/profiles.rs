//! Which layers each profile has (plugin-abi.md 3.3). Pure: asks nothing of the machine.
//!
//! ```text
//!              ids            sees            capabilities   landlock  seccomp
//! cloud        stage's        host's files    none           yes       confined
//! os-vm        stage's        + /dev/kvm      none           yes       confined
//! os-userns    mapped range   minimal root,   of its ns      no        builder
//!                             /dev/kvm
//! os-root      root           host's files    listed         no        builder
//! none         daemon's       host's files    daemon's       no        none
//! ```
//!
//! Every profile has a pid and a mount namespace of its own. os-userns and os-root have no
//! landlock because landlock denies every mount.

use imagefactory_model::frames::{SandboxOrder, SandboxProfile, StageIdentity};

/// Who started the runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

impl Caller {
    /// This process.
    pub fn current() -> Self {
        Caller {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }

    /// May it make namespaces and take ids without a user namespace?
    pub fn is_root(self) -> bool {
        self.uid == 0
    }
}

/// The layers to put up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers {
    /// A user namespace with this mapping; `None` = stay in the caller's.
    pub user_namespace: Option<IdMapping>,
    /// No network: a namespace with nothing but loopback.
    pub empty_network: bool,
    /// What can be seen.
    pub view: View,
    /// Ids to take in the caller's user namespace; `None` = keep.
    pub identity: Option<StageIdentity>,
    /// What stays of the rights of root.
    pub capabilities: Capabilities,
    /// Files by allow-list.
    pub landlock: bool,
    /// System calls by deny-list.
    pub seccomp: Option<SyscallRules>,
    /// no_new_privs, and the process cannot be looked into.
    pub sealed: bool,
}

/// Which ids exist in the user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdMapping {
    /// The caller under its own number.
    Own,
    /// The caller as root, and a range delegated to it in /etc/subuid, if there is one.
    Delegated,
    /// Written by root: 0 is the first id of the stage.
    Range(StageIdentity),
}

/// What the process sees of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// The host's, with a /proc of its own.
    Host,
    /// As Host, and /dev/kvm opens for the stage's ids.
    HostWithKvm,
    /// /usr, parts of /etc and /dev, and what the order lists.
    Minimal,
}

/// What stays of the rights of root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capabilities {
    /// Nothing.
    None,
    /// These, by name (`CAP_SYS_ADMIN`).
    Listed(Vec<String>),
    /// Whatever the process has; in a user namespace that is worth nothing outside.
    Unchanged,
}

/// Which system calls are denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyscallRules {
    /// The kernel's dangerous corners, and everything about mounts and namespaces.
    Confined,
    /// The kernel's dangerous corners only.
    Builder,
}

/// The layers that an order asks for, where `caller` runs it.
pub fn layers(order: &SandboxOrder, caller: Caller) -> Layers {
    let user_namespace = if caller.is_root() { None } else { Some(IdMapping::Own) };
    let confined = Layers {
        user_namespace,
        empty_network: !order.network,
        view: View::Host,
        identity: order.identity.filter(|_| caller.is_root()),
        capabilities: Capabilities::None,
        landlock: true,
        seccomp: Some(SyscallRules::Confined),
        sealed: true,
    };
    match order.profile {
        SandboxProfile::Cloud => confined,
        SandboxProfile::OsVm => Layers { view: View::HostWithKvm, ..confined },
        SandboxProfile::OsUserns => Layers {
            user_namespace: Some(match (caller.is_root(), order.identity) {
                (true, Some(identity)) => IdMapping::Range(identity),
                _ => IdMapping::Delegated,
            }),
            view: View::Minimal,
            identity: None,
            capabilities: Capabilities::Unchanged,
            landlock: false,
            seccomp: Some(SyscallRules::Builder),
            ..confined
        },
        SandboxProfile::OsRoot => Layers {
            identity: None,
            capabilities: Capabilities::Listed(order.capabilities.clone()),
            landlock: false,
            seccomp: Some(SyscallRules::Builder),
            ..confined
        },
        SandboxProfile::None => Layers {
            identity: None,
            capabilities: Capabilities::Unchanged,
            landlock: false,
            seccomp: None,
            sealed: false,
            ..confined
        },
    }
}

impl Layers {
    /// What is left when no namespace can be had. Nobody may mount anything now, because it would
    /// stay on the host; what was to live in a user namespace is confined as a cloud stage is.
    pub fn without_namespaces(self, order: &SandboxOrder, caller: Caller) -> Layers {
        let plain = Layers { user_namespace: None, view: View::Host, ..self };
        match order.profile {
            SandboxProfile::OsUserns => Layers {
                identity: order.identity.filter(|_| caller.is_root()),
                capabilities: Capabilities::None,
                landlock: true,
                seccomp: Some(SyscallRules::Confined),
                ..plain
            },
            SandboxProfile::OsRoot => Layers { seccomp: Some(SyscallRules::Confined), ..plain },
            SandboxProfile::Cloud | SandboxProfile::OsVm | SandboxProfile::None => plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imagefactory_model::frames::ResourceLimits;

    const ROOT: Caller = Caller { uid: 0, gid: 0 };
    const USER: Caller = Caller { uid: 1000, gid: 1000 };
    const STAGE: StageIdentity = StageIdentity { uid: 200_000, gid: 50, count: 65_536 };

    fn order(profile: SandboxProfile) -> SandboxOrder {
        SandboxOrder {
            profile,
            strict: false,
            network: true,
            identity: Some(STAGE),
            read_only: Vec::new(),
            writable: Vec::new(),
            capabilities: Vec::new(),
            limits: ResourceLimits {
                file_bytes_max: 0,
                open_files_max: 0,
                memory_bytes_max: 0,
                processes_max: 0,
            },
            cancel_grace_ms: 0,
        }
    }

    #[test]
    fn only_os_userns_takes_a_user_namespace_as_root_and_everybody_else_does() {
        let of = |profile, caller| layers(&order(profile), caller).user_namespace;
        assert_eq!(of(SandboxProfile::Cloud, ROOT), None);
        assert_eq!(of(SandboxProfile::OsRoot, ROOT), None);
        assert_eq!(of(SandboxProfile::OsUserns, ROOT), Some(IdMapping::Range(STAGE)));
        assert_eq!(of(SandboxProfile::OsUserns, USER), Some(IdMapping::Delegated));
        assert_eq!(of(SandboxProfile::Cloud, USER), Some(IdMapping::Own));
    }

    #[test]
    fn an_ordinary_daemon_takes_no_ids_that_it_cannot_take() {
        assert_eq!(layers(&order(SandboxProfile::Cloud), ROOT).identity, Some(STAGE));
        assert_eq!(layers(&order(SandboxProfile::Cloud), USER).identity, None);
    }

    #[test]
    fn without_a_mount_namespace_nobody_may_mount_and_root_becomes_the_stage() {
        for profile in [SandboxProfile::Cloud, SandboxProfile::OsUserns, SandboxProfile::OsRoot] {
            let order = order(profile);
            let plain = layers(&order, ROOT).without_namespaces(&order, ROOT);
            assert_eq!(plain.seccomp, Some(SyscallRules::Confined), "{profile:?}");
        }
        let order = order(SandboxProfile::OsUserns);
        let plain = layers(&order, ROOT).without_namespaces(&order, ROOT);
        assert_eq!((plain.identity, plain.landlock), (Some(STAGE), true));
        assert_eq!(plain.capabilities, Capabilities::None);
    }
}
