//! One format, told three times: the reader in the SDK, the closed JSON schema, the README's table.
//! Here they are held together, and against the operations of the host.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot set its scene has failed"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use imagefactory_model::stage::Operation;
use imagefactory_plugin_sdk::payload::manifest::{CLOUD_CAPABILITIES, Manifest, OS_CAPABILITIES};
use serde_json::{Value, json};

fn manifests_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../plugin-manifests")
}

fn schema() -> Value {
    let text = fs::read(manifests_folder().join("manifest.schema.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// A manifest with every field there is.
fn complete() -> Value {
    json!({
        "schema_version": "1.0", "id": "EC2Cloud", "name": "EC2", "type": "cloud",
        "targets": [["ec2"], ["ec2-gov"]], "description": "EC2",
        "maintainer": {"name": "N", "email": "n@example.org", "url": "https://example.org"},
        "version": "1.4.0", "license": "Apache-2.0",
        "library": {"path": "EC2Cloud.so", "sha256": "0123456789abcdef".repeat(4), "arch": "x86_64"},
        "abi": {"req": "^1.0"},
        "sdk": {"name": "imagefactory-plugin-sdk", "version": "1.0.0", "language": "rust"},
        "capabilities": ["push_image_to_provider", "cleanup"],
        "parameters_schema": {"type": "object"}, "provider_schema": {}, "credentials_schema": {},
        "requires": {"tools": ["qemu-img"], "devices": ["/dev/kvm"], "host": ">=2.0"},
        "sandbox": {"profile": "cloud", "network": true, "capabilities": ["CAP_SYS_ADMIN"],
            "memory_max_mb": 2048, "read_only": ["/etc/pki"]},
        "limits": {"timeout_s": 7200, "cancel_grace_s": 10, "max_concurrent": 4,
            "processes_max": 64},
        "priority": 60, "conflicts": ["Other"], "replaces": ["EC2"],
        "homepage": "https://example.org", "documentation": "https://example.org/doc",
        "needs_credentials": true
    })
}

/// `library.path` and so on: the leaves of the format.
fn leaves(value: &Value, is_inner: fn(&str, &Value) -> bool) -> BTreeSet<String> {
    let mut leaves = BTreeSet::new();
    for (key, inner) in value.as_object().unwrap() {
        if is_inner(key, inner) {
            let below = inner.get("properties").unwrap_or(inner);
            leaves.extend(below.as_object().unwrap().keys().map(|leaf| format!("{key}.{leaf}")));
        } else {
            leaves.insert(key.clone());
        }
    }
    leaves
}

fn is_inner_field(key: &str, value: &Value) -> bool {
    value.is_object() && !key.ends_with("_schema")
}

fn is_inner_schema(key: &str, value: &Value) -> bool {
    value.get("properties").is_some() && !key.ends_with("_schema")
}

#[test]
fn reader_schema_and_readme_know_the_same_fields() {
    let (manifest, warnings) =
        Manifest::parse(complete().to_string().as_bytes(), "EC2Cloud").unwrap();
    assert_eq!(warnings, []);
    let of_reader = leaves(&serde_json::to_value(&manifest).unwrap(), is_inner_field);
    let of_schema = leaves(&schema()["properties"], is_inner_schema);
    assert_eq!(of_reader, of_schema);
    let readme = fs::read_to_string(manifests_folder().join("README.md")).unwrap();
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let of_readme: BTreeSet<String> = rows.map(|(field, _)| field.to_owned()).collect();
    assert_eq!(of_readme, of_schema);
}

#[test]
fn what_the_readme_calls_a_must_the_schema_requires() {
    let readme = fs::read_to_string(manifests_folder().join("README.md")).unwrap();
    let musts = readme.lines().filter(|line| line.contains("` | yes |"));
    let musts: BTreeSet<String> =
        musts.map(|line| line.split('`').nth(1).unwrap().to_owned()).collect();
    let schema = schema();
    let mut required = BTreeSet::new();
    for field in schema["required"].as_array().unwrap() {
        let field = field.as_str().unwrap();
        match schema["properties"][field]["required"].as_array() {
            Some(inner) => {
                required
                    .extend(inner.iter().map(|leaf| format!("{field}.{}", leaf.as_str().unwrap())));
            }
            None => {
                required.insert(field.to_owned());
            }
        }
    }
    assert_eq!(musts, required);
}

/// Does the reader have nothing to say?
fn reads_without_finding(document: &Value) -> bool {
    Manifest::parse(document.to_string().as_bytes(), "EC2Cloud")
        .is_ok_and(|(_, warnings)| warnings.is_empty())
}

/// The document with the value at a pointer replaced, or removed.
fn changed(document: &Value, pointer: &str, value: Option<&Value>) -> Value {
    let mut document = document.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match (document.pointer_mut(parent).unwrap(), value) {
        (Value::Object(fields), Some(value)) => {
            fields.insert(key.to_owned(), value.clone());
        }
        (Value::Object(fields), None) => {
            fields.remove(key);
        }
        (Value::Array(items), Some(value)) => items[key.parse::<usize>().unwrap()] = value.clone(),
        (Value::Array(items), None) => {
            items.remove(key.parse::<usize>().unwrap());
        }
        (other, _) => panic!("{other}"),
    }
    document
}

fn pointers(value: &Value, here: &str, found: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(key, inner)| (key.clone(), inner)).collect(),
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, inner)| (index.to_string(), inner)).collect()
        }
        _ => Vec::new(),
    };
    for (key, inner) in inner {
        let pointer = format!("{here}/{key}");
        pointers(inner, &pointer, found);
        found.push(pointer);
    }
}

