//! One runner process for one rule: spawned, fed, read, waited for, killed when it is late.
//!
//! The runner keeps the deadline of the plugin code itself and kills what that leaves behind. The
//! deadline here is a little later and for the case that the plugin has killed its keeper.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use imagefactory_model::validation::{Ended, Outcome, PROBE_LINE_BYTES_MAX, ProbeLine, ProbeOrder};

use super::error::PluginError;
use super::rules::Rule;
use super::seen::Seen;

/// Spawning, killing, burying.
const SLACK: Duration = Duration::from_secs(10);
/// A plugin that logs without end is told by its first lines.
const LINES_MAX: usize = 4096;
/// Where packages put the runner, and where a build has it: beside this program.
const PACKAGED: &str = "/usr/libexec/imagefactory/imagefactory-stage-runner";

/// What the runner told of one rule.
#[derive(Default)]
struct Told {
    seen: Seen,
    phase: String,
    done: bool,
    ended: Option<Ended>,
    stderr: String,
}

/// Finds the runner program.
pub(crate) fn find_runner(given: Option<&Path>) -> Result<PathBuf, PluginError> {
    let beside = std::env::current_exe().ok();
    let beside = beside
        .as_deref()
        .and_then(Path::parent)
        .map(|folder| folder.join("imagefactory-stage-runner"));
    let places: Vec<PathBuf> = match given {
        Some(given) => vec![given.to_owned()],
        None => beside.into_iter().chain([PathBuf::from(PACKAGED)]).collect(),
    };
    match places.iter().find(|place| place.is_file()) {
        Some(runner) => Ok(std::path::absolute(runner).unwrap_or_else(|_| runner.clone())),
        None => Err(PluginError::NoRunner {
            searched: places.iter().map(|place| place.display().to_string()).collect(),
        }),
    }
}

/// Tries one rule in a runner process. `order.folder` is an empty folder of this rule alone.
pub(crate) fn try_rule(runner: &Path, rule: &Rule, order: &ProbeOrder) -> (Outcome, Vec<String>) {
    match run(runner, order) {
        Ok(told) => judge(rule, told),
        Err(error) => (Outcome::Skipped, vec![format!("the runner could not be used: {error}")]),
    }
}

fn run(runner: &Path, order: &ProbeOrder) -> std::io::Result<Told> {
    let (home, tmp) = (order.folder.join("home"), order.folder.join("tmp"));
    std::fs::create_dir_all(&home)?;
    std::fs::create_dir_all(&tmp)?;
    let mut child = Command::new(runner)
        .arg("--validate")
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8")
        .env("HOME", home)
        .env("TMPDIR", tmp)
        .current_dir(&order.folder)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let text = serde_json::to_vec(order).map_err(std::io::Error::other)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A runner that has ended already is told by its status.
        stdin.write_all(&text).ok();
    }
    let deadline = Instant::now() + Duration::from_millis(order.timeout_ms) + SLACK;
    let mut told = read_lines(&mut child, deadline);
    let status = child.wait()?;
    if told.ended.is_none() && !status.success() && told.seen.skipped.is_none() {
        let stderr = told.stderr.trim();
        told.seen.skip(format!("the runner ended with {status}: {stderr}"));
    }
    Ok(told)
}

/// Reads what the runner tells; kills its group at the deadline.
fn read_lines(child: &mut Child, deadline: Instant) -> Told {
    let mut told = Told::default();
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return told;
    };
    let (to, lines) = channel::<Vec<u8>>();
    let reader = std::thread::spawn(move || {
        let mut stdout = BufReader::new(stdout);
        for _ in 0..LINES_MAX {
            let mut line = Vec::new();
            let read =
                stdout.by_ref().take(PROBE_LINE_BYTES_MAX as u64).read_until(b'\n', &mut line);
            if !matches!(read, Ok(1..)) || to.send(line).is_err() {
                return;
            }
        }
        // Drain what is too much, so that the runner does not block.
        std::io::copy(&mut stdout, &mut std::io::sink()).ok(); // its end is all that matters
    });
    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        // What is no UTF-8 is no message of ours.
        stderr.take(16 << 10).read_to_string(&mut text).ok();
        text
    });
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => told.hear(&line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                kill_group(child);
                told.ended.get_or_insert(Ended {
                    status: None,
                    signal: None,
                    timed_out: true,
                    leaked_processes: Vec::new(),
                    printed: String::new(),
                });
                break;
            }
        }
    }
    reader.join().ok(); // it cannot panic
    told.stderr = errors.join().unwrap_or_default();
    told
}

