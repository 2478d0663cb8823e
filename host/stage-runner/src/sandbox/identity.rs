//! Who the process is: ids, capabilities, and that it can gain nothing back.

use imagefactory_model::frames::{SandboxReport, StageIdentity};
use rustix::fs::{Gid, Uid};
use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::profiles::{Capabilities, IdMapping, Layers};
use crate::error::RunnerError;

/// Takes the ids and gives up the rights that `layers` says. Nothing of it can be taken back.
pub fn take(
    layers: &Layers,
    in_user_namespace: bool,
    report: &mut SandboxReport,
) -> Result<(), RunnerError> {
    let kept = match &layers.capabilities {
        Capabilities::Unchanged => None,
        Capabilities::None => Some(CapabilitySet::empty()),
        Capabilities::Listed(names) => Some(named(names)?),
    };
    if let Some(kept) = kept {
        bound(kept)?;
    }
    if let Some(identity) = layers.identity {
        become_stage(identity)?;
        report.active.push(format!("identity {}:{}", identity.uid, identity.gid));
    } else if layers.capabilities == Capabilities::None
        && !in_user_namespace
        && rustix::process::geteuid().is_root()
    {
        report.missing.push(
            "identity: the daemon is root and gave the stage no ids of its own; root's files stay within reach".into(),
        );
    }
    if matches!(layers.capabilities, Capabilities::Listed(_))
        && (in_user_namespace || !rustix::process::geteuid().is_root())
    {
        let reason = "root: the daemon is not root, so no capability reaches beyond the stage";
        report.missing.push(format!("{reason}; run it as root, or use the profile os-userns"));
    }
    if let Some(kept) = kept {
        // Ids other than root's have lost them already; keep what root may keep.
        let had = rustix::thread::capabilities(None)
            .map_err(|errno| RunnerError::layer("cannot read capabilities", errno))?;
        let sets = CapabilitySets {
            effective: had.permitted & kept,
            permitted: had.permitted & kept,
            inheritable: CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, sets)
            .map_err(|errno| RunnerError::layer("cannot give up capabilities", errno))?;
        let named: Vec<&str> = sets.permitted.iter_names().map(|(name, _)| name).collect();
        let named = if named.is_empty() { "none".to_owned() } else { named.join(" ") };
        report.active.push(format!("capabilities: {named}"));
    }
    Ok(())
}

/// no_new_privs, and nobody but the kernel looks into this process.
pub fn seal(report: &mut SandboxReport) -> Result<(), RunnerError> {
    rustix::thread::set_no_new_privs(true)
        .map_err(|errno| RunnerError::layer("cannot set no_new_privs", errno))?;
    report.active.push("no-new-privs".into());
    hide()
}

/// No core file, no ptrace by others of the same user: there are secrets in this process.
pub fn hide() -> Result<(), RunnerError> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|errno| RunnerError::layer("cannot make the process undumpable", errno))
}

fn become_stage(identity: StageIdentity) -> Result<(), RunnerError> {
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    // This process has one thread, so the thread's ids are the process's.
    rustix::thread::set_thread_groups(&[])
        .and_then(|()| rustix::thread::set_thread_res_gid(gid, gid, gid))
        .and_then(|()| rustix::thread::set_thread_res_uid(uid, uid, uid))
        .map_err(|errno| {
            let (uid, gid) = (identity.uid, identity.gid);
            RunnerError::layer(format!("cannot become user {uid}, group {gid}"), errno)
        })
}

/// Becomes root of a user namespace that maps a root: the stage's first id outside. Must come
/// before anything is mounted there, for ids that are not mapped can own nothing.
pub fn enter_user_namespace(mapping: IdMapping) -> Result<(), RunnerError> {
    match mapping {
        IdMapping::Own => return Ok(()),
        IdMapping::Delegated | IdMapping::Range(_) => {}
    }
    // Denied where only one group is mapped; the groups of the caller are then no groups inside.
    rustix::thread::set_thread_groups(&[]).ok();
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)
        .and_then(|()| rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT))
        .map_err(|errno| RunnerError::layer("cannot become root of the user namespace", errno))
}

/// No program that is started from here, set-uid or not, has more than these.
fn bound(kept: CapabilitySet) -> Result<(), RunnerError> {
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(one) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // Beyond the last one that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            // An ordinary user without a namespace has none to lose.
            Err(rustix::io::Errno::PERM) if !rustix::process::geteuid().is_root() => break,
            Err(errno) => return Err(RunnerError::layer("cannot bound capabilities", errno)),
        }
    }
    Ok(())
}

fn named(names: &[String]) -> Result<CapabilitySet, RunnerError> {
    let mut set = CapabilitySet::empty();
    for name in names {
        let bare = name.to_ascii_uppercase();
        let bare = bare.strip_prefix("CAP_").unwrap_or(&bare);
        let known = CapabilitySet::from_name(bare).ok_or_else(|| {
            let error = std::io::Error::from(std::io::ErrorKind::InvalidInput);
            RunnerError::layer(format!("there is no capability {name}"), error)
        })?;
        set |= known;
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_known_by_name_with_and_without_prefix() {
        let both = CapabilitySet::SYS_ADMIN | CapabilitySet::MKNOD;
        assert_eq!(named(&["CAP_SYS_ADMIN".into(), "mknod".into()]).unwrap(), both);
        assert!(named(&["CAP_EVERYTHING".into()]).is_err());
    }
}
