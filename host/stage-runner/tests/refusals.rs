//! What is refused before a plugin is called, each with its kind and a sentence.

#![allow(clippy::unwrap_used, clippy::panic)] // a panic is a test's report

mod harness;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use harness::*;
use imagefactory_model::frames::*;

fn check_refused(hello: Hello, why: RefusalKind, words: &str) {
    let run = describe(hello);
    let refused = run.refused();
    assert_eq!(refused.why, why, "{refused:?}");
    assert!(refused.message.contains(words), "{refused:?}");
    assert!(run.end().is_none() && run.status.code() == Some(78), "{run:?}");
}

fn builder(flags: &[&str]) -> (Bench, Hello) {
    let bench = Bench::new();
    let library = bench.compile("builder", flags);
    let hello = bench.hello(&library, PluginKind::Os);
    (bench, hello)
}

#[test]
fn another_protocol_is_refused() {
    let (_bench, mut hello) = builder(&[]);
    hello.protocol = PROTOCOL + 1;
    let words = format!("speaks frame protocol {}", PROTOCOL + 1);
    check_refused(hello, RefusalKind::Protocol, &words);
}

#[test]
fn an_order_before_hello_is_refused() {
    let mut runner = Runner::spawn();
    runner.send(HostFrame::Cancel);
    let run = runner.finish(|_| CallReply::Done);
    assert_eq!(run.refused().why, RefusalKind::Protocol);
}

#[test]
fn a_library_that_others_may_write_is_refused_with_the_command_that_mends_it() {
    let (_bench, hello) = builder(&[]);
    let open = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(&hello.plugin.path, open).unwrap();
    let run = describe(hello.clone());
    assert!(run.refused().message.contains("mode 0666"), "{run:?}");
    assert_eq!(run.refused().hint, format!("chmod go-w {}", hello.plugin.path.display()));
}

#[test]
fn a_folder_above_the_library_that_others_may_write_is_refused() {
    let (bench, hello) = builder(&[]);
    let open = std::fs::Permissions::from_mode(0o775);
    std::fs::set_permissions(bench.path("plugins"), open).unwrap();
    check_refused(hello, RefusalKind::File, "may be changed by others than its owner (mode 0775)");
}

#[test]
fn a_library_of_another_user_is_refused() {
    if !is_root() {
        return; // only root can give files away; CI is root
    }
    let (_bench, hello) = builder(&[]);
    std::os::unix::fs::chown(&hello.plugin.path, Some(12345), None).unwrap();
    check_refused(hello, RefusalKind::File, "belongs to uid 12345, not to root");
}

#[test]
fn links_are_not_followed_neither_to_the_library_nor_above_it() {
    let (bench, mut hello) = builder(&[]);
    let link = bench.path("plugins/link.so");
    std::os::unix::fs::symlink(&hello.plugin.path, &link).unwrap();
    std::os::unix::fs::symlink(bench.path("plugins"), bench.path("folder")).unwrap();
    hello.plugin.path = link;
    check_refused(hello.clone(), RefusalKind::File, "links are not followed");
    hello.plugin.path = bench.path("folder/builder.so");
    check_refused(hello.clone(), RefusalKind::File, "links are not followed");
    hello.plugin.path = bench.path("plugins/../plugins/builder.so");
    check_refused(hello, RefusalKind::File, "no plain name");
}

#[test]
fn another_checksum_is_refused_and_the_right_one_is_not() {
    let (_bench, mut hello) = builder(&[]);
    hello.plugin.sha256 = Some("0".repeat(64));
    check_refused(hello.clone(), RefusalKind::File, "its SHA-256 is ");
    hello.plugin.sha256 = None;
    let sha256 = describe(hello.clone()).ready().facts.sha256.clone();
    hello.plugin.sha256 = Some(sha256);
    assert_eq!(describe(hello).ended_with(), 0);
}

#[test]
fn what_is_no_shared_library_for_this_machine_is_refused() {
    let bench = Bench::new();
    let path = bench.path("plugins/odd.so");
    let check = |bytes: &[u8], words: &str| {
        std::fs::write(&path, bytes).unwrap();
        check_refused(bench.hello(&path, PluginKind::Os), RefusalKind::File, words);
    };
    check(b"", "is no ELF file");
    check(b"#!/bin/sh\n", "is no ELF file");
    let real = std::fs::read(bench.compile("builder", &[])).unwrap();
    check(&real[..100], "ends within its program headers");
    let mut other_machine = real.clone();
    other_machine[18] = 3;
    check(&other_machine, "is built for another machine (number 3)");
    let mut relocatable = real.clone();
    relocatable[16] = 1;
    check(&relocatable, "is an ELF file of type 1");
    let fifo = bench.path("plugins/fifo.so");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    check_refused(bench.hello(&fifo, PluginKind::Os), RefusalKind::File, "is no regular file");
    let none = bench.hello(Path::new("/nonexistent/x.so"), PluginKind::Os);
    check_refused(none, RefusalKind::File, "does not exist");
}

