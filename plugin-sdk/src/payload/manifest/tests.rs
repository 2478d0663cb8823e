//! What the manifest reader accepts, warns of and refuses. The agreement with the JSON schema and
//! the README is tested in tests/tests/registry_manifest_format.rs.

use serde_json::{json, Value};

use super::*;

/// A manifest without a finding.
fn flawless() -> Value {
    json!({
        "schema_version": "1.0", "id": "EC2Cloud", "type": "cloud", "targets": [["ec2"]],
        "description": "EC2", "maintainer": {"name": "Example"}, "version": "1.4.0",
        "license": "Apache-2.0", "library": {"path": "EC2Cloud.so"}, "abi": {"req": "^1.0"},
        "capabilities": ["push_image_to_provider"]
    })
}

fn parse(document: &Value) -> Result<(Manifest, Vec<JsonFinding>), ManifestError> {
    Manifest::parse(document.to_string().as_bytes(), "EC2Cloud")
}

/// The flawless manifest with the value at `pointer` (of an existing object) replaced.
fn with(pointer: &str, value: Value) -> Value {
    let mut document = flawless();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    document.pointer_mut(parent).unwrap()[key] = value;
    document
}

#[track_caller]
fn check_problem(document: &Value, pointer: &str, words: &str) {
    match parse(document) {
        Err(ManifestError::Invalid { problems }) => {
            assert_eq!(problems.len(), 1, "{:?}", problems);
            assert_eq!(problems[0].pointer, pointer);
            assert!(problems[0].message.contains(words), "{}", problems[0]);
        }
        other => panic!("not refused: {:?}", other),
    }
}

#[track_caller]
fn check_warning(document: &Value, pointer: &str, words: &str) -> Manifest {
    let (manifest, warnings) = parse(document).unwrap();
    assert_eq!(warnings.len(), 1, "{:?}", warnings);
    assert_eq!(warnings[0].pointer, pointer);
    assert!(warnings[0].message.contains(words), "{}", warnings[0]);
    manifest
}

#[test]
fn a_flawless_manifest_has_no_finding_and_its_defaults() {
    let (manifest, warnings) = parse(&flawless()).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(manifest.name, "EC2Cloud");
    assert_eq!(manifest.priority, PRIORITY_DEFAULT);
    assert!(manifest.offers("push_image_to_provider"));
    assert!(!manifest.offers("cleanup"));
    assert!(!manifest.needs_credentials);
}

#[test]
fn the_originals_info_file_is_read_as_it_stands() {
    let info = r#"{ "type": "OS", "targets": [ ["Fedora", null, null], ["RHEL-6", null, null] ],
        "description": "Plugin to support most guest types",
        "maintainer": { "name": "N", "email": "e@example.org", "url": "http://imgfac.org" },
        "version": "1.0", "license": "http://www.apache.org/licenses/LICENSE-2.0" }"#;
    let (manifest, warnings) = Manifest::parse(info.as_bytes(), "TinMan").unwrap();
    assert_eq!(manifest.id, "TinMan");
    assert_eq!(manifest.kind, PluginKind::Os);
    assert_eq!(manifest.library, None);
    let places: Vec<&str> = warnings.iter().map(|warning| warning.pointer.as_str()).collect();
    assert_eq!(places, ["/schema_version", "/id", "/library"]);
}