/// Values that are right in one place and wrong in most others.
fn odd_values() -> Vec<Value> {
    let texts = [
        "",
        " ",
        "x",
        "X",
        "1",
        "1.0",
        "1.9",
        "2.0",
        "^1.0",
        "os",
        "OS",
        "Cloud",
        "cloud",
        "none",
        "os-root",
        "../x",
        "./x",
        "x/..",
        "/x",
        "/",
        "/dev/",
        "/dev/x",
        "/dev/../x",
        "..x",
        ".x",
        "x/.y/..z",
        "CAP_",
        "CAP_X",
        "cap_x",
        "http://",
        "https://x",
        "http://x y",
        "ftp://x",
        "a\u{7}b",
        "a\nb",
        "ä",
        "create_base_image",
        "cleanup",
        "a b",
        "-x",
        "EC2Cloud.so/",
    ];
    let mut values: Vec<Value> = texts.iter().map(|text| json!(text)).collect();
    values.extend([
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(-1),
        json!(1.5),
        json!(16),
        json!(1000),
        json!(1001),
        json!(604_801),
        json!([]),
        json!({}),
        json!([null]),
        json!(["x"]),
        json!(["x", "x"]),
        json!([["x"]]),
        json!([["x"], ["x"]]),
        json!([["x", null, null]]),
        json!([[null]]),
        json!({"x": 1}),
        json!({"type": "object", "required": []}),
        json!("x".repeat(65)),
        json!("x".repeat(129)),
        json!("x".repeat(1025)),
        json!("x".repeat(5000)),
        json!("f".repeat(64)),
        json!(vec!["x"; 257]),
    ]);
    values
}

#[test]
fn a_document_is_valid_exactly_if_it_reads_without_a_finding() {
    let validator = jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .build(&schema())
        .expect("the schema is a schema");
    let mut os = complete();
    os["type"] = json!("os");
    os["targets"] = json!([["Fedora", "41", "x86_64"], ["Fedora", null, null], [null, null, null]]);
    os["capabilities"] = json!(["create_base_image"]);
    let mut compared = 0;
    let mut differences = Vec::new();
    for base in [complete(), os] {
        assert!(validator.is_valid(&base) && reads_without_finding(&base));
        let mut places = Vec::new();
        pointers(&base, "", &mut places);
        // New keys, at the top and inside.
        places.extend(
            ["/x-mine", "/unknown", "/library/x-inside", "/library/signature"].map(String::from),
        );
        // What no schema can say: the id is the file's name.
        places.retain(|place| place != "/id");
        for place in &places {
            for value in odd_values().iter().map(Some).chain([None]) {
                let document = changed(&base, place, value);
                let (valid, silent) =
                    (validator.is_valid(&document), reads_without_finding(&document));
                if valid != silent {
                    let read = Manifest::parse(document.to_string().as_bytes(), "EC2Cloud");
                    let findings = read.map(|(_, warnings)| warnings);
                    differences.push(format!("{place} = {value:?}: {valid}, {findings:?}"));
                }
                compared += 1;
            }
        }
    }
    assert!(differences.is_empty(), "schema and reader differ:\n{}", differences.join("\n"));
    assert!(compared > 7000, "{compared} comparisons");
}

#[test]
fn the_manifests_of_this_repository_are_flawless() {
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    let mut seen = 0;
    for file in fs::read_dir(manifests_folder()).unwrap() {
        let path = file.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if path.extension().is_none_or(|ending| ending != "json") || stem == "manifest.schema" {
            continue;
        }
        let text = fs::read(&path).unwrap();
        let (manifest, warnings) = Manifest::parse(&text, stem).unwrap();
        assert_eq!(warnings, [], "{}", path.display());
        let document: Value = serde_json::from_slice(&text).unwrap();
        assert!(validator.is_valid(&document), "{}", path.display());
        imagefactory_registry::schemas::Schemas::compile(&manifest).unwrap();
        seen += 1;
    }
    assert!(seen >= 2, "MockOS and MockCloud");
}

#[test]
fn capabilities_are_the_operations_of_the_host() {
    let of_manifests: BTreeSet<&str> =
        OS_CAPABILITIES.into_iter().chain(CLOUD_CAPABILITIES).collect();
    let of_host: BTreeSet<&str> = Operation::ALL.into_iter().map(Operation::name).collect();
    assert_eq!(of_manifests, of_host);
}

#[test]
fn the_registry_speaks_the_abi_of_the_header() {
    use imagefactory_registry::versions::{ABI, ABI_TEXT};
    assert_eq!(
        (ABI.major << 16) | ABI.minor,
        u64::from(imagefactory_plugin_sdk::abi::IMGF_ABI_1_0)
    );
    assert_eq!(format!("{ABI_TEXT}.0"), ABI.to_string());
}