#[test]
fn an_origin_runpath_is_refused_outside_folders_of_root_alone() {
    // The bench lies in the sticky /tmp, which others may add to.
    let (_bench, hello) = builder(&["-Wl,-rpath,$ORIGIN/lib"]);
    check_refused(hello, RefusalKind::File, "its RUNPATH uses $ORIGIN");
    let (_bench, hello) = builder(&["-Wl,-rpath,/usr/lib/somewhere"]);
    assert_eq!(describe(hello).ended_with(), 0);
}

#[test]
fn a_library_that_does_not_link_is_refused_with_the_linkers_words() {
    let (_bench, hello) = builder(&["-DMISSING", "-Wl,--unresolved-symbols=ignore-all"]);
    check_refused(hello, RefusalKind::Load, "undefined symbol: imgf_test_missing");
}

#[test]
fn a_library_without_the_entry_is_refused_by_its_own_name() {
    let (_bench, hello) = builder(&["-DOWN_ENTRY"]);
    let path = hello.plugin.path.display().to_string();
    let run = describe(hello);
    assert_eq!(run.refused().why, RefusalKind::Load);
    assert!(run.refused().message.contains("imagefactory_plugin_negotiate"), "{run:?}");
    assert!(!run.refused().message.contains("/proc/self/fd"), "{run:?}");
    assert!(run.refused().message.contains(&path), "{run:?}");
}

#[test]
fn another_plugin_than_the_manifests_is_refused() {
    let check = |flags: &[&str], words: &str| {
        let (_bench, hello) = builder(flags);
        check_refused(hello, RefusalKind::Abi, words);
    };
    check(&["-DID=\"Other\""], "the library calls itself \"Other\"");
    check(&["-DVERSION=\"9\""], "the library is of version \"9\"");
    let (_bench, mut hello) = builder(&[]);
    hello.plugin.kind = PluginKind::Cloud;
    check_refused(hello, RefusalKind::Abi, "the library is an Os plugin");
}

#[test]
fn contracts_broken_in_the_descriptor_are_refused() {
    let check = |entry: &str, words: &str| {
        let bench = Bench::new();
        let library = bench.compile("negotiator", &[&format!("-DENTRY={entry}")]);
        check_refused(bench.hello(&library, PluginKind::Os), RefusalKind::Abi, words);
    };
    check("ABI_REFUSED", "this host speaks 1.0 to 1.0; the plugin says: I speak 7.0 to 7.2");
    check("INTERNAL", "negotiating answered status 1");
    check("WRONG_ABI", "it chose ABI 2.0 out of 1.0 to 1.0");
    check("NO_PLUGIN", "gave no descriptor");
    check("SHORT_PLUGIN", "its descriptor has 16 bytes, ABI 1.0 has 72");
    check("NO_CREATE", "create, destroy or get_interface is NULL");
    check("NO_TABLE", "must answer imagefactory.os/1");
    check("SHORT_TABLE", "its table imagefactory.os/1 has 8 bytes; it must have 40");
    check("EMPTY_TABLE", "every operation of imagefactory.os/1 is NULL");
    check("MISALIGNED", "misaligned");
}

#[test]
fn a_locked_attempt_is_refused() {
    let (bench, hello) = builder(&[]);
    let file = std::fs::File::create(bench.path("lock")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut runner = Runner::spawn();
    runner.send(HostFrame::Hello(Box::new(hello)));
    let run = runner.finish(|_| CallReply::Done);
    assert!(run.refused().message.contains("cannot lock"), "{run:?}");
}

#[test]
fn a_person_who_starts_it_is_told_who_does() {
    let runner = env!("CARGO_BIN_EXE_imagefactory-stage-runner");
    let output =
        std::process::Command::new(runner).stdin(std::process::Stdio::null()).output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("imagefactoryd and imagefactory start this program"), "{words}");
    assert_eq!(output.status.code(), Some(76));
    let version = std::process::Command::new(runner).arg("--version").output().unwrap();
    assert!(String::from_utf8(version.stdout).unwrap().starts_with("imagefactory-stage-runner 2."));
}
