//! Rules 201 to 206: instances come and go.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::abi::{IMGF_E_IO, IMGF_OK, imgf_host, imgf_instance};

use super::bench::Bench;
use super::cancel::run_cancelled;
use super::mock_host::{Call, Disturb, MockHost, Script};
use super::snapshot::{ProcessState, files_below, resident_bytes, written_bytes};
use super::stage_input::StageTexts;
use super::subject::Subject;

/// Threads that are just ending are waited for this long.
const SETTLE: Duration = Duration::from_millis(1500);
/// Allocators keep some of what was freed; a leak of 4 KiB a round shows with 1000 rounds.
const RESIDENT_GROWTH_MAX: u64 = 3 << 20;
/// How long a plugin may prove that it is silent.
const SILENCE: Duration = Duration::from_millis(150);

/// 201: create and destroy again and again leave descriptors, threads and memory as they were.
pub(super) fn leaks_nothing(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    let Ok(folders) = bench.folders() else { return };
    let host = MockHost::new(bench, &folders, Script::default());
    let warm_up = bench.order.rounds.div_ceil(10).max(2);
    if !rounds(bench, &subject, host, warm_up) {
        return;
    }
    let (before, resident) = (ProcessState::take(), resident_bytes());
    if !rounds(bench, &subject, host, bench.order.rounds) {
        return;
    }
    let leaks = settled_leaks(&before, None);
    let rounds = bench.order.rounds;
    for leak in leaks.iter().take(4) {
        bench.report.failed(format!("after {rounds} times create and destroy: {leak}"));
    }
    let grown = resident_bytes().saturating_sub(resident);
    if grown > RESIDENT_GROWTH_MAX {
        bench
            .report
            .failed(format!("memory grew by {grown} bytes in {rounds} times create and destroy"));
    }
}

fn rounds(bench: &Bench, subject: &Subject, host: &'static MockHost, count: u32) -> bool {
    for round in 1..=count {
        if round == 1 {
            bench.report.phase("create");
        }
        match subject.create(host) {
            Ok(instance) => {
                if round == 1 {
                    bench.report.phase("destroy");
                }
                host.begin_destroy();
                subject.destroy(instance);
                host.end();
            }
            Err(code) => {
                bench.report.failed(format!("create answered {code} the {round}. time"));
                return false;
            }
        }
    }
    true
}

