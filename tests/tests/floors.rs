//! The floors of the house: what must never import what (docs/ARCHITECTURE.md), and what must be
//! absent.
//!
//! Arrows between crates come from `cargo metadata`; absences inside them are looked for in the
//! code, comments and texts blanked out. Each rule is a function over given facts, so that a second
//! test can plant a violation and see the rule object.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use imagefactory_tests::binaries;
use imagefactory_tests::source_tree::{self, SourceFile, code_of};
use serde_json::Value;

/// One row of the table: a crate of ours, which of ours it may import, and what must not be
/// anywhere below it.
struct Floor {
    name: &'static str,
    may_import: &'static [&'static str],
    never: &'static [&'static str],
}

const SDK: &str = "imagefactory-plugin-sdk";
const MODEL: &str = "imagefactory-model";
const STORE: &str = "imagefactory-store";
const REGISTRY: &str = "imagefactory-registry";
const NOTIFICATIONS: &str = "imagefactory-notifications";
const DISPATCH: &str = "imagefactory-dispatch";
const RUNNER: &str = "imagefactory-stage-runner";

const CONFIGURATION: &str = "imagefactory-configuration";
const OAUTH: &str = "imagefactory-oauth";

const FLOORS: [Floor; 11] = [
    Floor { name: SDK, may_import: &[], never: &["tokio", "warp", "libloading", "hyper"] },
    Floor { name: MODEL, may_import: &[SDK], never: &["tokio", "warp", "libloading", "hyper"] },
    Floor { name: STORE, may_import: &[MODEL, SDK], never: &["warp", "libloading"] },
    // The queue of callbacks is the store's (decision 0002).
    Floor { name: NOTIFICATIONS, may_import: &[MODEL, SDK, STORE], never: &["warp", "libloading"] },
    // Nonces live in the store.
    Floor { name: OAUTH, may_import: &[STORE], never: &["warp", "libloading"] },
    Floor {
        name: CONFIGURATION,
        may_import: &[MODEL, SDK, REGISTRY, DISPATCH],
        never: &["warp", "libloading"],
    },
    Floor { name: REGISTRY, may_import: &[MODEL, SDK], never: &["tokio", "warp", "libloading"] },
    Floor {
        name: DISPATCH,
        may_import: &[MODEL, SDK, STORE, REGISTRY, NOTIFICATIONS],
        never: &["warp", "libloading"],
    },
    Floor { name: RUNNER, may_import: &[MODEL, SDK], never: &["tokio", "warp", "sqlx", "hyper"] },
    Floor {
        name: "imagefactoryd",
        may_import: &[MODEL, SDK, STORE, REGISTRY, NOTIFICATIONS, DISPATCH, CONFIGURATION, OAUTH],
        never: &["libloading"],
    },
    Floor {
        name: "imagefactory",
        may_import: &[MODEL, SDK, STORE, REGISTRY, NOTIFICATIONS, DISPATCH, CONFIGURATION, OAUTH],
        never: &["libloading"],
    },
];

/// Who needs whom, without development and build dependencies.
type Graph = BTreeMap<String, BTreeSet<String>>;

#[test]
fn every_crate_imports_only_what_its_floor_allows() {
    assert_eq!(floor_violations(&graph(), built_with), Vec::<String>::new());
}

#[test]
fn an_import_from_an_upper_floor_would_be_seen() {
    let mut graph = graph();
    graph.entry(MODEL.to_owned()).or_default().insert(STORE.to_owned());
    graph.entry(REGISTRY.to_owned()).or_default().insert("somebody".to_owned());
    graph.insert("somebody".to_owned(), BTreeSet::from(["libloading".to_owned()]));
    let seen = floor_violations(&graph, |name| reachable(&graph, name));
    assert!(seen.contains(&format!("{MODEL} must not import {STORE}")), "{seen:?}");
    assert!(seen.contains(&format!("{REGISTRY} reaches libloading")), "{seen:?}");
}

