//! Rules 506 and 507: the process is ended from outside. The outer process carries the journal
//! from the killed process to the one that cleans up, and counts who is left.

use std::time::Duration;

use imagefactory_model::stage::{JournalEvent, Operation};
use imagefactory_plugin_sdk::abi::IMGF_OK;

use super::bench::{Act, Bench};
use super::faults::undisturbed;
use super::mock_host::{Call, Disturb, Script};
use super::stage_input::{StageTexts, open_entries};

/// 506: SIGTERM to the group ends the plugin and its children.
pub(super) fn leaves_nothing_on_sigterm(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    let Some(operation) = bench.main_operation(&subject) else { return };
    let Some(seen) = undisturbed(bench, &subject, operation) else { return };
    let point = bench.point_of_act(seen.calls.len() as u32);
    let script =
        Script { disturb: Some((point, Disturb::Signal(libc::SIGTERM))), ..Script::default() };
    let Some(run) = bench.start(&subject, script) else { return };
    let texts = StageTexts::slow(bench, &run.folders, operation);
    bench.report.phase(format!("{}, SIGTERM at host call {point}", operation.name()));
    run.operation_with(operation, &texts);
    // Blocked or handled: the real host goes on with SIGKILL, which needs no cooperation.
    bench.report.phase("after an operation that survived SIGTERM");
    std::thread::sleep(Duration::from_millis(20));
}

/// 507: after SIGKILL a fresh process removes everything that was announced.
pub(super) fn is_cleaned_up_after_sigkill(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    let Some(operation) = bench.main_operation(&subject) else { return };
    match bench.act {
        Act::Killed(number) => {
            let Some(run) = bench.start(&subject, Script::default()) else { return };
            let seen = run.operation(operation).seen;
            let Some(first) = seen.calls.iter().position(|call| *call == Call::Journal) else {
                bench.report.skip(format!("{} announces nothing in the journal", operation.name()));
                return;
            };
            // Right after the first announcement, then at seeded later points.
            let later = (seen.calls.len() - first) as u32;
            let point = first as u32 + 1 + if number == 0 { 1 } else { bench.point_of_act(later) };
            let script = Script {
                disturb: Some((point, Disturb::Signal(libc::SIGKILL))),
                ..Script::default()
            };
            let Ok(folders) = bench.folders_named(&folder_of(number)) else { return };
            let Some(run) = bench.start_in(&subject, script, folders) else { return };
            run.host.report_journal();
            let texts = StageTexts::slow(bench, &run.folders, operation);
            bench.report.phase(format!("{}, SIGKILL at host call {point}", operation.name()));
            run.operation_with(operation, &texts);
        }
        Act::Cleanup(number) => {
            if bench.journal.is_empty() {
                return; // it was killed before it had announced anything
            }
            let Ok(folders) = bench.folders_named(&folder_of(number)) else { return };
            let Some(run) = bench.start_in(&subject, Script::default(), folders) else { return };
            let mut texts = StageTexts::new(bench, &run.folders, Operation::Cleanup);
            texts.undo(&bench.journal);
            if !subject.has(Operation::Cleanup) {
                bench.report.failed("it journals, but there is no imagefactory.cleanup/1");
                return;
            }
            let returned = run.operation_with(Operation::Cleanup, &texts);
            if returned.code != IMGF_OK {
                bench.report.failed(format!("cleanup after SIGKILL answered {}", returned.told()));
            }
            let removed = |token: &String| {
                returned
                    .seen
                    .journal
                    .iter()
                    .any(|entry| &entry.token == token && entry.event == JournalEvent::Removed)
            };
            for entry in open_entries(&bench.journal) {
                if !removed(&entry.token) {
                    let token = &entry.token;
                    bench
                        .report
                        .failed(format!("cleanup after SIGKILL recorded no REMOVED for {token}"));
                }
            }
            let left = run.folders.ledger_count();
            if left > 0 {
                bench.report.failed(format!("cleanup after SIGKILL left {left} outside resources"));
            }
        }
        Act::Whole | Act::Terminated(_) => {}
    }
}

/// The killed process and the one after it share folders.
fn folder_of(number: u32) -> String {
    format!("killed-{number}")
}
