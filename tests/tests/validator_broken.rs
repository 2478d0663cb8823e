//! The validator's own test: for each rule a plugin that breaks it, and exactly it.
//!
//! `tests/fixtures/broken` is one plugin in C that meets every rule; `-DBROKEN=nnn` makes it break
//! one. What is wrong with files is made by editing the good plugin's. A validator that passes
//! everything fails here, and so does one that blames the wrong rule.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

mod validator_rig;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use validator_rig::{PluginFolder, broken_library, broken_rules, imagefactory_plugin};

use imagefactory_tests::fixture_plugins::fixture_folder;

/// One broken plugin and how the validator must judge it.
struct Case {
    /// The rule that is broken.
    rule: u16,
    /// Which way, where there are several.
    variant: u32,
    /// `failed`, `crashed`, `timed_out` or `warning`.
    outcome: &'static str,
    /// Part of what is said.
    says: &'static str,
}

fn case(rule: u16, outcome: &'static str, says: &'static str) -> Case {
    Case { rule, variant: 0, outcome, says }
}

fn variant(variant: u32, of: Case) -> Case {
    Case { variant, ..of }
}

/// Rules that only a cloud plugin can break in our fixture.
const OF_CLOUD: [u16; 9] = [307, 308, 309, 310, 312, 404, 405, 410, 507];

fn plugin(rule: u16, variant: u32, arguments: &[&str]) -> PluginFolder {
    let kind = if OF_CLOUD.contains(&rule) || rule == 604 { "cloud" } else { "os" };
    let mut all = vec![format!("-DBROKEN={rule}"), format!("-DVARIANT={variant}")];
    all.extend((kind == "cloud").then(|| "-DCLOUD".to_owned()));
    all.extend((rule == 112).then(|| format!("-DSIDE_CAR_SYMBOL=\"{SIDE_CAR}\"")));
    all.extend(arguments.iter().map(ToString::to_string));
    let fixture = fixture_folder("broken");
    let (manifest, fixtures) =
        (fixture.join(format!("{kind}.json")), fixture.join(format!("{kind}.validate.json")));
    PluginFolder::new("Broken", &broken_library(&all), &manifest, Some(&fixtures))
}

/// abi_stable 0.11's root module.
const SIDE_CAR: &str = "_1as_0lib_1header_0root_bmodule_bloader";

/// Validates and demands that `case` is what is told, and nothing else.
fn check_case(case: &Case, folder: &PluginFolder, level: &str) {
    let library = folder.library();
    let timeout = if case.outcome == "timed_out" { "2" } else { "60" };
    let answer = imagefactory_plugin(&[
        "validate",
        library.to_str().expect("a path"),
        "--json",
        "--level",
        level,
        "--rounds",
        "40",
        "--points",
        "3",
        "--cancel-grace",
        "2",
        "--timeout",
        timeout,
    ]);
    let report = answer.json();
    let found = broken_rules(&report);
    let rule = case.rule;
    let [(number, outcome, messages)] = found.as_slice() else {
        panic!("rule {rule} variant {} alone should be broken, found {found:#?}", case.variant);
    };
    assert_eq!((*number, outcome.as_str()), (rule, case.outcome), "{messages}");
    assert!(messages.contains(case.says), "rule {rule} says {messages}, not {:?}", case.says);
    let status = if case.outcome == "warning" { 0 } else { 1 };
    assert_eq!(answer.status, status, "{}", answer.stderr);
}

/// All cases, two at a time: as many as CI has cores.
fn check_broken(cases: Vec<Case>, level: &str) {
    let left = Mutex::new(cases);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(case) = left.lock().expect("no panic holds it").pop() else { return };
                    check_case(&case, &plugin(case.rule, case.variant, &[]), level);
                }
            });
        }
    });
}

#[test]
fn the_unbroken_plugin_meets_every_rule() {
    for rule in [0, 604] {
        // 604 only chooses the cloud plugin here: the define is overridden behind it.
        let folder = plugin(rule, 0, &["-UBROKEN", "-DBROKEN=0"]);
        let library = folder.library();
        let answer = imagefactory_plugin(&[
            "validate",
            library.to_str().expect("a path"),
            "--json",
            "--level",
            "5",
            "--points",
            "4",
        ]);
        let report = answer.json();
        assert_eq!(broken_rules(&report), [], "{}", answer.stdout);
        assert_eq!((answer.status, &report["verdict"]), (0, &"passed".into()));
    }
}