/// `below` tells all that a crate is built with.
fn floor_violations(graph: &Graph, below: impl Fn(&str) -> BTreeSet<String>) -> Vec<String> {
    let mut violations = Vec::new();
    let nothing = BTreeSet::new();
    for floor in &FLOORS {
        let imports = graph.get(floor.name).unwrap_or(&nothing);
        for import in imports.iter().filter(|import| import.starts_with("imagefactory")) {
            if !floor.may_import.contains(&import.as_str()) {
                violations.push(format!("{} must not import {import}", floor.name));
            }
        }
        let all = below(floor.name);
        let reached = floor.never.iter().filter(|never| all.contains(**never));
        violations.extend(reached.map(|never| format!("{} reaches {never}", floor.name)));
    }
    // Plugins see the boundary only, and never each other.
    for (name, imports) in graph.iter().filter(|(name, _)| name.starts_with("imagefactory-plugin-"))
    {
        for import in imports.iter().filter(|import| import.starts_with("imagefactory")) {
            if name != SDK && import != SDK && !import.contains("-toolkit-") {
                violations.push(format!("{name} must not import {import}"));
            }
        }
    }
    violations
}

fn reachable(graph: &Graph, from: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(name) = open.pop() {
        for import in graph.get(&name).into_iter().flatten() {
            if seen.insert(import.clone()) {
                open.push(import.clone());
            }
        }
    }
    seen
}

/// All that is built when only this crate is built: a feature that another member of the workspace
/// asks for (the runner's layout check) is not this one's.
fn built_with(name: &str) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(binaries::workspace())
        .args(["tree", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(["--package", name])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = lines.lines().filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

/// As cargo resolves the workspace, for this machine's system.
fn graph() -> Graph {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let system = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(cargo)
        .current_dir(binaries::workspace())
        .args(["metadata", "--format-version", "1", "--offline", "--filter-platform", &system])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let names: BTreeMap<&str, &str> = packages
        .map(|package| (package["id"].as_str().unwrap(), package["name"].as_str().unwrap()))
        .collect();
    let mut graph = Graph::new();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        let imports: &mut BTreeSet<String> =
            graph.entry(names[node["id"].as_str().unwrap()].to_owned()).or_default();
        for dependency in node["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                imports.insert(names[dependency["pkg"].as_str().unwrap()].to_owned());
            }
        }
    }
    graph
}

/// A word that must not stand in the code of some files.
struct Absence {
    why: &'static str,
    words: &'static [&'static str],
    /// Prefixes of paths where it must not stand…
    below: &'static [&'static str],
    /// … and exceptions from those.
    except: &'static [&'static str],
}

/// All crates that run inside the daemon.
const DAEMON: &[&str] = &[
    "host/model/",
    "host/store/",
    "host/registry/",
    "host/notifications/",
    "host/dispatch/",
    "host/imagefactoryd/",
    "host/imagefactory/",
];

const ABSENCES: [Absence; 7] = [
    Absence {
        why: "the daemon never opens a plugin",
        words: &["dlopen", "dlmopen", "libloading"],
        below: DAEMON,
        except: &[],
    },
    Absence {
        why: "the C tables are the runner's business",
        words: &["plugin_sdk::abi", "sdk::abi"],
        below: DAEMON,
        except: &[],
    },
    Absence {
        why: "HTTP ends at rest/; below it are orders, images and outcomes",
        words: &["warp::", "StatusCode", "HeaderMap", "http::", "hyper::"],
        below: &["plugin-sdk/", "host/model/", "host/store/", "host/registry/", "host/dispatch/"],
        except: &[],
    },
    Absence {
        why: "unsafe stands at the ABI and in the runner only",
        words: &["unsafe "],
        below: &["plugin-sdk/", "host/", "plugins/"],
        except: &[
            "plugin-sdk/src/abi/",
            "plugin-sdk/src/author/",
            "plugin-sdk/src/layout",
            "plugin-sdk/tests/",
            "host/stage-runner/",
        ],
    },
    Absence {
        why: "an image's status is changed in one place, the store's, where transitions are judged",
        words: &[".status = "],
        below: DAEMON,
        // original.rs makes new images of an old factory's files.
        except: &["host/store/src/images.rs", "host/store/src/original.rs"],
    },
    Absence {
        why: "what a function needs is handed to it; there are no globals",
        words: &["static mut ", "lazy_static!", "thread_local!"],
        below: DAEMON,
        except: &[],
    },
    Absence {
        why: "a pre_exec closure forks the threaded daemon (8 ms, and a trap)",
        words: &["pre_exec"],
        below: DAEMON,
        except: &[],
    },
];