fn kill_group(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // Fails only if all of it has ended.
        rustix::process::kill_process_group(pid, rustix::process::Signal::KILL).ok();
    }
}

impl Told {
    fn hear(&mut self, line: &[u8]) {
        let Ok(line) = serde_json::from_slice::<ProbeLine>(line) else { return };
        match line {
            ProbeLine::Phase(phase) => self.phase = phase,
            ProbeLine::Finding(finding) => self.seen.findings.push(finding),
            ProbeLine::Note(note) => self.seen.note(note),
            ProbeLine::Skip(reason) => self.seen.skip(reason),
            ProbeLine::Done => self.done = true,
            ProbeLine::Ended(ended) => self.ended = Some(ended),
            ProbeLine::Journal(_) => {}
        }
    }
}

/// How the process ended decides first, then what was found.
fn judge(rule: &Rule, mut told: Told) -> (Outcome, Vec<String>) {
    let Some(ended) = told.ended.take() else {
        if told.seen.skipped.is_none() && told.seen.findings.is_empty() {
            told.seen.failed(format!("crash: the watching process was ended in {}", told.phase));
        }
        return (told.seen.outcome(), told.seen.messages());
    };
    let phase = if told.phase.is_empty() { "the beginning" } else { &told.phase };
    let unfinished = match (&ended, told.done) {
        (Ended { timed_out: true, .. }, _) => {
            Some((Outcome::TimedOut, format!("timeout in {phase}")))
        }
        (Ended { signal: Some(signal), .. }, _) => {
            let name = signal_name(*signal);
            Some((Outcome::Crashed, format!("crash({name}) in {phase}")))
        }
        (Ended { status: Some(status), .. }, false) => Some((
            Outcome::Crashed,
            format!(
                "the process was ended with status {status} in {phase}; a plugin never calls exit"
            ),
        )),
        _ => None,
    };
    if rule.number == 601 && !ended.leaked_processes.is_empty() {
        told.seen.failed(format!("leak: {}", ended.leaked_processes.join(", ")));
    } else if !ended.leaked_processes.is_empty() {
        told.seen.note(format!("left behind and killed: {}", ended.leaked_processes.join(", ")));
    }
    let Some((outcome, message)) = unfinished else {
        let outcome = told.seen.outcome();
        let outcome = if rule.advice && outcome.is_failure() { Outcome::Warning } else { outcome };
        return (outcome, told.seen.messages());
    };
    let mut messages = vec![message];
    messages.extend(told.seen.messages());
    let printed = ended.printed.trim();
    if !printed.is_empty() {
        let last: Vec<&str> = printed.lines().rev().take(3).collect();
        messages.push(format!(
            "last lines printed: {}",
            last.into_iter().rev().collect::<Vec<_>>().join(" | ")
        ));
    }
    (if rule.advice { Outcome::Warning } else { outcome }, messages)
}

/// `SIGSEGV`; the number where it has no name here.
fn signal_name(signal: i32) -> String {
    let names = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (5, "SIGTRAP"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (11, "SIGSEGV"),
        (13, "SIGPIPE"),
        (14, "SIGALRM"),
        (15, "SIGTERM"),
        (24, "SIGXCPU"),
        (25, "SIGXFSZ"),
        (31, "SIGSYS"),
    ];
    let name = names.iter().find(|(number, _)| *number == signal).map(|(_, name)| *name);
    name.map_or_else(|| format!("signal {signal}"), str::to_owned)
}