/// What stays after ending threads had time to end, without the host's own descriptor.
pub(super) fn settled_leaks(before: &ProcessState, of_host: Option<i32>) -> Vec<String> {
    let until = Instant::now() + SETTLE;
    let of_host = of_host.map(|fd| format!("descriptor {fd} "));
    let foreign =
        |leak: &String| of_host.as_ref().is_none_or(|own| !leak.starts_with(own.as_str()));
    loop {
        let leaks = ProcessState::take().leaks_since(before);
        let leaks: Vec<String> = leaks.into_iter().filter(foreign).collect();
        if leaks.is_empty() || Instant::now() > until {
            return leaks;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// 202: two instances live side by side and end in any order.
pub(super) fn stands_two_instances(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    for first_goes_first in [true, false] {
        let (Some(first), Some(second)) =
            (bench.start(&subject, Script::default()), bench.start(&subject, Script::default()))
        else {
            return;
        };
        if first.instance == second.instance {
            bench.report.failed("two instances are one and the same pointer");
            return;
        }
        if first_goes_first {
            first.destroy();
            second.destroy();
        } else {
            second.destroy();
            first.destroy();
        }
    }
}

/// 203: create succeeds or refuses cleanly, whatever the host lacks.
pub(super) fn creates_or_refuses_cleanly(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    let Ok(folders) = bench.folders() else { return };
    let script = Script { no_interfaces: true, ..Script::default() };
    let host = MockHost::new(bench, &folders, script);
    create_with(bench, &subject, (host, host.table()), "a host without further interfaces");
    for nth in 1..=bench.order.rounds.clamp(1, 64) {
        let script =
            Script { fail: Some((nth, IMGF_E_IO)), fail_in_create: true, ..Script::default() };
        let host = MockHost::new(bench, &folders, script);
        let failed = create_with(
            bench,
            &subject,
            (host, host.table()),
            &format!("call {nth} of a host service fails"),
        );
        if failed.is_none() {
            break; // create makes fewer calls
        }
    }
    let whole = MockHost::new(bench, &folders, Script::default());
    for slot in 0.. {
        let Some(table) = whole.table_without(slot) else { break };
        let table: &'static imgf_host = Box::leak(table);
        create_with(
            bench,
            &subject,
            (whole, table),
            &format!("slot {slot} of the host table is NULL"),
        );
    }
}

/// One creation; answers which call was let fail.
fn create_with(
    bench: &Bench,
    subject: &Subject,
    (host, table): (&'static MockHost, *const imgf_host),
    what: &str,
) -> Option<Call> {
    let create = subject.descriptor().create?;
    let before = ProcessState::take();
    let mut instance: *mut imgf_instance = std::ptr::null_mut();
    bench.report.phase(format!("create, while {what}"));
    host.begin_create();
    // SAFETY: the table is never freed.
    let code = unsafe { create(table, &mut instance) };
    let seen = host.end();
    if code == IMGF_OK && !instance.is_null() {
        bench.report.phase(format!("destroy, after {what}"));
        host.begin_destroy();
        subject.destroy(super::subject::Instance(instance));
        host.end();
    } else if code == IMGF_OK {
        bench.report.failed(format!("{what}: create answered IMGF_OK without an instance"));
    } else if code < 0 {
        bench
            .report
            .failed(format!("{what}: create answered {code}; negative codes are the host's"));
    } else if !instance.is_null() {
        bench.report.failed(format!("{what}: create answered {code} and an instance"));
    }
    for leak in settled_leaks(&before, None).iter().take(2) {
        bench.report.failed(format!("{what}: create answered {code} and {leak}"));
    }
    seen.failed
}

/// 204: nothing calls the host once destroy has returned.
pub(super) fn is_silent_after_destroy(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    let operations = std::iter::once(None).chain(bench.main_operation(&subject).map(Some));
    for operation in operations {
        let Some(run) = bench.start(&subject, Script::default()) else { return };
        if let Some(operation) = operation {
            run.operation(operation);
        }
        let host = run.destroy();
        bench.report.phase("waiting for late calls after destroy");
        std::thread::sleep(SILENCE);
        let late = host.late_calls.load(Ordering::Relaxed);
        if late > 0 {
            bench
                .report
                .failed(format!("{late} calls of the host came after destroy had returned"));
        }
    }
}

/// 205: destroy is safe without an operation, after a failed one, after a cancelled one.
pub(super) fn is_destroyed_at_any_time(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    if let Some(run) = bench.start(&subject, Script::default()) {
        run.destroy();
    }
    let Some(operation) = bench.main_operation(&subject) else { return };
    for call in [Call::PathGet, Call::SecretGet, Call::Journal, Call::SetResult, Call::Progress] {
        let script = Script { fail_always: Some((call, IMGF_E_IO)), ..Script::default() };
        let Some(run) = bench.start(&subject, script) else { return };
        let returned = run.operation(operation);
        let code = returned.code;
        bench.report.phase(format!("destroy after {} answered {code}", operation.name()));
        run.destroy();
    }
    let script =
        Script { disturb: Some((1, Disturb::Cancel { abort: true })), ..Script::default() };
    let Some(run) = bench.start(&subject, script) else { return };
    let texts = StageTexts::slow(bench, &run.folders, operation);
    run_cancelled(&run, operation, &texts);
    bench.report.phase("destroy after a cancelled operation");
    run.destroy();
}

/// Sockets that the trap has seen.
static SOCKETS: AtomicU32 = AtomicU32::new(0);

/// 206: create opens no connection and writes no file. An advice.
pub(super) fn creates_without_effects(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    let Ok(folders) = bench.folders() else { return };
    let host = MockHost::new(bench, &folders, Script::default());
    if let Err(reason) = trap_sockets() {
        bench.report.note(format!("network not watched: {reason}"));
    }
    let files = files_below(&bench.order.folder);
    bench.report.phase("create");
    let (state, written) = (ProcessState::take(), written_bytes());
    let created = subject.create(host);
    let written = written_bytes().saturating_sub(written);
    let printed = ProcessState::take().printed_bytes().saturating_sub(state.printed_bytes());
    if SOCKETS.load(Ordering::Relaxed) > 0 {
        bench.report.advise("create opens a network socket; connections belong to operations");
    }
    let now = files_below(&bench.order.folder);
    if let Some(new) = now.iter().find(|file| !files.contains(file)) {
        bench.report.advise(format!("create makes {}", new.display()));
    } else if written > printed {
        bench.report.advise(format!("create writes {} bytes to files", written - printed));
    }
    if let Ok(instance) = created {
        host.begin_destroy();
        subject.destroy(instance);
        host.die();
    }
}

/// Lets every internet socket trap; the handler counts and answers EACCES.
fn trap_sockets() -> Result<(), String> {
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule,
    };
    let text = |error: seccompiler::BackendError| error.to_string();
    let family = |family: i32| {
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family as u64)
            .and_then(|condition| SeccompRule::new(vec![condition]))
            .map_err(text)
    };
    let rules = vec![family(libc::AF_INET)?, family(libc::AF_INET6)?];
    let arch = std::env::consts::ARCH.try_into().map_err(text)?;
    let filter = SeccompFilter::new(
        [(libc::SYS_socket, rules)].into_iter().collect(),
        SeccompAction::Allow,
        SeccompAction::Trap,
        arch,
    );
    let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(text)?;
    // SAFETY: a handler of our own that touches an atomic and the interrupted registers only.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_trap as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        if libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut()) != 0 {
            return Err(std::io::Error::last_os_error().to_string());
        }
    }
    seccompiler::apply_filter(&program).map_err(|error| error.to_string())
}

extern "C" fn on_trap(_signal: i32, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    SOCKETS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the kernel hands a ucontext to an SA_SIGINFO handler; the register is the one that
    // carries a system call's result.
    unsafe {
        let context = &mut *context.cast::<libc::ucontext_t>();
        #[cfg(target_arch = "x86_64")]
        {
            context.uc_mcontext.gregs[libc::REG_RAX as usize] = -i64::from(libc::EACCES);
        }
        #[cfg(target_arch = "aarch64")]
        {
            context.uc_mcontext.regs[0] = (-i64::from(libc::EACCES)) as u64;
        }
    }
}