#[test]
fn a_library_that_breaks_a_loading_rule_breaks_that_rule_alone() {
    check_broken(
        vec![
            case(9, "warning", "imagefactory_plugin_something_else"),
            variant(1, case(9, "failed", "does not export imagefactory_plugin_negotiate")),
            case(101, "failed", "imagefactory_test_symbol_that_nobody_has"),
            variant(1, case(101, "crashed", "crash(SIGSEGV) in dlopen")),
            case(103, "failed", "umask"),
            variant(1, case(103, "failed", "umask")),
            case(104, "failed", "1.0"),
            case(105, "failed", "bytes behind imgf_negotiate were written"),
            case(106, "warning", "crash(SIGSEGV) in negotiate(NULL)"),
            case(107, "failed", "must be static"),
            case(108, "failed", "without a sentence"),
            case(109, "failed", "9.9.9"),
            case(110, "failed", "imagefactory.os/10"),
            case(111, "failed", "create_target_image"),
            case(112, "crashed", "comparing layouts"),
            case(113, "failed", "on two threads"),
        ],
        "3",
    );
}

#[test]
fn a_slow_library_breaks_the_rule_of_the_load_time_alone() {
    // Level 1: each of its 50 processes would take the time again.
    check_broken(vec![case(102, "warning", "loading takes")], "1");
}

#[test]
fn a_plugin_that_breaks_a_rule_of_its_life_cycle_breaks_that_rule_alone() {
    check_broken(
        vec![
            case(201, "failed", "/dev/null"),
            variant(1, case(201, "crashed", "ended with status 0 in create")),
            variant(2, case(201, "timed_out", "timeout in create")),
            case(202, "failed", "create answered 4"),
            case(203, "crashed", "create, while"),
            case(204, "failed", "calls of the host came after destroy"),
            case(205, "crashed", "crash(SIGABRT) in destroy after create_base_image"),
            case(206, "warning", "network socket"),
        ],
        "3",
    );
}

#[test]
fn a_plugin_that_breaks_a_rule_of_its_operations_breaks_that_rule_alone() {
    check_broken(
        vec![
            case(301, "failed", "IMGF_PATH_OUTPUT_IMAGE was not written"),
            variant(1, case(301, "crashed", "ended with status 0 in create_base_image")),
            variant(2, case(301, "crashed", "crash(SIGSEGV) in create_base_image")),
            variant(3, case(301, "timed_out", "timeout in create_base_image")),
            case(302, "failed", "4 of 3 done"),
            case(303, "failed", "called report_error 2 times"),
            case(304, "failed", "surprise"),
            case(305, "failed", "not UTF-8"),
            case(306, "failed", "answered UNSUPPORTED, but made"),
            case(307, "failed", "alone on a fresh instance"),
            case(308, "failed", "the second time"),
            case(309, "failed", "outside resources instead of 1"),
            case(310, "failed", "outside resources already"),
            case(311, "crashed", "crash(SIGSEGV)"),
            case(312, "failed", "changed IMGF_PATH_INPUT_IMAGE"),
            case(313, "failed", "stray"),
        ],
        "3",
    );
}

#[test]
fn a_plugin_that_breaks_a_rule_of_faults_breaks_that_rule_alone() {
    check_broken(
        vec![
            case(401, "crashed", "(GetInterface) fails"),
            case(402, "failed", "IMGF_OK although"),
            case(403, "failed", "the work folder was read-only"),
            case(404, "failed", "the credentials did not exist"),
            case(405, "crashed", "crash(SIGABRT)"),
            case(406, "crashed", "crash(SIGSEGV)"),
            case(407, "crashed", "the template has 10 MB"),
            case(408, "crashed", "there are no parameters"),
            case(409, "crashed", "image_id is absent"),
            case(410, "failed", "IMGF_ERR_RETRYABLE when the provider answered 429"),
        ],
        "3",
    );
}

#[test]
fn a_plugin_that_breaks_a_rule_of_cancelling_breaks_that_rule_alone() {
    check_broken(
        vec![
            case(501, "failed", "before it started"),
            case(502, "failed", "instead of IMGF_E_CANCELLED"),
            case(503, "failed", "instead of IMGF_E_CANCELLED"),
            case(504, "crashed", "crash(SIGABRT)"),
            case(505, "failed", "deadline in the past"),
            case(506, "failed", "child sleep"),
            case(507, "failed", "cleanup after SIGKILL answered 1"),
        ],
        "3",
    );
}

#[test]
fn a_plugin_that_breaks_a_rule_of_hygiene_breaks_that_rule_alone() {
    check_broken(
        vec![
            case(601, "failed", "/dev/null"),
            case(603, "failed", "signal"),
            case(604, "failed", "shows the credentials"),
            case(605, "warning", "bytes were printed"),
            case(606, "failed", "between two operations"),
        ],
        "4",
    );
}

/// The good plugin with something wrong about its files.
fn check_edited(case: &Case, arguments: &[&str], edit: impl Fn(&PluginFolder)) {
    let folder = plugin(0, 0, arguments);
    edit(&folder);
    check_case(case, &folder, "3");
}

