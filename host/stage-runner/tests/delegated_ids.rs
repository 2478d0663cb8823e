//! `os-userns` of an ordinary user with a range in /etc/subuid: many ids by newuidmap.

#![allow(clippy::unwrap_used, clippy::panic)] // a panic is a test's report

mod harness;

use std::os::unix::fs::{MetadataExt, chown};

use harness::*;
use imagefactory_model::frames::*;
use imagefactory_model::stage::*;

/// An account that every machine has; newuidmap asks for one.
const NOBODY: u32 = 65_534;
const RANGE: u32 = 500_000;

#[test]
fn an_ordinary_user_with_a_range_owns_files_of_many_users() {
    if !is_root() {
        return; // only root can lend itself another /etc/subuid; CI is root
    }
    let bench = Bench::new();
    let library = bench.compile("probe", &[]);
    let mut hello = bench.hello(&library, PluginKind::Os);
    hello.sandbox.profile = SandboxProfile::OsUserns;
    hello.sandbox.strict = true;
    hello.lock_file = Some(bench.path("work/lock"));
    for name in ["work", "state", "output"] {
        chown(bench.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    std::fs::write(bench.path("work/file"), "").unwrap();
    chown(bench.path("work/file"), Some(NOBODY), Some(NOBODY)).unwrap();
    let delegation = bench.path("subid");
    std::fs::write(&delegation, format!("{NOBODY}:{RANGE}:65536\n")).unwrap();
    let mut order = bench.order(Operation::CreateBaseImage);
    order.template_xml = Some(format!("chown {}\nuid", bench.path("work/file").display()));

    let mut runner = Runner::spawn_with_delegation(NOBODY, &delegation);
    runner.send(HostFrame::Hello(Box::new(hello)));
    runner.send(HostFrame::Start(Box::new(order)));
    let run = runner.finish(|_| CallReply::Done);
    assert_eq!(run.end(), Some((0, None)), "{run:?}");
    assert!(run.logs()[0].ends_with(": ok") && run.logs()[1] == "uid: 0", "{run:?}");
    let active = &run.ready().sandbox.active;
    assert!(active.contains(&format!("ids {RANGE} to {}", RANGE + 65_534)), "{active:?}");
    // Id 1 inside is the first of the range.
    let file = std::fs::metadata(bench.path("work/file")).unwrap();
    assert_eq!((file.uid(), file.gid()), (RANGE + 999, RANGE + 999));
}
