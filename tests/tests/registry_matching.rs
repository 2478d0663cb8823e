//! Looking up plugins by target: the original's algorithm, written down again as simply as it was,
//! against the registry; and the answer to a question that has none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot set its scene has failed"
)]

mod registry_rig;

use std::cmp::Reverse;
use std::collections::HashMap;

use imagefactory_registry::Registry;
use registry_rig::{Machine, cloud, os};
use serde_json::{Value, json};

type Row = [Option<&'static str>; 3];

/// What a plugin of the model registers.
struct ModelPlugin {
    id: String,
    priority: u32,
    rows: Vec<Row>,
}

/// The original: a dictionary of tuples, first come first served, and a loop that replaces the
/// fields by None from the last on, looking up before each replacement only.
fn original_lookup(plugins: &[ModelPlugin], target: Row) -> Option<&str> {
    let mut targets: HashMap<Row, &str> = HashMap::new();
    for plugin in plugins {
        for row in &plugin.rows {
            targets.entry(*row).or_insert(&plugin.id);
        }
    }
    let mut asked = target;
    for index in 1..=target.len() {
        if let Some(id) = targets.get(&asked) {
            return Some(id);
        }
        asked[target.len() - index] = None;
    }
    // Not in the original: the catch-all.
    targets.get(&[None, None, None]).copied()
}

/// Numbers that look random and are the same in each run (xorshift64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn pick(&mut self, from: &[Option<&'static str>]) -> Option<&'static str> {
        from[self.roll(from.len() as u64) as usize]
    }
}

const NAMES: [Option<&str>; 4] = [Some("Fedora"), Some("RHEL-9"), Some("Debian"), None];
const VERSIONS: [Option<&str>; 3] = [Some("1"), Some("2"), None];
const ARCHES: [Option<&str>; 3] = [Some("x86_64"), Some("aarch64"), None];

fn random_plugins(dice: &mut Dice) -> Vec<ModelPlugin> {
    let plugin = |number: u64, dice: &mut Dice| ModelPlugin {
        id: format!("P{number}"),
        priority: 50 + dice.roll(2) as u32,
        rows: (0..=dice.roll(4))
            .map(|_| [dice.pick(&NAMES), dice.pick(&VERSIONS), dice.pick(&ARCHES)])
            .collect(),
    };
    let count = 1 + dice.roll(6);
    let mut plugins: Vec<ModelPlugin> = (0..count).map(|number| plugin(number, dice)).collect();
    // Our order of registration; the original's was the directory's.
    plugins.sort_by_key(|plugin| (Reverse(plugin.priority), plugin.id.clone()));
    plugins
}

#[test]
fn matching_is_the_originals() {
    let mut dice = Dice(20_121_031);
    let mut found = 0;
    for round in 0..150 {
        let machine = Machine::new();
        let plugins = random_plugins(&mut dice);
        for plugin in &plugins {
            let mut manifest = os(&plugin.id, json!(plugin.rows));
            manifest["priority"] = json!(plugin.priority);
            machine.install(&manifest);
        }
        let registry = machine.scan();
        for name in ["Fedora", "RHEL-9", "Debian", "Plan9"] {
            for version in ["1", "2", "3"] {
                for arch in ["x86_64", "aarch64", "vax"] {
                    let expected = original_lookup(&plugins, [name, version, arch].map(Some));
                    let served = registry.os_plugin(name, version, arch).ok();
                    let served = served.map(|entry| entry.id());
                    assert_eq!(served, expected, "round {round}: {name} {version} {arch}");
                    found += usize::from(served.is_some());
                }
            }
        }
    }
    assert!(found > 1000, "{found} lookups found something");
}

#[track_caller]
fn check_os(registry: &Registry, target: [&str; 3], id: &str) {
    let [name, version, arch] = target;
    assert_eq!(registry.os_plugin(name, version, arch).unwrap().id(), id);
}

#[test]
fn the_most_exact_row_wins_and_the_catch_all_comes_last() {
    let machine = Machine::new();
    machine.install(&os("Exact", json!([["Fedora", "41", "x86_64"]])));
    machine.install(&os("AnyArch", json!([["Fedora", "41", null]])));
    machine.install(&os("AnyVersion", json!([["Fedora", null, null]])));
    machine.install(&os("Gap", json!([["Fedora", null, "s390x"], ["x", null, null]])));
    machine.install(&os("Anything", json!([[null, null, null]])));
    let registry = machine.scan();
    check_os(&registry, ["Fedora", "41", "x86_64"], "Exact");
    check_os(&registry, ["Fedora", "41", "aarch64"], "AnyArch");
    check_os(&registry, ["Fedora", "40", "x86_64"], "AnyVersion");
    check_os(&registry, ["Fedora", "40", "s390x"], "AnyVersion");
    check_os(&registry, ["fedora", "41", "x86_64"], "Anything");
}

#[test]
fn a_cloud_is_found_by_its_exact_name_and_a_bare_text_never() {
    let machine = Machine::new();
    machine.install(&cloud("EC2Cloud", &["ec2"]));
    let mut bare = cloud("Bare", &[]);
    bare["targets"] = json!(["bare"]);
    machine.install(&bare);
    let registry = machine.scan();
    assert_eq!(registry.cloud_plugin("ec2").unwrap().id(), "EC2Cloud");
    assert!(registry.cloud_plugin("EC2").is_err());
    assert!(registry.cloud_plugin("bare").is_err());
    let bare = registry.entry("Bare").unwrap();
    assert_eq!(bare.state.name(), "inactive");
    assert_eq!(bare.warnings()[0].pointer, "/targets/0");
}

#[track_caller]
fn check_miss(install: &[Value], expected: &str) {
    let machine = Machine::new();
    install.iter().for_each(|manifest| machine.install(manifest));
    let miss = machine.scan().os_plugin("Fedora", "41", "aarch64").unwrap_err();
    assert_eq!(miss.to_string(), expected);
}

#[test]
fn a_miss_says_what_there_is_instead() {
    check_miss(
        &[os("TinMan", json!([["Fedora", "41", "x86_64"], ["RHEL-9", null, null]]))],
        "no OS plugin serves Fedora 41 aarch64; TinMan serves Fedora 41 on x86_64",
    );
    check_miss(
        &[os("TinMan", json!([["RHEL-9", null, null], ["Debian", "12", null]]))],
        "no OS plugin serves Fedora 41 aarch64; TinMan serves Debian 12 on any architecture, \
         TinMan serves RHEL-9 of any version",
    );
    check_miss(&[], "no OS plugin serves Fedora 41 aarch64; no plugin of this type is active");
}

#[test]
fn a_miss_names_the_plugin_that_would_serve_if_it_could() {
    let mut foreign = os("TinMan", json!([["Fedora", null, null]]));
    foreign["library"]["arch"] = json!("pdp11");
    let here = std::env::consts::ARCH;
    check_miss(
        &[foreign],
        &format!(
            "no OS plugin serves Fedora 41 aarch64; TinMan is inactive: its library is for pdp11; \
             this machine is {here}"
        ),
    );
}

#[test]
fn a_miss_is_a_sentence_however_much_there_is_and_however_odd_the_question() {
    let machine = Machine::new();
    let names: Vec<String> = (0..200).map(|number| format!("cloud{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    machine.install(&cloud("Many", &names));
    let question = "x\n".repeat(10_000);
    let miss = machine.scan().cloud_plugin(&question).unwrap_err().to_string();
    assert!(miss.len() < 1000, "{miss}");
    assert!(!miss.contains('\n'));
    assert!(miss.ends_with("and 188 more"), "{miss}");
}