#[test]
fn what_must_be_absent_is_absent() {
    let sources = source_tree::files(&["rs"]);
    assert_eq!(absence_violations(&sources), Vec::<String>::new());
}

#[test]
fn a_word_that_must_be_absent_would_be_seen() {
    let planted = [
        SourceFile::planted("host/dispatch/src/a.rs", "fn a() { libloading::Library::new(); }"),
        SourceFile::planted(
            "host/store/src/b.rs",
            "// StatusCode in a comment\nuse http::StatusCode;",
        ),
        SourceFile::planted("plugins/x/src/lib.rs", "fn c() { unsafe { d() } }"),
        SourceFile::planted("host/dispatch/src/f.rs", "fn f() { image.status = Complete; }"),
        SourceFile::planted("host/stage-runner/src/e.rs", "fn e() { unsafe { libloading::f() } }"),
    ];
    let seen = absence_violations(&planted);
    assert_eq!(seen.len(), 5, "{seen:#?}");
    assert!(seen[0].starts_with("host/dispatch/src/a.rs:1: libloading"), "{seen:#?}");
    assert!(seen.iter().any(|line| line.starts_with("host/store/src/b.rs:2: http::")), "{seen:#?}");
    assert!(
        seen.iter().any(|line| line.starts_with("plugins/x/src/lib.rs:1: unsafe")),
        "{seen:#?}"
    );
}

fn absence_violations(sources: &[SourceFile]) -> Vec<String> {
    let mut violations = Vec::new();
    for absence in &ABSENCES {
        let concerned = sources.iter().filter(|source| {
            absence.below.iter().any(|prefix| source.path.starts_with(prefix))
                && !absence.except.iter().any(|prefix| source.path.starts_with(prefix))
        });
        for source in concerned {
            let code = code_of(&source.text);
            for (number, line) in code.lines().enumerate() {
                let found = absence.words.iter().filter(|word| line.contains(**word));
                let at = |word: &&str| {
                    format!("{}:{}: {word}: {}", source.path, number + 1, absence.why)
                };
                violations.extend(found.map(at));
            }
        }
    }
    violations
}

/// Modules of these names collect what has no place.
const NAMES_OF_NOTHING: [&str; 5] = ["util", "common", "helper", "manager", "misc"];

#[test]
fn no_module_is_called_by_a_name_of_nothing() {
    let sources = source_tree::files(&["rs", "c", "h", "py", "sh"]);
    assert_eq!(names_of_nothing(&sources), Vec::<String>::new());
    let planted = ["a/src/utils.rs", "b/src/common/mod.rs", "c/image_manager.rs", "d/src/image.rs"];
    let planted =
        planted.map(|path| SourceFile::planted(path, "mod tests {}\nmod test_helpers {}"));
    assert_eq!(names_of_nothing(&planted).len(), 3 + 4, "{:?}", names_of_nothing(&planted));
}

fn names_of_nothing(sources: &[SourceFile]) -> Vec<String> {
    let says_nothing = |name: &str| {
        let mut words = name.split(['_', '-', '.']).map(|word| word.trim_end_matches('s'));
        words.any(|word| NAMES_OF_NOTHING.contains(&word))
    };
    let mut found = Vec::new();
    for source in sources {
        if source.path.split('/').any(says_nothing) {
            found.push(format!("the path {}", source.path));
        }
        if source.extension() != "rs" {
            continue;
        }
        for line in code_of(&source.text).lines() {
            let module = line.trim().trim_start_matches("pub").trim_start_matches("(crate)").trim();
            let name = module.strip_prefix("mod ").unwrap_or("");
            if says_nothing(name.trim_end_matches([';', '{', '}', ' '])) {
                found.push(format!("mod {name} in {}", source.path));
            }
        }
    }
    found
}
