//! Rules 301 to 305: an operation keeps its promises and speaks well while it does.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use imagefactory_model::stage::Operation;
use imagefactory_plugin_sdk::abi::{
    IMGF_E_CANCELLED, IMGF_E_IO, IMGF_E_PANIC, IMGF_E_UNSUPPORTED, IMGF_E_VENDOR, IMGF_OK,
};

use super::bench::{Bench, Returned, Run};
use super::mock_host::{Call, Script};
use super::stage_input::StageTexts;
use super::subject::Subject;

/// progress.h: say something at least once a minute.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Host functions whose failure makes most operations fail.
const TELLING_CALLS: [Call; 4] = [Call::PathGet, Call::SecretGet, Call::Journal, Call::SetResult];

/// Runs the scenario's operations in order on one instance; what push made is what is deleted.
pub(super) fn run_all<'b>(
    bench: &'b Bench,
    subject: &'b Subject,
    mut judge: impl FnMut(&Run<'_>, &Returned),
) -> Option<Run<'b>> {
    let run = bench.start(subject, Script::default())?;
    let mut identifier: Option<String> = None;
    for operation in bench.operations(subject) {
        if operation == Operation::Cleanup {
            continue; // rule 310 calls it with what is to be undone
        }
        let mut texts = StageTexts::new(bench, &run.folders, operation);
        if let (Operation::DeleteFromProvider, Some(identifier)) = (operation, &identifier) {
            texts.identify(identifier);
        }
        let returned = run.operation_with(operation, &texts);
        identifier = identifier_of(&returned).or(identifier);
        judge(&run, &returned);
        // The next operation of the same kind has an output name of its own.
        std::fs::remove_file(run.output_image()).ok(); // there is none where nothing was written
    }
    Some(run)
}

/// The provider's name of what was made.
pub(super) fn identifier_of(returned: &Returned) -> Option<String> {
    let identifier = returned.seen.results.get("identifier_on_provider")?;
    identifier.as_str().map(str::to_owned)
}

/// 301: IMGF_OK, the required results, the output as declared.
pub(super) fn does_what_it_promises(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    let mut done = 0;
    let run = run_all(bench, &subject, |run, returned| {
        let name = returned.operation.name();
        match returned.code {
            IMGF_OK => {
                done += 1;
                let broken = broken_promises(run, returned);
                broken.iter().for_each(|broken| bench.report.failed(format!("{name}: {broken}")));
            }
            IMGF_E_UNSUPPORTED => bench.report.note(format!("{name} is not supported")),
            _ => bench.report.failed(format!("{name} answered {}", returned.told())),
        }
    });
    if run.is_some() && done == 0 {
        bench.report.skip("no operation was run to its end; say in <Id>.validate.json what to run");
    }
}

/// What is missing although the operation answered IMGF_OK.
pub(super) fn broken_promises(run: &Run<'_>, returned: &Returned) -> Vec<String> {
    let mut broken = Vec::new();
    let operation = returned.operation;
    for key in operation.required_results() {
        if !returned.seen.results.contains_key(*key) {
            broken.push(format!("the result {key} was not set"));
        }
    }
    if !operation.may_write_output() {
        return broken;
    }
    let output = run.output_image();
    let made_all = operation == Operation::BuilderShouldCreateTargetImage && returned.yes == 0;
    let must =
        made_all || matches!(operation, Operation::CreateBaseImage | Operation::CreateTargetImage);
    match std::fs::symlink_metadata(&output) {
        Err(_) if must => broken.push("IMGF_PATH_OUTPUT_IMAGE was not written".into()),
        Err(_) => {}
        Ok(meta) if !meta.is_file() => broken.push("the output is no regular file".into()),
        Ok(meta) if meta.len() == 0 => broken.push("the output is empty".into()),
        Ok(_) => match returned.seen.results.get("format").and_then(|format| format.as_str()) {
            None => broken.push("an output was written, but the result format was not set".into()),
            Some(format) => broken.extend(wrong_format(&output, format)),
        },
    }
    broken
}

