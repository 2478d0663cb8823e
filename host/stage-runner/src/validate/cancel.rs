//! Rules 501 to 505: the host asks an operation to end.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use imagefactory_model::stage::Operation;
use imagefactory_plugin_sdk::abi::{IMGF_E_CANCELLED, IMGF_E_TIMEOUT, IMGF_E_UNSUPPORTED, IMGF_OK};

use super::aborter::Aborter;
use super::bench::{Bench, Returned, Run};
use super::faults::undisturbed;
use super::mock_host::{Disturb, Script};
use super::stage_input::StageTexts;
use super::subject::Subject;

/// "Must not block", with room for a busy machine.
const ABORT_MAX: Duration = Duration::from_secs(1);
/// An operation that was told at its very end may finish: log line, result, last progress.
const CALLS_TO_FINISH: u32 = 3;

/// Runs an operation during which the script cancels; `abort` is called on another thread.
pub(super) fn run_cancelled(
    run: &Run<'_>,
    operation: Operation,
    texts: &StageTexts,
) -> (Returned, Vec<Duration>) {
    let abort = run.subject.abort();
    let aborter = abort.and_then(|abort| Aborter::new(run.host, abort, run.instance));
    let returned = run.operation_with(operation, texts);
    let took = aborter.map(Aborter::join).unwrap_or_default();
    (returned, took)
}

/// 501: cancelled before it starts.
pub(super) fn ends_before_it_starts(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    let Some(operation) = bench.main_operation(&subject) else { return };
    let Some(run) = bench.start(&subject, Script::default()) else { return };
    run.host.cancel();
    if let Some(abort) = subject.abort() {
        bench.report.phase("abort before the operation");
        // SAFETY: the instance is alive; os.h allows abort before the operation.
        unsafe { abort(run.instance.0) };
    }
    let texts = StageTexts::slow(bench, &run.folders, operation);
    let returned = run.operation_with(operation, &texts);
    let name = operation.name();
    if returned.code != IMGF_E_CANCELLED {
        let told = returned.told();
        bench.report.failed(format!(
            "{name} was cancelled before it started and answered {told} instead of 11"
        ));
    }
    if returned.took > bench.cancel_grace() {
        bench
            .report
            .failed(format!("{name} took {:?} to see that it was cancelled before", returned.took));
    }
}

/// 502: cancelled at seeded points, in all three ways at once, as the real host does.
pub(super) fn ends_in_its_middle(bench: &Bench) {
    disturbed_by(bench, Disturb::Cancel { abort: true });
}

/// 503: flag and descriptor alone are enough; whoever has no abort hears nothing else.
pub(super) fn hears_without_abort(bench: &Bench) {
    disturbed_by(bench, Disturb::Cancel { abort: false });
}

fn disturbed_by(bench: &Bench, disturb: Disturb) {
    let Some(subject) = bench.subject() else { return };
    for operation in long_operations(bench, &subject) {
        let Some(seen) = undisturbed(bench, &subject, operation) else { return };
        let count = seen.calls.len() as u32;
        if count == 0 {
            bench
                .report
                .note(format!("{} makes no host call to be cancelled at", operation.name()));
            continue;
        }
        for point in bench.points(count) {
            let script = Script { disturb: Some((point, disturb)), ..Script::default() };
            let Some(run) = bench.start(&subject, script) else { return };
            bench.report.phase(format!("{} cancelled at host call {point}", operation.name()));
            let texts = StageTexts::slow(bench, &run.folders, operation);
            let (returned, _) = run_cancelled(&run, operation, &texts);
            judge(bench, &returned, point);
        }
    }
}

/// Everything but the small hooks: those are over before anybody could cancel them.
fn long_operations(bench: &Bench, subject: &Subject) -> Vec<Operation> {
    let small = |operation: &Operation| {
        matches!(operation, Operation::Cleanup | Operation::BuilderWillCreateTargetImage)
    };
    bench.operations(subject).into_iter().filter(|operation| !small(operation)).collect()
}

fn judge(bench: &Bench, returned: &Returned, point: u32) {
    let name = returned.operation.name();
    let Some(cancelled) = returned.seen.cancelled else { return }; // it ended before the point
    let calls_after =
        returned.seen.calls.len() as u32 - point.min(returned.seen.calls.len() as u32);
    match returned.code {
        IMGF_E_CANCELLED | IMGF_E_UNSUPPORTED => {}
        IMGF_OK if calls_after <= CALLS_TO_FINISH => {}
        _ => bench.report.failed(format!(
            "{name}, cancelled at host call {point}, answered {} instead of IMGF_E_CANCELLED (11)",
            returned.told()
        )),
    }
    let late = cancelled.elapsed();
    if late > bench.cancel_grace() {
        bench.report.failed(format!(
            "{name}, cancelled at host call {point}, returned after {late:.1?}; {:?} are allowed",
            bench.cancel_grace()
        ));
    }
}

/// 504: abort twice, alone, from another thread, and when all is over.
pub(super) fn stands_abort_at_any_time(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    let Some(abort) = subject.abort() else {
        bench.report.skip("it has no abort");
        return;
    };
    let Some(operation) = bench.main_operation(&subject) else { return };
    let script =
        Script { disturb: Some((1, Disturb::AbortOnly { times: 2 })), ..Script::default() };
    let Some(run) = bench.start(&subject, script) else { return };
    let texts = StageTexts::new(bench, &run.folders, operation);
    bench.report.phase(format!("{} with abort called twice on another thread", operation.name()));
    let (returned, mut took) = run_cancelled(&run, operation, &texts);
    if !matches!(returned.code, IMGF_OK | IMGF_E_CANCELLED) {
        bench.report.failed(format!(
            "{} answered {} after abort",
            operation.name(),
            returned.told()
        ));
    }
    bench.report.phase("abort after the operation has returned");
    let started = std::time::Instant::now();
    for _ in 0..2 {
        // SAFETY: the instance is alive; os.h allows abort after the operation.
        unsafe { abort(run.instance.0) };
    }
    took.push(started.elapsed());
    if let Some(slow) = took.iter().find(|took| **took > ABORT_MAX) {
        bench.report.failed(format!("abort took {slow:.1?}; it must not block"));
    }
    run.destroy();
}

/// 505: a deadline that is over is no reason to fail oddly.
pub(super) fn stands_a_past_deadline(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    let Some(operation) = bench.main_operation(&subject) else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    for deadline in [1, now.saturating_sub(60_000)] {
        let Some(run) = bench.start(&subject, Script::default()) else { return };
        let mut texts = StageTexts::new(bench, &run.folders, operation);
        texts.deadline_unix_ms = deadline;
        let returned = run.operation_with(operation, &texts);
        if !matches!(returned.code, IMGF_OK | IMGF_E_CANCELLED | IMGF_E_TIMEOUT) {
            bench.report.failed(format!(
                "{} with a deadline in the past answered {}; only 0, 10 and 11 make sense",
                operation.name(),
                returned.told()
            ));
        }
    }
}
