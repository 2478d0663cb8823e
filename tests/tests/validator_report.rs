//! What `imagefactory plugin validate` and `describe` print and how they exit.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

mod validator_rig;

use imagefactory_tests::fixture_plugins::fixture_folder;
use serde_json::Value;
use validator_rig::{PluginFolder, broken_library, imagefactory_plugin};

fn plugin(rule: u16) -> PluginFolder {
    let fixture = fixture_folder("broken");
    let library = broken_library(&[format!("-DBROKEN={rule}"), "-DVARIANT=0".into()]);
    let fixtures = fixture.join("os.validate.json");
    PluginFolder::new("Broken", &library, &fixture.join("os.json"), Some(&fixtures))
}

fn path(folder: &PluginFolder) -> String {
    folder.manifest().to_str().expect("a path").to_owned()
}

/// `plugin validate MANIFEST ARGUMENTS…`
fn check_exit(folder: &PluginFolder, arguments: &[&str], status: i32) {
    let manifest = path(folder);
    let mut all = vec!["validate", manifest.as_str(), "--level", "1"];
    all.extend(arguments);
    let answer = imagefactory_plugin(&all);
    assert_eq!(answer.status, status, "{arguments:?}: {}{}", answer.stdout, answer.stderr);
}

#[test]
fn the_exit_status_tells_pass_fail_usage_and_warnings() {
    let (good, warned, bad) = (plugin(0), plugin(9), plugin(104));
    check_exit(&good, &[], 0);
    check_exit(&good, &["--strict"], 0);
    check_exit(&warned, &[], 0);
    check_exit(&warned, &["--strict"], 3);
    check_exit(&bad, &[], 1);
    check_exit(&bad, &["--strict"], 1);
    check_exit(&good, &["--only", "("], 2);
    check_exit(&good, &["--only", "IMGF-P-999"], 2);
    check_exit(&good, &["--levle", "1"], 2);
    check_exit(&good, &["--runner", "/nowhere/runner"], 2);
    assert_eq!(imagefactory_plugin(&["validate", "NoSuchPlugin"]).status, 2);
}

#[test]
fn only_the_rules_asked_for_are_told_and_what_they_need_is_still_tried() {
    let good = plugin(0);
    let answer =
        imagefactory_plugin(&["validate", &path(&good), "--json", "--only", "IMGF-P-30[12]"]);
    let report = answer.json();
    let rules = report["rules"].as_array().expect("rules");
    let ids: Vec<&str> = rules.iter().filter_map(|rule| rule["id"].as_str()).collect();
    assert_eq!(ids, ["IMGF-P-301", "IMGF-P-302"]);

    let bad = plugin(104);
    let answer = imagefactory_plugin(&["validate", &path(&bad), "--json", "--only", "302"]);
    let report = answer.json();
    let told: Vec<(&Value, &Value)> = report["rules"]
        .as_array()
        .expect("rules")
        .iter()
        .map(|rule| (&rule["id"], &rule["outcome"]))
        .collect();
    let expected: [(&Value, &Value); 2] =
        [(&"IMGF-P-104".into(), &"failed".into()), (&"IMGF-P-302".into(), &"skipped".into())];
    assert_eq!(told, expected);
}

#[test]
fn the_json_report_has_the_fields_that_the_guide_promises() {
    let answer = imagefactory_plugin(&[
        "validate",
        &path(&plugin(108)),
        "--json",
        "--level",
        "1",
        "--seed",
        "77",
    ]);
    let report = answer.json();
    let keys = |value: &Value| -> Vec<String> {
        value.as_object().expect("an object").keys().cloned().collect()
    };
    let mut top = keys(&report);
    top.sort();
    let promised =
        ["counts", "duration_ms", "options", "plugin", "rules", "schema", "tool", "verdict"];
    assert_eq!(top, promised);
    let mut rule = keys(&report["rules"][0]);
    rule.sort();
    assert_eq!(rule, ["duration_ms", "group", "id", "level", "messages", "outcome", "title"]);
    assert_eq!(report["schema"], "1.0");
    assert_eq!(report["options"]["seed"], 77);
    assert_eq!(report["tool"]["abi"], "1.0");
    assert!(!report["tool"]["kernel"].as_str().expect("a kernel").is_empty());
    assert_eq!(report["plugin"]["id"], "Broken");
    assert_eq!(report["verdict"], "failed");
    assert_eq!(report["counts"]["failed"], 1);
}

