//! System calls by deny-list.
//!
//! Two sets. `Builder`: the kernel's dangerous corners, which no build and no upload needs.
//! `Confined`: those, and everything about mounts and namespaces. Denied calls fail with EPERM;
//! clone3, whose flags a filter cannot see, with ENOSYS, so that libc falls back to clone.

use std::collections::BTreeMap;

use imagefactory_model::frames::SandboxReport;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};

use super::profiles::SyscallRules;

/// Code loading, tracing, keys, clocks, swap, raw hardware, and young subsystems with a history.
const DANGEROUS: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
];

/// Mounts and namespaces.
const TOPOLOGY: &[libc::c_long] = &[
    libc::SYS_chroot,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_umount2,
    libc::SYS_unshare,
];

/// Flags of clone. (CLONE_NEWTIME is none of them: only clone3 and unshare take it.)
const NEW_NAMESPACE: [i32; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// Denies what `rules` name; `network` = sockets other than unix ones may be made.
///
/// For this thread and all that come from it. no_new_privs must be set.
pub fn confine(rules: SyscallRules, network: bool, report: &mut SandboxReport) {
    let applied = programs(rules, network).and_then(|programs| {
        programs.iter().try_for_each(|program| seccompiler::apply_filter(program))
    });
    match applied {
        Ok(()) => report.active.push("seccomp".into()),
        Err(error) => report.missing.push(format!("seccomp: {error}; the kernel has no filters")),
    }
}

fn programs(rules: SyscallRules, network: bool) -> Result<Vec<BpfProgram>, seccompiler::Error> {
    let mut denied: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    denied.extend(DANGEROUS.iter().map(|number| (*number, Vec::new())));
    // Typing into somebody's terminal.
    denied.insert(libc::SYS_ioctl, vec![equals(1, libc::TIOCSTI)?, equals(1, libc::TIOCLINUX)?]);
    let mut absent: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    if rules == SyscallRules::Confined {
        denied.extend(TOPOLOGY.iter().map(|number| (*number, Vec::new())));
        let flags: Result<Vec<SeccompRule>, seccompiler::Error> =
            NEW_NAMESPACE.iter().map(|flag| has_flag(0, *flag)).collect();
        denied.insert(libc::SYS_clone, flags?);
        absent.insert(libc::SYS_clone3, Vec::new());
    }
    if !network {
        let family = SeccompCondition::new(
            0,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Ne,
            libc::AF_UNIX as u64,
        );
        let other = vec![SeccompRule::new(vec![family?])?];
        denied.insert(libc::SYS_socket, other);
    }
    let mut programs = vec![program(denied, libc::EPERM)?];
    if !absent.is_empty() {
        programs.push(program(absent, libc::ENOSYS)?);
    }
    Ok(programs)
}

fn equals(argument: u8, value: libc::Ioctl) -> Result<SeccompRule, seccompiler::Error> {
    let length = SeccompCmpArgLen::Dword;
    let condition = SeccompCondition::new(argument, length, SeccompCmpOp::Eq, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

fn has_flag(argument: u8, flag: i32) -> Result<SeccompRule, seccompiler::Error> {
    let flag = u64::from(flag.cast_unsigned());
    let length = SeccompCmpArgLen::Dword;
    let condition = SeccompCondition::new(argument, length, SeccompCmpOp::MaskedEq(flag), flag)?;
    Ok(SeccompRule::new(vec![condition])?)
}

fn program(
    denied: BTreeMap<i64, Vec<SeccompRule>>,
    errno: i32,
) -> Result<BpfProgram, seccompiler::Error> {
    let architecture = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(
        denied,
        SeccompAction::Allow,
        SeccompAction::Errno(errno.cast_unsigned()),
        architecture,
    )?;
    let filter: BpfProgram = filter.try_into()?;
    Ok(without_x32(filter))
}

/// On x86-64 the same kernel can serve a second set of numbers (x32), which would pass a deny-list
/// by number. They are answered as a kernel does that has none.
fn without_x32(filter: BpfProgram) -> BpfProgram {
    if !cfg!(target_arch = "x86_64") {
        return filter;
    }
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const X32_FROM: u32 = 0x4000_0000;
    const RETURN_ERRNO: u32 = 0x0005_0000;
    let no_such_call = RETURN_ERRNO | libc::ENOSYS.cast_unsigned();
    let mut program = vec![
        // offsetof(struct seccomp_data, nr) is 0
        sock_filter { code: LOAD_WORD, jt: 0, jf: 0, k: 0 },
        sock_filter { code: JUMP_IF_AT_LEAST, jt: 0, jf: 1, k: X32_FROM },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: no_such_call },
    ];
    program.extend(filter);
    program
}
