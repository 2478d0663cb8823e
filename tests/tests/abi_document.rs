//! docs/PLUGIN_ABI.md held against what it describes: the headers' names and numbers, the host's
//! table of results, the validator's rules, and the tests that it names. A document that drifts is
//! worse than none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed, in its helping functions too"
)]

mod abi_reader;

use std::collections::BTreeSet;

use abi_reader::{declarations, header_files, root};
use imagefactory_model::stage::Operation;
use imagefactory_plugin_sdk::abi;

fn document() -> String {
    std::fs::read_to_string(root().join("docs/PLUGIN_ABI.md")).unwrap()
}

/// Cells of the table rows whose first cell begins with `first`, backticks and footnotes off.
fn rows(first: &str) -> Vec<Vec<String>> {
    let plain = |cell: &str| cell.replace(['`', '¹'], "").trim().to_owned();
    let text = document();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
    let rows = rows.map(|row| row.split('|').map(plain).collect::<Vec<_>>());
    rows.filter(|cells| cells[0].starts_with(first)).collect()
}

fn words(text: &str) -> BTreeSet<String> {
    text.split(", ").filter(|word| !word.is_empty()).map(String::from).collect()
}

#[test]
fn the_table_of_results_is_the_hosts_own() {
    for operation in Operation::ALL {
        let row = rows(operation.name()).into_iter().find(|row| row[0] == operation.name());
        let row = row.unwrap_or_else(|| panic!("{operation} is not in the table"));
        let (required, optional) = (words(&row[1]), words(&row[2]));
        let told: BTreeSet<_> = required.union(&optional).cloned().collect();
        let ours: BTreeSet<_> = operation.result_keys().iter().map(|k| k.to_string()).collect();
        assert_eq!(told, ours, "{operation}");
        let mut must: BTreeSet<_> =
            operation.required_results().iter().map(|k| k.to_string()).collect();
        if operation.may_write_output() {
            must.insert("format".into()); // required where the output was written: footnote 1
        }
        assert_eq!(required, must, "{operation}");
    }
}

#[test]
fn the_table_of_statuses_is_the_headers() {
    let told: Vec<(String, i64)> = rows("IMGF_OK")
        .into_iter()
        .chain(rows("IMGF_E_"))
        .map(|row| (row[0].clone(), row[1].parse().unwrap()))
        .collect();
    let is_status = |name: &str| name == "IMGF_OK" || name.starts_with("IMGF_E_");
    let ours: Vec<(String, i64)> = abi::CONSTANTS
        .iter()
        .filter(|(name, _)| is_status(name))
        .map(|(name, value)| (name.to_string(), *value))
        .collect();
    assert_eq!(told, ours);
}

#[test]
fn every_duty_of_the_document_is_a_rule_of_the_validator_and_the_other_way_round() {
    // Duties with a third cell name the test that breaks them; the others are the validator's.
    let told = rows("IMGF-P-").into_iter().filter(|row| row.len() == 2);
    let told: Vec<u16> = told.map(|row| row[0][7..].parse().unwrap()).collect();
    let path = root().join("host/imagefactory/src/plugin/rules.rs");
    let rules = std::fs::read_to_string(path).unwrap();
    let (_, table) = rules.split_once("RULES: &[Rule] = &[").expect("the table of rules");
    let begins = table.match_indices("files(").chain(table.match_indices("runs("));
    let mut ours: Vec<u16> = begins
        .filter_map(|(at, word)| table[at + word.len()..].split(',').next()?.parse().ok())
        .collect();
    ours.sort_unstable();
    assert!(ours.len() > 40, "{ours:?}");
    assert_eq!(told, ours);
}

#[test]
fn every_test_that_the_document_names_exists() {
    let mut tests = String::new();
    let mut open = vec![root().join("tests/tests")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                tests += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    let duties = rows("IMGF-P-").into_iter().filter(|row| row.len() == 3);
    let named: Vec<_> = duties.chain(rows("IMGF-H-")).collect();
    assert!(named.len() >= 15);
    for row in named {
        assert!(tests.contains(&format!("fn {}()", row[2])), "{}: {}", row[0], row[2]);
    }
}

#[test]
fn every_name_of_the_abi_in_the_document_is_declared_in_a_header() {
    let mut declared: BTreeSet<String> = BTreeSet::from(["imgf_instance".into()]);
    for (name, text) in header_files() {
        declared.extend(declarations(&name, &text).iter().map(|d| d.name().to_owned()));
    }
    let text = document();
    let names = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names: BTreeSet<&str> =
        names.filter(|word| word.starts_with("imgf_") || word.starts_with("IMGF_")).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(declared.contains(name), "{name} is in no header");
    }
}

#[test]
fn every_interface_id_in_the_document_is_one_of_the_headers() {
    let text = document();
    let ours: BTreeSet<&str> = abi::STRINGS.iter().map(|(_, value)| *value).collect();
    let ids: BTreeSet<&str> = text
        .split('`')
        .filter(|code| code.starts_with("imagefactory.") && code.contains('/'))
        .collect();
    assert_eq!(ids.len(), 8, "{ids:?}");
    assert!(ids.is_subset(&ours), "{ids:?}");
}
