//! Puts a child process into namespaces of its own, and maps ids into its user namespace.

use std::fs;
use std::io;
use std::process::Command;

use imagefactory_model::frames::{SandboxReport, StageIdentity};
use rustix::process::Pid;

use super::profiles::{Caller, IdMapping, Layers};
use super::subordinate_ids::{self, Range};
use crate::error::RunnerError;
use crate::init;

/// Which namespaces the child got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walls {
    /// Own pid, mount and ipc namespace; the child is pid 1.
    pub processes_and_mounts: bool,
    /// Own user namespace.
    pub users: bool,
    /// Own, empty network namespace.
    pub network: bool,
}

/// Which side of the split this process is.
#[derive(Debug)]
pub enum Side {
    /// The caller; the child has this id.
    Outside(Pid),
    /// The child.
    Inside,
}

/// Splits off a child with all the namespaces that `layers` asks for and the machine gives.
///
/// What it does not give is written into the report. The process must have one thread.
pub fn split(layers: &Layers, report: &mut SandboxReport) -> io::Result<(Walls, Side)> {
    let users = layers.user_namespace.is_some();
    let full = Walls { processes_and_mounts: true, users, network: layers.empty_network };
    let connected = Walls { network: false, ..full };
    let plain = Walls { processes_and_mounts: false, users: false, network: false };
    let mut refusals: Vec<String> = Vec::new();
    let candidates: &[Walls] = if layers.empty_network { &[full, connected] } else { &[connected] };
    for &walls in candidates {
        match clone(flags_of(walls)) {
            Ok(side) => {
                if layers.empty_network && !walls.network {
                    let reason = refusals.join("; ");
                    report.missing.push(format!("network-namespace: {reason}"));
                }
                name_walls(walls, report);
                return Ok((walls, side));
            }
            Err(error) => refusals.push(error.to_string()),
        }
    }
    let reason = refusals.last().cloned().unwrap_or_default();
    report.missing.push(format!(
        "pid-namespace, mount-namespace: {reason}; run the daemon as root or allow user namespaces (user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
    ));
    if layers.empty_network {
        report.missing.push(format!("network-namespace: {reason}"));
    }
    // By the old call: where containers forbid namespaces, clone3 is often missing as a whole.
    Ok((plain, init::fork()?.map_or(Side::Inside, Side::Outside)))
}

fn flags_of(walls: Walls) -> i32 {
    // System V shared memory and message queues outlive their makers otherwise.
    let mut flags = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC;
    if walls.users {
        flags |= libc::CLONE_NEWUSER;
    }
    if walls.network {
        flags |= libc::CLONE_NEWNET;
    }
    flags
}

fn name_walls(walls: Walls, report: &mut SandboxReport) {
    if walls.users {
        report.active.push("user-namespace".into());
    }
    report.active.extend([
        "pid-namespace".into(),
        "mount-namespace".into(),
        "ipc-namespace".into(),
    ]);
    if walls.network {
        report.active.push("network-namespace".into());
    }
}

/// `fork`, with namespaces.
fn clone(namespaces: i32) -> io::Result<Side> {
    // SAFETY: clone_args is plain integers; zero means "none" in every field.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = namespaces as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM this is a fork: the child has a copy of all memory. The process has
    // one thread, so no lock is held by somebody who does not exist in the child.
    match unsafe { libc::syscall(libc::SYS_clone3, &arguments, size_of_val(&arguments)) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Inside),
        child => {
            let child = i32::try_from(child).ok().and_then(Pid::from_raw);
            child.map(Side::Outside).ok_or_else(|| io::Error::other("clone3 gave no process id"))
        }
    }
}

/// How the ids were mapped, for the report of the process inside.
#[derive(Debug, Default)]
pub struct Mapped {
    /// Layers that stand.
    pub active: Vec<String>,
    /// What could not be had, and how to get it.
    pub missing: Vec<String>,
}

