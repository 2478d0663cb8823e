//! What a stage costs before and after the plugin's own work.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // a panic is a test's report

mod harness;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::*;
use imagefactory_model::frames::*;
use imagefactory_model::stage::*;

/// plugin-abi.md 3.2 wants a stage's overhead to be nothing against stages of minutes: 3 ms for
/// an optimised runner on an idle machine. A debug build on a machine that runs other tests gets
/// ten times that, so this catches only what is grossly wrong; the figures are printed.
const P50_MAX: Duration = Duration::from_millis(30);

fn median_of(rounds: usize, mut act: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            act();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[rounds / 2]
}

#[test]
fn an_empty_stage_costs_a_few_milliseconds() {
    let bench = Bench::new();
    let library = bench.compile("customiser", &[]);
    let mut hello = bench.hello(&library, PluginKind::Os);
    let order = bench.order(Operation::CreateTargetImage);
    let bare = median_of(100, || {
        let mut child = Command::new("/bin/true").stdin(Stdio::null()).spawn().unwrap();
        assert!(child.wait().unwrap().success());
    });
    for profile in [SandboxProfile::None, SandboxProfile::Cloud, SandboxProfile::OsUserns] {
        hello.sandbox.profile = profile;
        hello.sandbox.identity =
            is_root().then_some(StageIdentity { uid: 310_000, gid: 310_000, count: 65_536 });
        let stage = median_of(100, || {
            assert_eq!(run(hello.clone(), order.clone()).ended_with(), 0);
        });
        eprintln!("{profile:?}: {stage:?}; bare process: {bare:?}");
        assert!(stage < P50_MAX, "{profile:?}: {stage:?}");
    }
}
