//! Rules 401 to 405 and 410: the host, the disk or the provider fails in the middle.

use std::collections::BTreeSet;

use imagefactory_model::stage::{JournalEvent, Operation};
use imagefactory_plugin_sdk::abi::*;

use super::bench::{Bench, Returned};
use super::mock_host::{Call, Recorded, Script, Secret};
use super::operation::is_known;
use super::provider::{NO_ANSWER, SHORT_READ};
use super::subject::Subject;

/// How an operation runs when nothing fails; `None` was reported.
pub(super) fn undisturbed(
    bench: &Bench,
    subject: &Subject,
    operation: Operation,
) -> Option<Recorded> {
    let run = bench.start(subject, Script::default())?;
    Some(run.operation(operation).seen)
}

/// Does `returned` hold a status of these, or IMGF_OK? Otherwise that is a finding.
pub(super) fn expect_one_of(bench: &Bench, returned: &Returned, codes: &[i32], when: &str) {
    let code = returned.code;
    if code != IMGF_OK && !codes.contains(&code) && code < IMGF_E_VENDOR {
        let name = returned.operation.name();
        let told = returned.told();
        bench
            .report
            .failed(format!("{name} answered {told} when {when}; it should be one of {codes:?}"));
    }
}

/// 401: each call of a host function may fail.
pub(super) fn stands_failing_services(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    for operation in bench.operations(&subject) {
        if operation == Operation::Cleanup {
            continue;
        }
        let Some(seen) = undisturbed(bench, &subject, operation) else { return };
        let fallible: Vec<Call> = seen.calls.into_iter().filter(|call| call.can_fail()).collect();
        for nth in points_of_every_kind(bench, &fallible) {
            let script = Script { fail: Some((nth, IMGF_E_IO)), ..Script::default() };
            let Some(run) = bench.start(&subject, script) else { return };
            let call = fallible[nth as usize - 1];
            bench.report.phase(format!("{}, while call {nth} ({call:?}) fails", operation.name()));
            let returned = run.operation(operation);
            judge_failed_service(bench, &returned, nth);
        }
    }
}

/// Seeded points, and the first call of each function besides.
fn points_of_every_kind(bench: &Bench, calls: &[Call]) -> BTreeSet<u32> {
    let mut points: BTreeSet<u32> = if calls.is_empty() {
        BTreeSet::new()
    } else {
        bench.points(calls.len() as u32).into_iter().collect()
    };
    let mut known = BTreeSet::new();
    for (at, call) in calls.iter().enumerate() {
        if known.insert(*call) {
            points.insert(at as u32 + 1);
        }
    }
    points
}

fn judge_failed_service(bench: &Bench, returned: &Returned, nth: u32) {
    let name = returned.operation.name();
    let Some(failed) = returned.seen.failed else { return };
    if !is_known(returned.code) {
        bench.report.failed(format!(
            "{name} answered {} when call {nth} ({failed:?}) failed",
            returned.code
        ));
    }
    for token in &returned.seen.unrecorded {
        let made = returned.seen.journal.iter();
        if made.clone().any(|entry| &entry.token == token && entry.event == JournalEvent::Created)
            && !made
                .clone()
                .any(|entry| &entry.token == token && entry.event == JournalEvent::WillCreate)
        {
            bench
                .report
                .failed(format!("{name} made {token} although its WILL_CREATE was not recorded"));
        }
    }
    let required = returned.operation.required_results();
    if returned.code == IMGF_OK
        && failed == Call::SetResult
        && required.iter().any(|key| !returned.seen.results.contains_key(*key))
    {
        bench
            .report
            .failed(format!("{name} answered IMGF_OK although its required result was refused"));
    }
}

/// 402: the disk is full, from the start and in the middle.
pub(super) fn stands_a_full_disk(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    let Some(operation) = bench.main_operation(&subject) else { return };
    let Some(run) = bench.start(&subject, Script::default()) else { return };
    run.operation(operation);
    let size = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
    let whole = size(&run.output_image());
    // The real host ignores it too, so that a full quota is an error and not a death.
    // SAFETY: changes the disposition of one signal in this process.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let mut limits = vec![whole / 2, 0];
    limits.dedup();
    // The folders must be there before nothing can be written any more.
    let runs: Option<Vec<_>> = limits
        .iter()
        .map(|limit| Some((*limit, bench.start(&subject, Script::default())?)))
        .collect();
    for (limit, run) in runs.unwrap_or_default() {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let maximum = getrlimit(Resource::Fsize).maximum;
        bench.report.phase(format!("{} with room for {limit} bytes", operation.name()));
        if setrlimit(Resource::Fsize, Rlimit { current: Some(limit), maximum }).is_err() {
            bench.report.skip("the size of files cannot be limited here");
            return;
        }
        let returned = run.operation(operation);
        setrlimit(Resource::Fsize, Rlimit { current: maximum, maximum }).ok(); // back again
        let when = format!("no file could grow beyond {limit} bytes");
        expect_one_of(bench, &returned, &[IMGF_E_IO, IMGF_E_QUOTA, IMGF_E_UNAVAILABLE], &when);
        if returned.code == IMGF_OK && size(&run.output_image()) < whole {
            bench.report.failed(format!("{} answered IMGF_OK although {when}", operation.name()));
        }
    }
}

