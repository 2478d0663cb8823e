//! Several plugins on one machine: which file of an id counts, who serves a target, what a
//! description changes. Each loser says why, and nothing depends on the order of directories.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot set its scene has failed"
)]

mod registry_rig;

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use imagefactory_model::frames::{LayoutCheck, PluginFacts};
use imagefactory_model::stage::{FailureCode, StageFailure};
use imagefactory_registry::listing::{plugin_object, plugin_objects};
use imagefactory_registry::{DescribeJob, DescribedPlugins, Registry, RegistryHandle, TargetFate};
use registry_rig::{Machine, cloud, os, sentence, write};
use serde_json::{Value, json};

fn with(mut manifest: Value, key: &str, value: Value) -> Value {
    manifest[key] = value;
    manifest
}

#[track_caller]
fn check_state(registry: &Registry, id: &str, expected: &str) {
    let found = sentence(registry.entry(id).unwrap());
    assert!(found.starts_with(expected), "{id} is {found}");
}

#[test]
fn of_one_id_the_stronger_folder_counts_and_the_other_is_listed_as_shadowed() {
    let machine = Machine::new();
    machine.install(&cloud("X", &["packaged"]));
    machine.override_with(&cloud("X", &["own"]));
    let registry = machine.scan();
    assert_eq!(registry.cloud_plugin("own").unwrap().path(), &machine.etc().join("X.json"));
    assert!(registry.cloud_plugin("packaged").is_err());
    let states: Vec<_> = registry.entries().iter().map(|entry| entry.state.name()).collect();
    assert_eq!(states, ["undescribed", "shadowed"]);
    let listed = plugin_objects(&registry, str::to_owned);
    assert_eq!(listed.len(), 1, "clients see each id once");
    assert!(listed[0].shadowed[0].contains("same id"));
}

#[test]
fn a_broken_file_in_the_stronger_folder_still_counts() {
    let machine = Machine::new();
    machine.install(&cloud("X", &["x"]));
    write(&machine.etc().join("X.json"), b"{");
    let registry = machine.scan();
    check_state(&registry, "X", "error: ");
    assert!(registry.cloud_plugin("x").is_err());
}

#[test]
fn an_empty_file_or_a_link_to_dev_null_masks_an_id() {
    for mask in ["empty", "link"] {
        let machine = Machine::new();
        machine.install(&cloud("X", &["x"]));
        match mask {
            "empty" => write(&machine.etc().join("X.json"), b""),
            _ => symlink("/dev/null", machine.etc().join("X.json")).unwrap(),
        }
        let registry = machine.scan();
        check_state(&registry, "X", "masked: ");
        let states: Vec<_> = registry.entries().iter().map(|entry| entry.state.name()).collect();
        assert_eq!(states, ["masked", "masked"]);
        let miss = registry.cloud_plugin("x").unwrap_err().to_string();
        assert!(miss.contains("X is masked"), "{miss}");
    }
}

#[test]
fn a_mask_in_a_weaker_folder_masks_nothing() {
    let machine = Machine::new();
    machine.override_with(&cloud("X", &["x"]));
    write(&machine.lib().join("X.json"), b"");
    assert!(machine.scan().cloud_plugin("x").is_ok());
}

#[test]
fn a_manifest_in_the_new_form_wins_over_the_originals_beside_it() {
    let machine = Machine::new();
    machine.install(&cloud("X", &["x"]));
    write(&machine.lib().join("X.info"), cloud("X", &["x"]).to_string().as_bytes());
    let registry = machine.scan();
    assert_eq!(registry.cloud_plugin("x").unwrap().path(), &machine.lib().join("X.json"));
}