/// Does the file begin as its format must?
fn wrong_format(output: &Path, declared: &str) -> Option<String> {
    let mut head = [0u8; 16];
    let read = std::fs::File::open(output).and_then(|mut file| file.read(&mut head));
    if let Err(error) = read {
        return Some(format!("the output cannot be read: {error}"));
    }
    let probed = match &head {
        [b'Q', b'F', b'I', 0xfb, ..] => "qcow2",
        [b'K', b'D', b'M', b'V', ..] => "vmdk",
        [b'c', b'o', b'n', b'e', b'c', b't', b'i', b'x', ..] => "vpc",
        [b'v', b'h', b'd', b'x', b'f', b'i', b'l', b'e', ..] => "vhdx",
        _ => {
            return match declared {
                "qcow2" | "vhdx" => {
                    Some(format!("the output is declared {declared}, but does not begin like one"))
                }
                _ => None,
            };
        }
    };
    (probed != declared && declared != "vhd")
        .then(|| format!("the output is declared {declared}, but begins like {probed}"))
}

/// 302: progress is plausible.
pub(super) fn tells_progress_well(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    run_all(bench, &subject, |_, returned| {
        let name = returned.operation.name();
        for text in returned.seen.against(302) {
            bench.report.failed(format!("{name}: {text}"));
        }
        let times = &returned.seen.progress;
        let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
        if returned.took > SILENCE_MAX && (times.is_empty() || gap > SILENCE_MAX) {
            bench.report.advise(format!("{name} told no progress for more than a minute"));
        }
    });
}

/// 303: one error record with the returned code, and none on success.
pub(super) fn reports_errors_once(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    let mut told = 0;
    let mut judge = |returned: &Returned| {
        let name = returned.operation.name();
        let records = &returned.seen.errors;
        match (returned.code, records.as_slice()) {
            (IMGF_OK, []) | (IMGF_E_UNSUPPORTED | IMGF_E_CANCELLED, [] | [_]) => {}
            (IMGF_OK, [record, ..]) => bench.report.failed(format!(
                "{name} answered IMGF_OK and reported an error: {}",
                record.message
            )),
            (code, []) => {
                bench.report.failed(format!("{name} answered {code} without report_error"))
            }
            (code, [record]) if record.code != code => {
                bench.report.failed(format!("{name} answered {code}, but reported {}", record.code))
            }
            (code, [record]) if record.message.trim().is_empty() => bench.report.failed(format!(
                "{name} answered {code}; the message of its error record is empty"
            )),
            (_, [_]) => told += 1,
            (code, more) => bench.report.failed(format!(
                "{name} answered {code} and called report_error {} times",
                more.len()
            )),
        }
    };
    run_all(bench, &subject, |_, returned| judge(returned));
    for returned in failing_operations(bench, &subject) {
        judge(&returned);
    }
    if told == 0 {
        bench.report.note("no error could be provoked by failing host services");
    }
}

/// The main operation with each of the telling host functions failing.
fn failing_operations(bench: &Bench, subject: &Subject) -> Vec<Returned> {
    let Some(operation) = bench.main_operation(subject) else { return Vec::new() };
    let failing = TELLING_CALLS.iter().filter_map(|call| {
        let script = Script { fail_always: Some((*call, IMGF_E_IO)), ..Script::default() };
        let run = bench.start(subject, script)?;
        Some(run.operation(operation))
    });
    failing.collect()
}

/// Is it a status that status.h knows, or a vendor's?
pub(super) fn is_known(code: i32) -> bool {
    (IMGF_OK..=IMGF_E_PANIC).contains(&code) || code >= IMGF_E_VENDOR
}

/// 304: keys, events, levels, paths and statuses are those of the headers.
pub(super) fn uses_known_keys(bench: &Bench) {
    each_operation_and_error(bench, |returned| {
        let name = returned.operation.name();
        let mut found: Vec<String> = returned.seen.against(304).map(str::to_owned).collect();
        let reported = returned.seen.errors.iter().map(|error| error.code);
        for code in std::iter::once(returned.code).chain(reported) {
            if !is_known(code) {
                found.push(format!("{name} uses the status {code}, which status.h does not have"));
            }
        }
        found
    });
}

/// 305: texts are UTF-8, JSON is JSON.
pub(super) fn speaks_utf8_and_json(bench: &Bench) {
    each_operation_and_error(bench, |returned| {
        let name = returned.operation.name();
        returned.seen.against(305).map(|text| format!("{name}: {text}")).collect()
    });
}

fn each_operation_and_error(bench: &Bench, mut find: impl FnMut(&Returned) -> Vec<String>) {
    let Some(subject) = bench.subject() else { return };
    let mut found = Vec::new();
    run_all(bench, &subject, |_, returned| found.extend(find(returned)));
    for returned in failing_operations(bench, &subject) {
        found.extend(find(&returned));
    }
    found.dedup();
    found.iter().take(8).for_each(|found| bench.report.failed(found));
}
