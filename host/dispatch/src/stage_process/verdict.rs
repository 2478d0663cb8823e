//! The failure table: what was observed of a runner decides what became of the stage.
//!
//! Pure: facts in, failure or nothing out (plugin-abi.md 3.3, item 5). Success needs an END with 0
//! *and* exit status 0 *and* what `output.rs` finds afterwards; everything else falls into exactly
//! one row here. The order of the rows in [`judge`] is the order of trust: what we did ourselves,
//! what the kernel says, what the frames say.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use imagefactory_model::frames::{PluginErrorReport, PluginLibrary, RefusalKind, Refused};
use imagefactory_model::stage::{FailureCode, Operation, StageFailure};
use rustix::process::Signal;

/// IMGF_E_PANIC of status.h.
const PANIC: i32 = 15;
/// IMGF_E_QUOTA of status.h.
const QUOTA: i32 = 12;
/// `ENOSPC` and `EDQUOT` of errno.h.
const NO_SPACE: [i32; 2] = [28, 122];

/// What was seen of one runner.
#[derive(Debug)]
pub(super) struct Observed<'a> {
    pub(super) plugin: &'a PluginLibrary,
    /// `None` = it was only described.
    pub(super) operation: Option<Operation>,
    /// Did it get as far as Ready?
    pub(super) loaded: bool,
    pub(super) refused: Option<Refused>,
    pub(super) error: Option<PluginErrorReport>,
    /// Code of END.
    pub(super) end: Option<i32>,
    /// The first breach of the protocol, as a sentence without the plugin's name.
    pub(super) violation: Option<String>,
    /// Why we ended it, if we did.
    pub(super) stopped: Option<StopReason>,
    /// Did we send SIGTERM or SIGKILL?
    pub(super) signalled: bool,
    /// `None` = killed, and still not gone.
    pub(super) status: Option<ExitStatus>,
    pub(super) oom_kills: u64,
    pub(super) memory_bytes_max: u64,
}

/// Why the supervisor ended a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StopReason {
    /// Somebody asked.
    Cancelled,
    /// Its time was over.
    Deadline(Duration),
    /// Not Ready in time.
    SlowLoad(Duration),
    /// No sign of life from the stage thread.
    Silence(Duration),
    /// END came and the process stayed.
    Lingering(Duration),
    /// It broke the protocol.
    Violation,
    /// The sandbox must be strict and lacks these layers.
    Strict(String),
    /// Our own part failed.
    Host(String),
}

/// The failure, or `None` when END{0} and exit status 0 agree and nothing was broken.
pub(super) fn judge(seen: &Observed<'_>) -> Option<StageFailure> {
    let succeeded = seen.end == Some(0)
        && seen.status.is_some_and(|status| status.success())
        && seen.violation.is_none();
    let ours = matches!(seen.stopped, Some(StopReason::Host(_) | StopReason::Strict(_)));
    if succeeded && !ours {
        return None;
    }
    if let Some(refused) = &seen.refused {
        return Some(refusal(seen, refused));
    }
    Some(match &seen.stopped {
        Some(StopReason::Host(why)) => StageFailure::new(FailureCode::Host, why.clone()),
        Some(StopReason::Strict(missing)) => strict(seen, missing),
        Some(StopReason::Cancelled) if ended_by_cancel(seen) => {
            StageFailure::new(FailureCode::Cancelled, cancelled_sentence(seen))
        }
        _ if seen.oom_kills > 0 => out_of_memory(seen),
        _ if seen.violation.is_some() => protocol(seen, seen.violation.clone().unwrap_or_default()),
        Some(reason) if is_timeout(reason) && seen.end.is_none_or(|code| code != 0) => {
            timeout(seen, reason)
        }
        _ => by_end_and_status(seen),
    })
}

/// Crashing of itself while it cancels is still a crash.
fn ended_by_cancel(seen: &Observed<'_>) -> bool {
    let ended = seen.end.is_some_and(|code| code != 0);
    ended || seen.signalled || seen.status.is_none_or(|status| status.signal().is_none())
}

fn is_timeout(reason: &StopReason) -> bool {
    matches!(reason, StopReason::Deadline(_) | StopReason::SlowLoad(_) | StopReason::Silence(_))
}