#[test]
fn the_junit_file_counts_and_names_what_failed() {
    let folder = plugin(101);
    let file = folder.path().join("report.xml");
    let name = file.to_str().expect("a path");
    let answer =
        imagefactory_plugin(&["validate", &path(&folder), "--level", "1", "--junit", name]);
    assert_eq!(answer.status, 1);
    let xml = std::fs::read_to_string(&file).expect("the file was written");
    assert!(xml.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite "), "{xml}");
    assert!(xml.contains("failures=\"1\" errors=\"0\""), "{xml}");
    assert!(xml.contains("name=\"IMGF-P-101 load\""), "{xml}");
    assert!(xml.contains("<failure message=\""), "{xml}");
    assert_eq!(xml.matches("<testcase ").count(), xml.matches("</testcase>").count());
}

#[test]
fn the_text_names_rule_duty_and_what_was_found() {
    let answer = imagefactory_plugin(&["validate", &path(&plugin(108)), "--level", "1"]);
    assert!(answer.stdout.contains("FAILED  IMGF-P-108 refusal text"), "{}", answer.stdout);
    assert!(answer.stdout.contains("duty: A refusal carries a sentence."), "{}", answer.stdout);
    assert!(answer.stdout.contains("Broken fails: "), "{}", answer.stdout);
    assert!(!answer.stdout.contains('\u{1b}'), "no colours in a pipe");
}

#[test]
fn a_misspelt_key_in_the_fixtures_is_told() {
    let folder = plugin(0);
    let file = folder.path().join("Broken.validate.json");
    std::fs::write(file, r#"{"paramters": {}}"#).expect("it can be written");
    let answer = imagefactory_plugin(&["validate", &path(&folder)]);
    assert_eq!(answer.status, 2);
    assert!(answer.stderr.contains("paramters"), "{}", answer.stderr);
}

#[test]
fn an_id_is_found_on_the_search_path() {
    let folder = plugin(0);
    let output = std::process::Command::new(imagefactory_tests::binaries::imagefactory())
        .args(["plugin", "validate", "Broken", "--level", "1", "--only", "IMGF-P-0"])
        .env("IMAGEFACTORY_PLUGIN_PATH", folder.path())
        .output()
        .expect("imagefactory can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn describe_tells_facts_or_the_reason_why_there_are_none() {
    let good = imagefactory_plugin(&["describe", &path(&plugin(0)), "--json"]);
    assert_eq!(good.status, 0, "{}{}", good.stdout, good.stderr);
    let told = good.json();
    assert_eq!((&told["active"], &told["facts"]["id"]), (&true.into(), &"Broken".into()));
    assert_eq!(
        told["facts"]["operations"],
        serde_json::json!(["create_base_image", "create_target_image"])
    );

    let text = imagefactory_plugin(&["describe", &path(&plugin(0))]).stdout;
    assert!(text.contains("operations   create_base_image create_target_image"), "{text}");

    let unresolved = imagefactory_plugin(&["describe", &path(&plugin(101)), "--json"]);
    assert_eq!(unresolved.status, 1);
    let told = unresolved.json();
    assert_eq!((&told["active"], &told["error"]["code"]), (&false.into(), &"plugin-load".into()));
    let message = told["error"]["message"].as_str().expect("a message");
    assert!(message.contains("imagefactory_test_symbol_that_nobody_has"), "{message}");

    let folder = plugin(0);
    folder.edit_manifest(|manifest| manifest["schema_version"] = "9.0".into());
    let answer = imagefactory_plugin(&["describe", &path(&folder)]);
    assert_eq!(answer.status, 1);
    assert!(answer.stdout.contains("schema_version"), "{}", answer.stdout);
}