/// Gives ids to the user namespace of `child`. Called by the process outside.
pub fn map_ids(child: Pid, mapping: IdMapping, caller: Caller) -> Result<Mapped, RunnerError> {
    let mut mapped = Mapped::default();
    let done = match mapping {
        IdMapping::Own => map_single(child, (caller.uid, caller.gid), caller),
        IdMapping::Range(identity) => {
            let (uid, count) = (identity.uid, identity.count.max(1));
            mapped.active.push(format!("ids {uid} to {}", uid.saturating_add(count - 1)));
            write_map(child, "uid_map", &format!("0 {uid} {count}\n"))
                .and_then(|()| write_map(child, "gid_map", &group_map(identity)))
        }
        IdMapping::Delegated if caller.is_root() => {
            // Root without an identity for the stage: ids inside would be ids of real users.
            mapped
                .missing
                .push("id-range: the daemon is root and gave the stage no ids of its own".into());
            map_single(child, (0, 0), caller)
        }
        IdMapping::Delegated => match map_delegated(child, caller) {
            Ok(range) => {
                mapped.active.push(format!("ids {range}"));
                Ok(())
            }
            Err(reason) => {
                mapped.missing.push(format!(
                    "id-range: {reason}; only one user id exists inside. Install the package uidmap (newuidmap, newgidmap) and give the user a line NAME:100000:65536 in /etc/subuid and /etc/subgid"
                ));
                map_single(child, (0, 0), caller)
            }
        },
    };
    done.map_err(|error| RunnerError::layer("cannot map ids into the user namespace", error))?;
    Ok(mapped)
}

/// Group 0 inside is the group that may read image bodies; group N is the stage's Nth id outside,
/// for no other numbers are the stage's own.
fn group_map(identity: StageIdentity) -> String {
    let (first, gid, count) = (identity.uid, identity.gid, identity.count.max(1));
    let line = |inside: u32, outside: u32, count: u32| match count {
        0 => String::new(),
        count => format!("{inside} {outside} {count}\n"),
    };
    // A number may stand only once on the outside.
    match gid.checked_sub(first).filter(|place| *place > 0 && *place < count) {
        Some(place) => [
            line(0, gid, 1),
            line(1, first + 1, place - 1),
            line(place + 1, gid + 1, count - place - 1),
        ]
        .concat(),
        None => [line(0, gid, 1), line(1, first.saturating_add(1), count - 1)].concat(),
    }
}

fn map_single(child: Pid, inside: (u32, u32), caller: Caller) -> io::Result<()> {
    // The kernel's condition for mapping a group without rights outside.
    write_map(child, "setgroups", "deny")?;
    write_map(child, "uid_map", &format!("{} {} 1\n", inside.0, caller.uid))?;
    write_map(child, "gid_map", &format!("{} {} 1\n", inside.1, caller.gid))
}

fn write_map(child: Pid, file: &str, text: &str) -> io::Result<()> {
    fs::write(format!("/proc/{}/{file}", child.as_raw_nonzero()), text)
}

/// By the set-uid tools, which check the delegation.
fn map_delegated(child: Pid, caller: Caller) -> Result<String, String> {
    let users = subordinate_ids::of("/etc/subuid", caller.uid)?;
    let groups = subordinate_ids::of("/etc/subgid", caller.uid)?;
    // Groups first: if they fail, a single id can still be mapped.
    map_by_tool("newgidmap", child, caller.gid, groups)?;
    map_by_tool("newuidmap", child, caller.uid, users)?;
    Ok(format!("{} to {}", users.start, users.start.saturating_add(users.count - 1)))
}

fn map_by_tool(tool: &str, child: Pid, own: u32, range: Range) -> Result<(), String> {
    let line = [0, own, 1, 1, range.start, range.count];
    let output = Command::new(format!("/usr/bin/{tool}"))
        .arg(child.as_raw_nonzero().to_string())
        .args(line.map(|number| number.to_string()))
        .output()
        .map_err(|error| format!("/usr/bin/{tool} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(format!("{tool} failed: {}", words.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_groups(uid: u32, gid: u32, count: u32, expected: &str) {
        assert_eq!(group_map(StageIdentity { uid, gid, count }), expected);
    }

    #[test]
    fn groups_are_the_readers_of_bodies_and_then_the_stages_own_numbers() {
        check_groups(1000, 50, 1, "0 50 1\n");
        check_groups(1000, 50, 4, "0 50 1\n1 1001 3\n");
        check_groups(1000, 1000, 4, "0 1000 1\n1 1001 3\n");
    }

    #[test]
    fn a_readers_group_within_the_range_stands_only_once() {
        check_groups(1000, 1002, 4, "0 1002 1\n1 1001 1\n3 1003 1\n");
        check_groups(1000, 1001, 4, "0 1001 1\n2 1002 2\n");
        check_groups(1000, 1003, 4, "0 1003 1\n1 1001 2\n");
    }
}