fn by_end_and_status(seen: &Observed<'_>) -> StageFailure {
    match (seen.end, seen.status) {
        (Some(0), None) => protocol(seen, "it reported success and cannot be ended".to_owned()),
        (Some(0), Some(_)) if matches!(seen.stopped, Some(StopReason::Lingering(_))) => {
            protocol(seen, "it reported success and did not exit; its output is discarded".into())
        }
        (Some(0), Some(status)) => protocol(
            seen,
            format!("it died after finishing ({}); its output is discarded", told(status)),
        ),
        (Some(code), _) if code > 0 => plugin_error(seen, code),
        (Some(code), _) => {
            protocol(seen, format!("it returned {code}, which is reserved for the host"))
        }
        (None, None) => {
            let why =
                "was killed and is still there; it hangs in the kernel (dead network storage?)";
            StageFailure::new(FailureCode::PluginTimeout, format!("{} {why}", subject(seen)))
        }
        (None, Some(_)) if matches!(seen.stopped, Some(StopReason::Lingering(_))) => {
            protocol(seen, "it closed its connection to the host and did not exit".to_owned())
        }
        (None, Some(status)) => match status.signal() {
            Some(signal) => by_signal(seen, signal),
            None => {
                protocol(seen, format!("it exited ({}) without reporting an end", told(status)))
            }
        },
    }
}

fn by_signal(seen: &Observed<'_>, signal: i32) -> StageFailure {
    let who = subject(seen);
    let place = place(seen);
    let name = signal_name(signal);
    let is = |wanted: Signal| signal == wanted.as_raw();
    if is(Signal::ABORT) {
        let hint = "an assertion, a panic with panic=abort or a corrupted heap; see the log's end";
        let sentence = format!("{who} aborted {place}: {name}");
        return StageFailure {
            hint: hint.to_owned(),
            ..failure(FailureCode::PluginAbort, sentence)
        };
    }
    if is(Signal::SYS) {
        let hint = "give it a wider profile (manifest sandbox.profile), if it may have one; a plugin \
                    that sends SIGKILL to itself ends like this, too";
        let sentence = format!("{who} used a system call {place} that its sandbox forbids: {name}");
        return StageFailure { hint: hint.to_owned(), ..failure(FailureCode::Sandbox, sentence) };
    }
    if is(Signal::XFSZ) {
        let sentence = format!("{who} wrote a larger file {place} than the stage may: {name}");
        return failure(FailureCode::NoSpace, sentence);
    }
    let outside =
        [Signal::KILL, Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::POWER];
    if outside.into_iter().any(is) {
        let sentence = format!("{who} was ended from outside {place}: {name}");
        return StageFailure { retryable: true, ..failure(FailureCode::Interrupted, sentence) };
    }
    failure(FailureCode::PluginCrash, format!("{who} crashed {place}: {name}"))
}

fn plugin_error(seen: &Observed<'_>, code: i32) -> StageFailure {
    let report = seen.error.clone().unwrap_or_default();
    let said = if report.message.is_empty() {
        format!("it returned {code} and gave no reason")
    } else {
        report.message.clone()
    };
    let kind = match code {
        PANIC => FailureCode::PluginPanic,
        _ if report.user_fault => user_fault(seen.operation),
        QUOTA if NO_SPACE.contains(&report.os_errno) => FailureCode::NoSpace,
        _ if NO_SPACE.contains(&report.os_errno) => FailureCode::NoSpace,
        _ => FailureCode::PluginError,
    };
    let verb = if kind == FailureCode::PluginPanic { "panicked" } else { "failed" };
    StageFailure {
        hint: report.hint,
        retryable: report.retryable,
        retry_after_ms: report.retry_after_ms,
        user_fault: report.user_fault,
        vendor_code: report.vendor_code,
        plugin_status: Some(code),
        ..failure(kind, format!("{} {verb} {}: {said}", subject(seen), place(seen)))
    }
}

/// What a request can be at fault with depends on what the operation works from.
fn user_fault(operation: Option<Operation>) -> FailureCode {
    match operation {
        Some(
            Operation::CreateBaseImage | Operation::CreateTargetImage | Operation::ResolveInputs,
        ) => FailureCode::UserTemplate,
        _ => FailureCode::UserRequest,
    }
}

