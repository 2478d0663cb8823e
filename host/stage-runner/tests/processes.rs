//! How runner processes end, and that nothing outlives them.

#![allow(clippy::unwrap_used, clippy::panic)] // a panic is a test's report

mod harness;

use std::time::{Duration, Instant};

use harness::*;
use imagefactory_model::frames::*;
use imagefactory_model::stage::*;

fn start(deed: &str) -> (Bench, Runner) {
    let bench = Bench::new();
    let library = bench.compile("builder", &[]);
    let mut order = bench.order(Operation::CreateBaseImage);
    order.template_xml = Some(deed.into());
    let mut runner = Runner::spawn();
    runner.send(HostFrame::Hello(Box::new(bench.hello(&library, PluginKind::Os))));
    runner.send(HostFrame::Start(Box::new(order)));
    (bench, runner)
}

fn ended(deed: &str) -> Run {
    let (_bench, runner) = start(deed);
    runner.finish(|_| CallReply::Done)
}

/// Processes of the runner's group or with this name, anywhere.
fn alive(found: impl Fn(&str, i32) -> bool) -> Vec<String> {
    let mut alive = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let stat = entry.unwrap().path().join("stat");
        let Ok(stat) = std::fs::read_to_string(stat) else { continue };
        let (Some(open), Some(close)) = (stat.find('('), stat.rfind(')')) else { continue };
        let name = &stat[open + 1..close];
        let group = stat[close + 1..].split_whitespace().nth(2).unwrap().parse().unwrap();
        if found(name, group) {
            alive.push(stat);
        }
    }
    alive
}

fn group_of(runner: &Runner) -> i32 {
    runner.pid() as i32
}

fn wait_until_gone(found: impl Fn(&str, i32) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = alive(&found);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "still there: {left:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_worker_that_dies_of_a_signal_is_mirrored_without_an_end() {
    for (deed, signal) in [("segv", 11), ("abort", 6), ("kill self", 9)] {
        let run = ended(deed);
        assert_eq!((run.signal(), run.end()), (Some(signal), None), "{deed}: {run:?}");
        assert!(matches!(run.frames.last(), Some(RunnerFrame::Ready(_))), "{run:?}");
    }
}

#[test]
fn a_plugin_that_exits_is_mirrored_without_an_end() {
    for (deed, status) in [("exit 0", 0), ("exit 3", 3)] {
        let run = ended(deed);
        assert_eq!((run.status.code(), run.end()), (Some(status), None), "{deed}: {run:?}");
    }
}

#[test]
fn a_plugin_that_ends_its_thread_is_noticed() {
    let run = ended("end thread");
    assert_eq!(run.end(), None);
    assert!(!run.status.success(), "{run:?}");
    // Without unwinding nobody is told; the next heartbeat notices.
    let run = ended("end thread quietly");
    assert_eq!((run.end(), run.status.code()), (None, Some(71)), "{run:?}");
}

#[test]
fn printing_cannot_forge_a_frame() {
    let run = ended("forge on log pipes");
    assert_eq!((run.end(), run.status.code()), (None, Some(0)));
    assert!(matches!(run.frames.last(), Some(RunnerFrame::Ready(_))), "{run:?}");
    assert!(run.printed.contains("\"nonce\":\"guess\""), "it did print: {run:?}");
}

#[test]
fn scribbling_on_the_socket_lacks_the_nonce() {
    let run = ended("forge everywhere");
    assert!(matches!(run.frames.last(), Some(RunnerFrame::End { .. })), "it was forged: {run:?}");
    assert_eq!(run.end(), None, "but without the nonce");
}

#[test]
fn a_plugin_that_closes_our_descriptors_cannot_succeed() {
    let run = ended("close descriptors");
    assert_eq!(run.end(), None, "{run:?}");
    assert_eq!(run.status.code(), Some(76), "{run:?}");
}

#[test]
fn forgotten_and_detached_children_are_gone_when_the_runner_is() {
    let run = ended("children");
    assert_eq!(run.ended_with(), 0, "{run:?}");
    let left = alive(|name, _| name.starts_with("imgf-left-"));
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn the_death_of_the_daemon_ends_everything() {
    for deed in ["hang", "block abort"] {
        let (_bench, mut runner) = start(deed);
        runner.receive_until(|frame| matches!(frame, RunnerFrame::Log { .. }));
        let group = group_of(&runner);
        runner.hang_up();
        let status = runner.wait();
        assert_eq!(status.code(), Some(75), "{deed}: {status:?}");
        assert_eq!(alive(|_, of| of == group), Vec::<String>::new(), "{deed}");
    }
}

#[test]
fn a_worker_that_stopped_itself_ends_with_the_daemon_too() {
    let (_bench, mut runner) = start("stop");
    runner.receive_until(|frame| matches!(frame, RunnerFrame::Log { .. }));
    let group = group_of(&runner);
    runner.hang_up();
    let status = runner.wait();
    assert!(!status.success(), "{status:?}");
    assert_eq!(alive(|_, of| of == group), Vec::<String>::new());
}

#[test]
fn a_daemon_that_dies_gives_the_plugin_its_grace() {
    let (_bench, mut runner) = start("cancel");
    runner.receive_until(|frame| matches!(frame, RunnerFrame::Log { .. }));
    let before = Instant::now();
    runner.hang_up();
    let status = runner.wait();
    // It returned as asked; there was nobody to tell.
    assert_eq!(status.code(), Some(75));
    assert!(before.elapsed() < Duration::from_secs(4), "{:?}", before.elapsed());
}

#[test]
fn killing_the_outermost_process_kills_all_of_them() {
    let (_bench, mut runner) = start("hang");
    runner.receive_until(|frame| matches!(frame, RunnerFrame::Log { .. }));
    let group = group_of(&runner);
    runner.child.kill().unwrap();
    runner.wait();
    wait_until_gone(|_, of| of == group);
}

#[test]
fn a_polite_signal_to_the_group_is_the_workers_death_and_is_mirrored() {
    let (_bench, mut runner) = start("hang");
    runner.receive_until(|frame| matches!(frame, RunnerFrame::Log { .. }));
    let group = rustix::process::Pid::from_raw(group_of(&runner)).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::TERM).unwrap();
    let run = runner.finish(|_| CallReply::Done);
    assert_eq!(run.signal(), Some(15), "{run:?}");
}

#[test]
fn the_attempt_stays_locked_until_the_runner_is_gone() {
    let (bench, mut runner) = start("hang");
    runner.receive_until(|frame| matches!(frame, RunnerFrame::Ready(_)));
    let file = std::fs::File::open(bench.path("lock")).unwrap();
    let lock =
        || rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok();
    assert!(!lock());
    runner.child.kill().unwrap();
    let group = group_of(&runner);
    runner.wait();
    wait_until_gone(|_, of| of == group);
    assert!(lock());
}

#[test]
fn a_heartbeat_comes_while_a_plugin_hangs() {
    let (_bench, mut runner) = start("hang");
    runner.receive_until(|frame| matches!(frame, RunnerFrame::Heartbeat));
    runner.child.kill().unwrap();
    runner.wait();
}
