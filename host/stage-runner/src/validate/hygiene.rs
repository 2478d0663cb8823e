//! Rules 601 to 606: what an operation leaves behind in its process and outside.

use std::path::Path;
use std::time::Duration;

use imagefactory_model::stage::Operation;

use super::bench::Bench;
use super::lifecycle::settled_leaks;
use super::mock_host::Script;
use super::operation::run_all;
use super::snapshot::{ProcessState, files_below};

/// A secret's piece that is shorter may well stand in a log by accident.
const SECRET_PIECE_BYTES_MIN: usize = 8;
/// Files are searched up to here; secrets of plugins stand near the beginning.
const SEARCHED_BYTES_MAX: u64 = 16 << 20;

/// 601: after destroy no thread, descriptor, child, mount or loop device is left.
pub(super) fn leaves_nothing_behind(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    // The first run may start what a process starts once (a resolver, a random pool).
    for warm in [true, false] {
        if bench.order.scenario.uses_endpoint {
            bench.provider();
        }
        let before = ProcessState::take();
        let Some(run) = run_all(bench, &subject, |_, _| {}) else { return };
        // The host's own descriptor of this run belongs to the host.
        let own = run.host.cancel_descriptor();
        run.destroy();
        if warm {
            continue;
        }
        for leak in settled_leaks(&before, Some(own)).iter().take(8) {
            bench.report.failed(leak);
        }
    }
    for device in loop_devices(&bench.order.folder) {
        bench.report.failed(format!("{device} is still attached to a file of the stage"));
    }
}

/// Loop devices whose file lies below `folder`.
fn loop_devices(folder: &Path) -> Vec<String> {
    let Ok(devices) = std::fs::read_dir("/sys/block") else { return Vec::new() };
    let attached = devices.filter_map(|device| {
        let device = device.ok()?.path();
        let file = std::fs::read_to_string(device.join("loop/backing_file")).ok()?;
        file.starts_with(&*folder.to_string_lossy()).then(|| device.to_string_lossy().into_owned())
    });
    attached.collect()
}

/// 603: signals, folder, umask, locale, environment and limits stay the host's.
pub(super) fn keeps_signals_and_process_state(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    let before = ProcessState::take();
    let Some(run) = run_all(bench, &subject, |_, _| {}) else { return };
    run.destroy();
    for change in ProcessState::take().settings_since(&before) {
        bench.report.failed(change);
    }
}

/// 604: the credentials appear nowhere.
pub(super) fn keeps_secrets(bench: &Bench) {
    let Some(credentials) = &bench.order.scenario.credentials else {
        bench.report.skip("the scenario has no credentials");
        return;
    };
    let Some(subject) = bench.subject() else { return };
    let pieces: Vec<&str> = credentials
        .split(|c: char| c.is_whitespace() || "<>\"'&,;:={}[]()".contains(c))
        .filter(|piece| {
            piece.len() >= SECRET_PIECE_BYTES_MIN && piece.bytes().any(|b| b.is_ascii_digit())
        })
        .collect();
    if pieces.is_empty() {
        bench.report.skip("the credentials hold no piece of 8 characters with a digit to look for");
        return;
    }
    let shows = |text: &[u8]| {
        pieces.iter().any(|piece| text.windows(piece.len()).any(|part| part == piece.as_bytes()))
    };
    let mut asked = false;
    let Some(run) = run_all(bench, &subject, |_, returned| {
        asked |= !returned.seen.secrets.is_empty();
        for (what, text) in &returned.seen.texts {
            if shows(text.as_bytes()) {
                let name = returned.operation.name();
                bench.report.failed(format!("{name} shows the credentials in {what}"));
            }
        }
    }) else {
        return;
    };
    if !asked {
        bench.report.note("the credentials were not asked for");
    }
    // SAFETY: flushes what plugin code printed through the C library; NULL = all streams.
    unsafe { libc::fflush(std::ptr::null_mut()) };
    for file in ["/proc/self/environ", "/proc/self/cmdline"] {
        if shows(&head_of(Path::new(file))) {
            bench.report.failed(format!("the credentials stand in {file}"));
        }
    }
    for file in files_below(&bench.order.folder) {
        if file.is_file() && shows(&head_of(&file)) {
            bench.report.failed(format!("the credentials stand in {}", file.display()));
        }
    }
    run.destroy();
}

fn head_of(file: &Path) -> Vec<u8> {
    use std::io::Read;
    let mut bytes = Vec::new();
    // What cannot be read shows nothing.
    match std::fs::File::open(file)
        .map(|file| file.take(SEARCHED_BYTES_MAX).read_to_end(&mut bytes))
    {
        Ok(Ok(_)) => bytes,
        _ => Vec::new(),
    }
}

/// 605: operations do not print. An advice: what is printed becomes log lines without a level.
pub(super) fn prints_nothing(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    let before = ProcessState::take().printed_bytes();
    let Some(run) = run_all(bench, &subject, |_, _| {}) else { return };
    run.destroy();
    let printed = ProcessState::take().printed_bytes().saturating_sub(before);
    if printed > 0 {
        bench.report.advise(format!("{printed} bytes were printed; use imgf_host.log"));
    }
}

/// 606: between operations nothing calls the host.
pub(super) fn is_silent_between_operations(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    for operation in bench.operations(&subject) {
        if operation == Operation::Cleanup {
            continue;
        }
        let Some(run) = bench.start(&subject, Script::default()) else { return };
        run.operation(operation);
        std::thread::sleep(Duration::from_millis(50));
        for text in run.host.peek().against(606) {
            bench.report.failed(format!("after {} had returned, {text}", operation.name()));
        }
    }
}