fn refusal(seen: &Observed<'_>, refused: &Refused) -> StageFailure {
    let code = match refused.why {
        RefusalKind::Protocol => FailureCode::Host,
        RefusalKind::File => FailureCode::PluginFile,
        RefusalKind::Sandbox => FailureCode::Sandbox,
        RefusalKind::Load => FailureCode::PluginLoad,
        RefusalKind::Abi => FailureCode::PluginAbi,
        RefusalKind::Layout => FailureCode::PluginLayout,
        RefusalKind::Unsupported => FailureCode::PluginError,
    };
    let sentence = format!("{} was refused: {}", subject(seen), refused.message);
    StageFailure { hint: refused.hint.clone(), ..failure(code, sentence) }
}

fn strict(seen: &Observed<'_>, missing: &str) -> StageFailure {
    let sentence = format!("{} was not started: strict sandbox, and {missing}", subject(seen));
    let hint = "provide what is named, or set \"strict\": false in the configuration's \"sandbox\"";
    StageFailure { hint: hint.to_owned(), ..failure(FailureCode::Sandbox, sentence) }
}

fn out_of_memory(seen: &Observed<'_>) -> StageFailure {
    let limit = match seen.memory_bytes_max {
        0 => "the machine has no more".to_owned(),
        bytes => format!("its limit is {} MiB", bytes >> 20),
    };
    let sentence = format!("{} ran out of memory {}: {limit}", subject(seen), place(seen));
    let hint = "raise sandbox.memory_max_mb for this plugin";
    StageFailure { hint: hint.to_owned(), ..failure(FailureCode::PluginOom, sentence) }
}

fn timeout(seen: &Observed<'_>, reason: &StopReason) -> StageFailure {
    let (who, place) = (subject(seen), place(seen));
    let sentence = match reason {
        StopReason::Deadline(time) => format!("{who} did not finish {place} within {time:?}"),
        StopReason::SlowLoad(time) => format!("{who} was not loaded within {time:?}"),
        _ => format!("{who} gave no sign of life {place}"),
    };
    let sentence = match reason {
        StopReason::Silence(time) => format!("{sentence} for {time:?}"),
        _ => sentence,
    };
    failure(FailureCode::PluginTimeout, sentence)
}

fn protocol(seen: &Observed<'_>, said: String) -> StageFailure {
    let sentence = format!("{} broke the protocol {}: {said}", subject(seen), place(seen));
    failure(FailureCode::PluginProtocol, sentence)
}

fn cancelled_sentence(seen: &Observed<'_>) -> String {
    let how = if seen.signalled { "; it had to be killed" } else { "" };
    format!("{} was cancelled {}{how}", subject(seen), place(seen))
}

fn failure(code: FailureCode, sentence: String) -> StageFailure {
    StageFailure::new(code, sentence)
}

/// `plugin EC2Cloud 1.4.0`.
pub(super) fn subject(seen: &Observed<'_>) -> String {
    format!("plugin {} {}", seen.plugin.id, seen.plugin.version)
}

fn place(seen: &Observed<'_>) -> String {
    match seen.operation {
        Some(operation) if seen.loaded => format!("in {operation}"),
        _ => "while it was loaded".to_owned(),
    }
}

fn told(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => signal_name(signal),
        (None, None) => "no status".to_owned(),
    }
}

fn signal_name(signal: i32) -> String {
    const NAMES: [(Signal, &str); 14] = [
        (Signal::SEGV, "SIGSEGV (invalid memory reference)"),
        (Signal::BUS, "SIGBUS (memory that cannot be had)"),
        (Signal::ILL, "SIGILL (illegal instruction)"),
        (Signal::FPE, "SIGFPE (arithmetic error)"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::SYS, "SIGSYS (forbidden system call)"),
        (Signal::XFSZ, "SIGXFSZ (file size limit)"),
        (Signal::KILL, "SIGKILL"),
        (Signal::TERM, "SIGTERM"),
        (Signal::INT, "SIGINT"),
        (Signal::HUP, "SIGHUP"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::PIPE, "SIGPIPE"),
    ];
    let known = NAMES.iter().find(|(known, _)| known.as_raw() == signal);
    known.map_or_else(|| format!("signal {signal}"), |(_, name)| (*name).to_owned())
}