#[test]
fn a_target_goes_to_priority_then_folder_then_id_and_the_loser_says_why() {
    let machine = Machine::new();
    machine.install(&cloud("B", &["t", "only-b"]));
    machine.install(&with(cloud("A", &["t", "only-a"]), "priority", json!(49)));
    let registry = machine.scan();
    assert_eq!(registry.cloud_plugin("t").unwrap().id(), "B");
    assert_eq!(registry.cloud_plugin("only-a").unwrap().id(), "A", "it still serves the rest");
    let rows = &registry.entry("A").unwrap().targets;
    match &rows[0].fate {
        TargetFate::Outbid(reason) => {
            assert_eq!(reason.message, "B serves it, which has priority 50 over 49");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(rows[1].fate, TargetFate::Served);
    let listed = plugin_object(&registry, "A", String::new()).unwrap();
    assert_eq!(listed.targets_not_served.len(), 1);

    machine.override_with(&cloud("C", &["t"]));
    let registry = machine.scan();
    assert_eq!(registry.cloud_plugin("t").unwrap().id(), "C");
    match &registry.entry("B").unwrap().targets[0].fate {
        TargetFate::Outbid(reason) => assert!(reason.message.contains("stronger folder")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_plugin_that_loses_all_its_targets_is_inactive_with_the_reason() {
    let machine = Machine::new();
    machine.install(&cloud("A", &["t"]));
    machine.install(&cloud("B", &["t"]));
    let registry = machine.scan();
    check_state(
        &registry,
        "B",
        "inactive: none of its targets comes to it: A serves it, which comes first by id (A before B)",
    );
}

#[test]
fn os_and_cloud_plugins_do_not_meet() {
    let machine = Machine::new();
    machine.install(&cloud("C", &["Fedora"]));
    machine.install(&os("O", json!([["Fedora", null, null]])));
    let registry = machine.scan();
    assert_eq!(registry.cloud_plugin("Fedora").unwrap().id(), "C");
    assert_eq!(registry.os_plugin("Fedora", "1", "x").unwrap().id(), "O");
}

#[test]
fn of_two_that_conflict_the_stronger_stays_whoever_says_it() {
    for (says, other) in [("A", "B"), ("B", "A")] {
        let machine = Machine::new();
        machine.install(&with(cloud(says, &[says]), "conflicts", json!([other])));
        machine.install(&cloud(other, &[other]));
        let registry = machine.scan();
        assert!(registry.cloud_plugin("A").is_ok());
        check_state(&registry, "B", "inactive: conflicts with A, which comes first by id");
    }
}

#[test]
fn what_is_replaced_is_inactive_and_replaces_nobody() {
    let machine = Machine::new();
    machine.install(&with(cloud("C", &["c"]), "priority", json!(99)));
    machine.install(&with(cloud("B", &["b"]), "replaces", json!(["C"])));
    let registry = machine.scan();
    check_state(&registry, "C", "inactive: B replaces it");
    machine.install(&with(cloud("A", &["a"]), "replaces", json!(["B"])));
    let registry = machine.scan();
    check_state(&registry, "B", "inactive: A replaces it");
    assert!(registry.cloud_plugin("c").is_ok(), "its replacer is replaced itself");
}

#[test]
fn a_plugin_whose_replacer_is_replaced_replaces_others_again() {
    let machine = Machine::new();
    for (id, other, priority) in [("A", "B", 50), ("B", "C", 50), ("C", "D", 50), ("D", "X", 99)] {
        let manifest = with(cloud(id, &[id]), "priority", json!(priority));
        machine.install(&with(manifest, "replaces", json!([other])));
    }
    let registry = machine.scan();
    let states: Vec<_> = registry.entries().iter().map(|entry| entry.state.name()).collect();
    assert_eq!(states, ["undescribed", "inactive", "undescribed", "inactive"]);
}

#[test]
fn in_a_circle_of_replacements_the_strongest_stays() {
    let machine = Machine::new();
    for (id, other) in [("A", "B"), ("B", "C"), ("C", "A")] {
        let priority = if id == "B" { 60 } else { 50 };
        let manifest = with(cloud(id, &[id]), "priority", json!(priority));
        machine.install(&with(manifest, "replaces", json!([other])));
    }
    let registry = machine.scan();
    assert!(registry.cloud_plugin("B").is_ok());
    check_state(&registry, "C", "inactive: B replaces it");
    assert!(registry.cloud_plugin("A").is_ok(), "C, which replaces it, is gone");
}

#[test]
fn a_drop_in_changes_priority_and_limits_and_the_last_name_wins() {
    let machine = Machine::new();
    machine.install(&cloud("A", &["t"]));
    machine.install(&cloud("B", &["t"]));
    machine.drop_in("B", "50-a.json", r#"{"priority": 10, "limits": {"timeout_s": 5}}"#);
    machine.drop_in("B", "60-b.json", r#"{"priority": 90}"#);
    let registry = machine.scan();
    let entry = registry.cloud_plugin("t").unwrap();
    assert_eq!(entry.id(), "B");
    assert_eq!(entry.manifest().unwrap().limits.timeout_s, Some(5));
    assert_eq!(entry.drop_ins().len(), 2);
}

#[test]
fn a_drop_in_switches_a_plugin_off_and_one_for_nobody_is_told_of() {
    let machine = Machine::new();
    machine.install(&cloud("A", &["t"]));
    machine.drop_in("A", "off.json", r#"{"enabled": false}"#);
    machine.drop_in("Mistyped", "off.json", r#"{"enabled": false}"#);
    let registry = machine.scan();
    check_state(&registry, "A", "inactive: switched off by a drop-in");
    assert!(registry.notices()[0].message.contains("\"Mistyped\""));
}

#[test]
fn the_order_in_which_files_were_made_changes_nothing() {
    let manifests = [
        cloud("A", &["t", "u"]),
        with(cloud("B", &["t", "v"]), "priority", json!(60)),
        with(cloud("C", &["v", "w"]), "replaces", json!(["D"])),
        with(cloud("D", &["w"]), "conflicts", json!(["A"])),
        cloud("E", &["w", "t"]),
        json!({"id": "F", "type": 7}),
    ];
    let listing = |order: &[usize]| {
        let machine = Machine::new();
        for index in order {
            machine.install(&manifests[*index]);
        }
        machine.override_with(&cloud("E", &["u"]));
        serde_json::to_string_pretty(&plugin_objects(&machine.scan(), str::to_owned)).unwrap()
    };
    let first = listing(&[0, 1, 2, 3, 4, 5]);
    for order in [[5, 4, 3, 2, 1, 0], [3, 0, 5, 1, 4, 2], [2, 5, 0, 4, 1, 3], [4, 2, 0, 1, 3, 5]] {
        assert_eq!(listing(&order), first);
    }
}

fn facts(job: &DescribeJob) -> PluginFacts {
    PluginFacts {
        id: job.plugin.id.clone(),
        version: job.plugin.version.clone(),
        kind: job.plugin.kind,
        abi_compiled: "1.0".into(),
        abi_chosen: "1.0".into(),
        interfaces: vec!["imagefactory.cloud/1".into()],
        operations: vec!["push_image_to_provider".into()],
        layout: LayoutCheck::Absent,
        sha256: "00".into(),
        warnings: Vec::new(),
    }
}

fn crash() -> StageFailure {
    StageFailure::new(FailureCode::PluginCrash, "A crashed while it was described (SIGSEGV)")
}

#[test]
fn a_description_makes_a_plugin_active() {
    let machine = Machine::new();
    machine.install(&cloud("A", &["t"]));
    let registry = machine.scan();
    assert_eq!(plugin_object(&registry, "A", String::new()).unwrap().active, None);
    let jobs = registry.undescribed();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].plugin.path, machine.lib().join("A.so"));
    let registry = registry.with_description(&jobs[0], Ok(facts(&jobs[0])));
    check_state(&registry, "A", "active");
    assert!(registry.undescribed().is_empty());
    let listed = plugin_object(&registry, "A", String::new()).unwrap();
    assert_eq!(listed.active, Some(true));
    assert_eq!(listed.abi.unwrap().chosen.as_deref(), Some("1.0"));
}

#[test]
fn a_plugin_that_is_not_what_its_manifest_says_is_an_error() {
    let machine = Machine::new();
    machine.install(&cloud("A", &["t"]));
    let registry = machine.scan();
    let job = &registry.undescribed()[0];
    let mut lies = facts(job);
    lies.operations = vec!["delete_from_provider".into()];
    let registry = registry.with_description(job, Ok(lies));
    check_state(&registry, "A", "error: the manifest's capabilities are not the library's");
}

#[test]
fn a_plugin_that_crashes_when_described_is_in_quarantine_until_its_file_changes() {
    let machine = Machine::new();
    machine.install(&cloud("A", &["t"]));
    machine.install(&with(cloud("B", &["t"]), "priority", json!(1)));
    let registry = machine.scan();
    let job = registry.undescribed().into_iter().find(|job| job.plugin.id == "A").unwrap();
    let registry = registry.with_description(&job, Err(crash()));
    check_state(&registry, "A", "error: in quarantine until its library changes: A crashed");
    assert_eq!(registry.cloud_plugin("t").unwrap().id(), "B", "the next one takes over");

    // A restart: the cache is written and read.
    let cache = machine.etc().join("described.cache");
    registry.described().save(&cache).unwrap();
    let again = Registry::scan(&machine.search_path(), &DescribedPlugins::load(&cache));
    check_state(&again, "A", "error: in quarantine");
    assert!(again.undescribed().iter().all(|job| job.plugin.id != "A"));

    // The file is replaced, as a package update does.
    write(&machine.lib().join("A.so.new"), b"not loaded");
    fs::rename(machine.lib().join("A.so.new"), machine.lib().join("A.so")).unwrap();
    let mended = Registry::scan(&machine.search_path(), again.described());
    check_state(&mended, "A", "undescribed");
    assert_eq!(mended.cloud_plugin("t").unwrap().id(), "A");
}

#[test]
fn a_fault_of_the_host_is_told_and_tried_again_after_a_reload() {
    let machine = Machine::new();
    machine.install(&cloud("A", &["t"]));
    let registry = machine.scan();
    let job = &registry.undescribed()[0];
    let failure = StageFailure::new(FailureCode::NoSpace, "no room");
    let registry = registry.with_description(job, Err(failure));
    check_state(&registry, "A", "error: ");
    assert!(registry.undescribed().is_empty(), "not again and again");
    let reloaded = Registry::scan(&machine.search_path(), registry.described());
    check_state(&reloaded, "A", "undescribed");
}

#[test]
fn a_description_of_a_file_that_was_replaced_meanwhile_changes_nothing() {
    let machine = Machine::new();
    machine.install(&cloud("A", &["t"]));
    let old = machine.scan();
    let job = &old.undescribed()[0];
    write(&machine.lib().join("A.so.new"), b"not loaded");
    fs::rename(machine.lib().join("A.so.new"), machine.lib().join("A.so")).unwrap();
    let new = machine.scan();
    check_state(&new.with_description(job, Err(crash())), "A", "undescribed");
    let newer = &new.undescribed()[0];
    let new = new.with_description(newer, Ok(facts(newer)));
    check_state(&new.with_description(job, Err(crash())), "A", "active");
}

#[test]
fn a_reload_disturbs_nobody_who_holds_the_old_snapshot() {
    let machine = Machine::new();
    machine.install(&cloud("A", &["t"]));
    let handle = Arc::new(RegistryHandle::new(machine.scan()));
    let held = handle.load();
    fs::remove_file(machine.lib().join("A.json")).unwrap();
    handle.update(|old| Registry::scan(&machine.search_path(), old.described()));
    assert!(held.cloud_plugin("t").is_ok());
    assert!(handle.load().cloud_plugin("t").is_err());
}

#[test]
fn the_listing_has_the_keys_of_the_document() {
    let machine = Machine::new();
    machine.install(&cloud("EC2Cloud", &["ec2"]));
    let listed = plugin_objects(&machine.scan(), |id| format!("http://h/plugins/{id}"));
    let object = serde_json::to_value(&listed[0]).unwrap();
    assert_eq!(object["_type"], "plugin");
    assert_eq!(object["href"], "http://h/plugins/EC2Cloud");
    assert_eq!(object["maintainer"], json!({"name": "N", "email": "", "url": ""}));
    assert_eq!(object["targets"], json!([["ec2"]]));
    assert_eq!(object["type"], "cloud");
    for key in
        ["id", "description", "license", "version", "active", "abi", "capabilities", "sandbox"]
    {
        assert!(object.get(key).is_some(), "{key} is missing");
    }
    assert!(object.get("ERROR").is_none());
}