#[test]
fn a_manifest_that_breaks_a_rule_breaks_that_rule_alone() {
    let set = |pointer: &'static str, value: serde_json::Value| {
        move |folder: &PluginFolder| {
            folder.edit_manifest(|manifest| {
                let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
                let parent = manifest.pointer_mut(parent).expect("the parent is there");
                parent[key] = value.clone();
            });
        }
    };
    check_edited(&case(1, "failed", "schema_version"), &[], set("/schema_version", "9.0".into()));
    check_edited(
        &case(2, "failed", "Renamed"),
        &["-DPLUGIN_ID=\"Renamed\""],
        set("/id", "Renamed".into()),
    );
    check_edited(
        &case(3, "failed", "semver"),
        &["-DPLUGIN_VERSION=\"one\""],
        set("/version", "one".into()),
    );
    check_edited(&case(4, "warning", "SPDX"), &[], set("/license", "Do what you like".into()));
    let targets = serde_json::json!([["Broken", null, "x86_64"]]);
    check_edited(&case(5, "failed", "is never found"), &[], set("/targets", targets));
    let checksum = "0".repeat(64);
    check_edited(
        &case(7, "failed", "the manifest says 000"),
        &[],
        set("/library/sha256", checksum.into()),
    );
    let schema = serde_json::json!({
        "type": "object", "properties": {"steps": {"type": "integer", "default": "four"}},
    });
    check_edited(&case(14, "failed", "four"), &[], set("/parameters_schema", schema));
    let requires = serde_json::json!({"tools": ["qemu-img convert"]});
    check_edited(&case(15, "failed", "qemu-img convert"), &[], set("/requires", requires));
}

#[test]
fn a_library_file_that_breaks_a_rule_breaks_that_rule_alone() {
    use std::os::unix::fs::PermissionsExt;
    check_edited(&case(6, "failed", "written by others"), &[], |folder| {
        let mode = std::fs::Permissions::from_mode(0o666);
        std::fs::set_permissions(folder.library(), mode).expect("its mode");
    });
    // e_machine stands at byte 18; 2 is SPARC.
    check_edited(&case(8, "failed", "machine"), &[], |folder| {
        folder.edit_library(|bytes| bytes[18] = 2)
    });
    check_edited(&case(10, "warning", "bound lazily"), &["-Wl,-z,relro", "-Wl,-z,lazy"], |_| {});
    check_edited(
        &case(11, "failed", "/opt/elsewhere"),
        &["-Wl,-rpath,/opt/elsewhere", "-Wl,-z,relro", "-Wl,-z,now"],
        |_| {},
    );
    let stub = tempfile::tempdir().expect("a folder");
    let library = stub.path().join("libimagefactory-test-nowhere.so");
    let made = std::process::Command::new("cc")
        .args(["-shared", "-x", "c", "/dev/null", "-o"])
        .arg(&library)
        .status();
    assert!(made.expect("cc can be started").success());
    let found = format!("-L{}", stub.path().display());
    check_edited(
        &case(12, "failed", "libimagefactory-test-nowhere.so"),
        &[
            &found,
            "-Wl,--no-as-needed",
            "-limagefactory-test-nowhere",
            "-Wl,-z,relro",
            "-Wl,-z,now",
        ],
        |_| {},
    );
    check_edited(&case(13, "failed", "requires glibc 9"), &[], |folder| {
        folder.edit_library(|bytes| {
            let at =
                bytes.windows(8).position(|part| part == b"GLIBC_2.").expect("a glibc version");
            bytes[at + 6] = b'9';
        });
    });
}

#[test]
fn a_plugin_that_hangs_or_chatters_without_end_is_killed_in_time() {
    for (rule, variant) in [(201, 2), (301, 3)] {
        let folder = plugin(rule, variant, &[]);
        let library = folder.library();
        let started = Instant::now();
        let only = format!("IMGF-P-{rule}");
        let answer = imagefactory_plugin(&[
            "validate",
            library.to_str().expect("a path"),
            "--json",
            "--only",
            &only,
            "--timeout",
            "1",
        ]);
        assert_eq!(broken_rules(&answer.json())[0].1, "timed_out");
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    }
}

#[test]
fn every_rule_of_levels_one_to_three_has_a_broken_plugin() {
    let source = include_str!("validator_broken.rs");
    let folder = plugin(0, 0, &[]);
    let library = folder.library();
    let answer = imagefactory_plugin(&[
        "validate",
        library.to_str().expect("a path"),
        "--json",
        "--level",
        "4",
        "--rounds",
        "2",
        "--points",
        "1",
    ]);
    let report = answer.json();
    for rule in report["rules"].as_array().expect("rules") {
        let number: u16 = rule["id"].as_str().expect("id")[7..].parse().expect("a number");
        assert!(
            source.contains(&format!("case({number}, \"")),
            "no broken plugin for rule {number}"
        );
    }
}