#[test]
fn unknown_keys_are_warned_of_with_the_nearest_known_name() {
    check_warning(&with("/licence", json!("MIT")), "/licence", r#"did you mean "license"?"#);
    check_warning(&with("/maintainer/mail", json!("")), "/maintainer/mail", "\"email\"");
    check_warning(&with("/colour", json!(1)), "/colour", "unknown key");
    check_warning(&with("/a~1b", json!(1)), "/a~01b", "unknown key");
}

#[test]
fn vendor_keys_are_kept_and_not_warned_of() {
    let (manifest, warnings) = parse(&with("/x-vendor", json!({"a": 1}))).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(manifest.extensions["x-vendor"], json!({"a": 1}));
}

#[test]
fn an_unknown_major_is_refused_and_an_unknown_minor_is_not() {
    check_problem(&with("/schema_version", json!("2.0")), "/schema_version", "reads 1.x");
    check_problem(&with("/schema_version", json!("1")), "/schema_version", "MAJOR.MINOR");
    check_problem(&with("/schema_version", json!("1.0.0")), "/schema_version", "MAJOR.MINOR");
    check_problem(&with("/schema_version", json!("+1.0")), "/schema_version", "MAJOR.MINOR");
    check_problem(&with("/schema_version", json!(1.0)), "/schema_version", "a number");
    let mut later = with("/schema_version", json!("1.7"));
    later["new_in_1_7"] = json!(true);
    assert_eq!(parse(&later).unwrap().1, []);
}

#[test]
fn id_and_file_name_are_one_name() {
    check_problem(&with("/id", json!("EC2")), "/id", "the file is called \"EC2Cloud\"");
    check_problem(&with("/id", json!("../x")), "/id", "must be letters");
    let refused = Manifest::parse(flawless().to_string().as_bytes(), "a b").unwrap_err();
    assert!(refused.to_string().contains("cannot be a plugin's id"), "{}", refused);
}

#[test]
fn target_rows_have_the_arity_of_their_type() {
    check_problem(&with("/targets", json!([["ec2", null]])), "/targets/0", "has 2 fields");
    check_problem(&with("/targets", json!([["ec2"], [""]])), "/targets/1/0", "1 to 128");
    check_problem(&with("/targets", json!([[7]])), "/targets/0/0", "a number");
    check_problem(&with("/targets", json!("ec2")), "/targets", "must be a list");
}

#[test]
fn rows_that_no_lookup_finds_are_kept_and_warned_of() {
    let manifest = check_warning(&with("/targets", json!(["ec2"])), "/targets/0", "bare text");
    assert_eq!(manifest.targets, [Target::Text("ec2".into())]);
    check_warning(&with("/targets", json!([[null]])), "/targets/0", "never found");
    let gap =
        r#"{"type":"os","targets":[["Fedora",null,"x86_64"],[null,null,null]],"version":"1"}"#;
    let (manifest, warnings) = Manifest::parse(gap.as_bytes(), "X").unwrap();
    assert!(warnings.iter().any(|warning| warning.pointer == "/targets/0"), "{:?}", warnings);
    assert!(warnings.iter().all(|warning| warning.pointer != "/targets/1"), "{:?}", warnings);
    assert!(manifest.targets[1].can_match(), "the documented catch-all");
}

#[test]
fn capabilities_of_the_other_type_are_refused_and_unknown_ones_are_not() {
    let foreign = with("/capabilities", json!(["create_base_image"]));
    check_problem(&foreign, "/capabilities", "not an operation of this plugin's type");
    let misspelt = with("/capabilities", json!(["push_image_to_providr"]));
    check_warning(&misspelt, "/capabilities", "did you mean \"push_image_to_provider\"");
}

#[test]
fn wrong_types_and_forms_name_their_place() {
    for (pointer, value, words) in [
        ("/type", json!("disk"), "\"os\" or \"cloud\""),
        ("/description", json!(["x"]), "a list"),
        ("/version", json!("1 0"), "without blanks"),
        ("/library", json!("EC2Cloud.so"), "must be an object"),
        ("/library/path", json!("../EC2Cloud.so"), "without '..'"),
        ("/library/sha256", json!("ABC"), "lower-case"),
        ("/abi/req", json!(""), "version requirement"),
        ("/priority", json!(-1), "from 0 to 1000, not -1"),
        ("/priority", json!(1.5), "not 1.5"),
        ("/limits", json!({"timeout_s": 0}), "from 1 to"),
        ("/sandbox", json!({"profile": "root"}), "cloud, os-vm, os-userns, os-root, none"),
        ("/requires", json!({"tools": ["/bin/sh"]}), "program in PATH"),
        ("/homepage", json!("ftp://x"), "http"),
        ("/needs_credentials", json!("yes"), "true or false"),
        ("/conflicts", json!(["a/b"]), "letters"),
        ("/name", json!("a\u{7}b"), "control characters"),
    ] {
        match parse(&with(pointer, value)) {
            Err(ManifestError::Invalid { problems }) => {
                assert_eq!(problems.len(), 1, "{:?}", problems);
                assert!(problems[0].pointer.starts_with(pointer), "{}", problems[0]);
                assert!(problems[0].message.contains(words), "{}", problems[0]);
            }
            other => panic!("{} not refused: {:?}", pointer, other),
        }
    }
}

#[test]
fn all_problems_are_told_at_once_and_their_number_is_bounded() {
    let mut document = with("/type", json!(1));
    document["version"] = json!(2);
    match parse(&document) {
        Err(ManifestError::Invalid { problems }) => assert_eq!(problems.len(), 2),
        other => panic!("{:?}", other),
    }
    for key in 0..10_000 {
        document[format!("unknown-{}", key)] = json!(0);
    }
    document["type"] = json!("os");
    document["version"] = json!("1.0.0");
    document["targets"] = json!([["A", null, null]]);
    document["capabilities"] = json!([]);
    let (_, warnings) = parse(&document).unwrap();
    assert_eq!(warnings.len(), finding::FINDINGS_MAX + 1);
}

#[test]
fn what_was_read_is_written_as_a_manifest_that_reads_the_same() {
    let (manifest, _) = parse(&with("/x-note", json!([1, 2]))).unwrap();
    let (again, warnings) = parse(&serde_json::to_value(&manifest).unwrap()).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(again, manifest);
}
