//! System calls by deny-list.
//!
//! Two sets. `Builder`: the kernel's dangerous corners, which no build and no upload needs.
//! `Confined`: those, and everything about mounts and namespaces. Denied calls fail with EPERM;
//! clone3, whose flags a filter cannot see, with ENOSYS, so that libc falls back to clone.
//!
//! One call is not denied but made visible: a `Confined` plugin that sends SIGKILL to itself dies
//! by SIGSYS, so that it is not taken for one that was killed from outside and tried again. Not so
//! in `Builder`, where the same number may be another process in a pid namespace further inside.

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

// Instructions and answers of linux/bpf_common.h and linux/seccomp.h.
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
const KILL_PROCESS: u32 = 0x8000_0000;
/// offsetof(struct seccomp_data, nr)
const NUMBER: u32 = 0;

/// Denies what `rules` name; `network` = sockets other than unix ones may be made.
///
/// For this thread and all that come from it. no_new_privs must be set.
pub fn confine(rules: SyscallRules, network: bool, report: &mut SandboxReport) {
    let applied = program(rules, network).and_then(|program| seccompiler::apply_filter(&program));
    match applied {
        Ok(()) => report.active.push("seccomp".into()),
        Err(error) => report.missing.push(format!("seccomp: {error}; the kernel has no filters")),
    }
}

/// One program: the kernel checks and compiles each, for every stage.
fn program(rules: SyscallRules, network: bool) -> Result<BpfProgram, seccompiler::Error> {
    let mut denied: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    denied.extend(DANGEROUS.iter().map(|number| (*number, Vec::new())));
    // Typing into somebody's terminal.
    denied.insert(libc::SYS_ioctl, vec![equals(1, libc::TIOCSTI)?, equals(1, libc::TIOCLINUX)?]);
    let mut absent: Vec<libc::c_long> = Vec::new();
    if rules == SyscallRules::Confined {
        denied.extend(TOPOLOGY.iter().map(|number| (*number, Vec::new())));
        let flags: Result<Vec<SeccompRule>, seccompiler::Error> =
            NEW_NAMESPACE.iter().map(|flag| has_flag(0, *flag)).collect();
        denied.insert(libc::SYS_clone, flags?);
        absent.push(libc::SYS_clone3);
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
    let architecture = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(
        denied,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.cast_unsigned()),
        architecture,
    )?;
    let filter = without_calls(&absent, filter.try_into()?);
    Ok(match rules {
        SyscallRules::Confined => showing_suicide(std::process::id(), filter),
        SyscallRules::Builder => filter,
    })
}

/// Calls that send a signal to a process of a number, and which of their arguments the signal is.
const SENDING: [(libc::c_long, u32); 4] = [
    (libc::SYS_kill, 1),
    (libc::SYS_tgkill, 2),
    (libc::SYS_rt_sigqueueinfo, 1),
    (libc::SYS_rt_tgsigqueueinfo, 2),
];

/// Kills whoever sends SIGKILL to `process` by SIGSYS instead, before `filter` sees the call.
fn showing_suicide(process: u32, filter: BpfProgram) -> BpfProgram {
    let sigkill = libc::SIGKILL.cast_unsigned();
    let mut program: BpfProgram = Vec::new();
    for (number, signal) in SENDING {
        // Numbers of system calls are 32 bit.
        let tests = [(NUMBER, number as u32), (argument(0), process), (argument(signal), sigkill)];
        // Each test is two instructions; what fails goes on behind the return.
        let mut left: u8 = 2 * 3;
        for (place, value) in tests {
            left -= 2;
            program.push(sock_filter { code: LOAD_WORD, jt: 0, jf: 0, k: place });
            program.push(sock_filter { code: JUMP_IF_EQUAL, jt: 0, jf: left + 1, k: value });
        }
        program.push(sock_filter { code: RETURN, jt: 0, jf: 0, k: KILL_PROCESS });
    }
    program.extend(filter);
    program
}

/// Where the low half of an argument stands in struct seccomp_data.
fn argument(place: u32) -> u32 {
    let low = if cfg!(target_endian = "big") { 4 } else { 0 };
    16 + 8 * place + low
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

/// Answers these calls as a kernel does that has none of them, before `filter` sees them.
///
/// On x86-64 the same kernel can serve a second set of numbers (x32), which would pass a deny-list
/// by number; they are absent, too. Numbers of another architecture never get as far as to be
/// allowed: `filter` begins with a look at it.
fn without_calls(absent: &[libc::c_long], filter: BpfProgram) -> BpfProgram {
    const X32_FROM: u32 = 0x4000_0000;
    const RETURN_ERRNO: u32 = 0x0005_0000;
    let no_such_call = RETURN_ERRNO | libc::ENOSYS.cast_unsigned();
    let mut program = vec![sock_filter { code: LOAD_WORD, jt: 0, jf: 0, k: NUMBER }];
    let mut answer = |code: u16, number: u32| {
        program.push(sock_filter { code, jt: 0, jf: 1, k: number });
        program.push(sock_filter { code: RETURN, jt: 0, jf: 0, k: no_such_call });
    };
    if cfg!(target_arch = "x86_64") {
        answer(JUMP_IF_AT_LEAST, X32_FROM);
    }
    // Numbers of system calls are 32 bit.
    absent.iter().for_each(|&number| answer(JUMP_IF_EQUAL, number as u32));
    program.extend(filter);
    program
}