/// 403: the work folder cannot be written.
pub(super) fn stands_a_read_only_work_folder(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    let Some(operation) = bench.main_operation(&subject) else { return };
    let Some(run) = bench.start(&subject, Script::default()) else { return };
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o555);
    if std::fs::set_permissions(&run.folders.work, mode).is_err() || drop_overrides().is_err() {
        bench.report.skip("a folder cannot be made read-only here");
        return;
    }
    if std::fs::write(run.folders.work.join("probe"), b"").is_ok() {
        bench.report.skip("this user writes to read-only folders");
        return;
    }
    let returned = run.operation(operation);
    let codes = [IMGF_E_IO, IMGF_E_PERMISSION, IMGF_E_QUOTA];
    expect_one_of(bench, &returned, &codes, "the work folder was read-only");
}

/// root writes everywhere by two capabilities; without them a mode counts again.
fn drop_overrides() -> Result<(), rustix::io::Errno> {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let mut mine = capabilities(None)?;
    mine.effective.remove(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
    set_capabilities(None, mine)
}

/// 404: there is no such secret.
pub(super) fn stands_a_missing_secret(bench: &Bench) {
    let script = Script { secret: Secret::Missing, ..Script::default() };
    let codes = [IMGF_E_AUTH, IMGF_E_NOT_FOUND, IMGF_E_PERMISSION, IMGF_E_INVALID_ARGUMENT];
    with_secret(bench, &script, &codes, "the credentials did not exist");
}

/// 405: secrets are any text.
pub(super) fn stands_odd_secrets(bench: &Bench) {
    let long = "s".repeat(1 << 20);
    let odd = [
        "",
        " ",
        "\n",
        "line\nbreak\r\n\ttab",
        "\"quoted\" \\back\\",
        "<&>'%s%n",
        "pässwörd 🔑",
        "\u{1}\u{7f}",
        &long,
    ];
    let codes = [IMGF_E_AUTH, IMGF_E_INVALID_ARGUMENT, IMGF_E_PERMISSION, IMGF_E_NOT_FOUND];
    for text in odd {
        let script = Script { secret: Secret::Text(text.to_owned()), ..Script::default() };
        let shown: String = text.chars().take(16).collect();
        with_secret(
            bench,
            &script,
            &codes,
            &format!("the credentials were {shown:?} ({} bytes)", text.len()),
        );
    }
}

fn with_secret(bench: &Bench, script: &Script, codes: &[i32], when: &str) {
    let Some(subject) = bench.subject() else { return };
    for operation in bench.operations(&subject) {
        if operation == Operation::Cleanup {
            continue;
        }
        let Some(run) = bench.start(&subject, script.clone()) else { return };
        let returned = run.operation(operation);
        if !returned.seen.secrets.is_empty() {
            expect_one_of(bench, &returned, codes, when);
        }
    }
}

/// 410: the provider refuses, is busy, breaks off.
pub(super) fn stands_a_failing_provider(bench: &Bench) {
    if !bench.order.scenario.uses_endpoint {
        bench.report.skip("<Id>.validate.json gives its provider no ${ENDPOINT}");
        return;
    }
    let Some(provider) = bench.provider() else {
        bench.report.skip("there is no loopback network here");
        return;
    };
    let Some(subject) = bench.subject() else { return };
    let Some(operation) = bench.main_operation(&subject) else { return };
    const BUSY: &[i32] = &[IMGF_E_UNAVAILABLE, IMGF_E_QUOTA];
    const BROKEN: &[i32] = &[IMGF_E_IO, IMGF_E_UNAVAILABLE, IMGF_E_TIMEOUT];
    let answers: [(u16, &[i32], bool); 8] = [
        (401, &[IMGF_E_AUTH], false),
        (403, &[IMGF_E_PERMISSION, IMGF_E_AUTH], false),
        (404, &[IMGF_E_NOT_FOUND], false),
        (429, BUSY, true),
        (500, BROKEN, false),
        (503, BUSY, true),
        (SHORT_READ, BROKEN, false),
        (NO_ANSWER, BROKEN, false),
    ];
    for (status, usual, retryable) in answers {
        let own = bench.order.scenario.endpoint_codes.get(&status.to_string());
        let codes = own.map_or(usual, Vec::as_slice);
        let Some(run) = bench.start(&subject, Script::default()) else { return };
        provider.answer(status);
        let returned = run.operation(operation);
        provider.answer(200);
        let when = match status {
            SHORT_READ => "the provider's answer broke off".to_owned(),
            NO_ANSWER => "the provider closed the connection".to_owned(),
            status => format!("the provider answered {status}"),
        };
        if returned.code == IMGF_OK && status != SHORT_READ {
            bench.report.failed(format!("{} answered IMGF_OK when {when}", operation.name()));
        }
        expect_one_of(bench, &returned, codes, &when);
        let flagged =
            returned.seen.errors.iter().any(|error| error.flags & IMGF_ERR_RETRYABLE != 0);
        if retryable && returned.code != IMGF_OK && !flagged {
            bench
                .report
                .failed(format!("{} did not set IMGF_ERR_RETRYABLE when {when}", operation.name()));
        }
    }
}
