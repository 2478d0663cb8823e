//! The third mode: an ordinary user on a machine that gives it no namespaces. What is missing is
//! said, what can be had is in force, and children that stay in reach are still ended.

#![allow(clippy::unwrap_used, clippy::panic)] // a panic is a test's report

mod harness;

use std::os::unix::fs::chown;

use harness::*;
use imagefactory_model::frames::*;
use imagefactory_model::stage::*;

const USER: u32 = 420_002;

fn stage(plugin: &str, deed: &str, adjust: impl Fn(&mut Hello)) -> Run {
    let bench = Bench::new();
    let library = bench.compile(plugin, &[]);
    let mut hello = bench.hello(&library, PluginKind::Os);
    hello.lock_file = Some(bench.path("work/lock"));
    if is_root() {
        for name in ["work", "state", "output"] {
            chown(bench.path(name), Some(USER), Some(USER)).unwrap();
        }
    }
    adjust(&mut hello);
    let mut order = bench.order(Operation::CreateBaseImage);
    order.template_xml = Some(deed.replace("BENCH", &bench.path("").display().to_string()));
    let mut runner = Runner::spawn_without_namespaces(is_root().then_some(USER));
    runner.send(HostFrame::Hello(Box::new(hello)));
    runner.send(HostFrame::Start(Box::new(order)));
    runner.finish(|_| CallReply::Done)
}

fn probe(profile: SandboxProfile, deeds: &str) -> Run {
    let run = stage("probe", deeds, |hello| hello.sandbox.profile = profile);
    assert_eq!(run.end(), Some((0, None)), "{run:?}");
    let missing = &run.ready().sandbox.missing;
    assert!(missing[0].starts_with("pid-namespace, mount-namespace: "), "{missing:?}");
    assert!(missing[0].contains("user.max_user_namespaces"), "{missing:?}");
    run
}

#[test]
fn landlock_and_seccomp_still_confine() {
    for profile in [SandboxProfile::Cloud, SandboxProfile::OsUserns] {
        let run = probe(
            profile,
            "read BENCH/data/fact\nwrite BENCH/data/fact\nwrite BENCH/work/x\nread /etc/shadow\n\
             list /tmp\nmount BENCH/work/m\nptrace\nsealed\ndumpable",
        );
        let outcomes: Vec<&str> =
            run.logs().iter().map(|line| line.rsplit(": ").next().unwrap()).collect();
        let expected = ["ok", "EACCES", "ok", "EACCES", "EACCES", "EPERM", "EPERM", "1", "0"];
        assert_eq!(outcomes, expected, "{profile:?} {:?}", run.ready().sandbox);
    }
}

#[test]
fn without_a_namespace_the_network_is_denied_by_system_call() {
    let run = stage("probe", "inet\nunix", |hello| {
        hello.sandbox.profile = SandboxProfile::Cloud;
        hello.sandbox.network = false;
    });
    assert_eq!(run.logs(), ["inet: EPERM", "unix: ok"], "{run:?}");
}

#[test]
fn children_are_adopted_and_killed() {
    let run = stage("builder", "children", |_| {});
    assert_eq!(run.ended_with(), 0, "{run:?}");
    let names = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let folder = entry.unwrap().path();
        let user = std::fs::metadata(&folder).ok()?;
        let name = std::fs::read_to_string(folder.join("comm")).ok()?;
        use std::os::unix::fs::MetadataExt;
        (user.uid() == USER).then_some(name)
    });
    let left: Vec<String> = names.filter(|name| name.starts_with("imgf-left-")).collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn the_end_of_a_worker_is_mirrored() {
    assert_eq!(stage("builder", "segv", |_| {}).signal(), Some(11));
    assert_eq!(stage("builder", "exit 3", |_| {}).status.code(), Some(3));
}

#[test]
fn a_strict_sandbox_refuses() {
    let run = stage("builder", "build", |hello| hello.sandbox.strict = true);
    assert_eq!(run.refused().why, RefusalKind::Sandbox);
}
