//! Rules 001 to 005, 014 and 015: the manifest.
//!
//! The SDK's manifest reader finds most of it and says where; here each finding is given to the
//! rule of its place, and what the reader takes with a shrug (free licences, tools) is looked at.

use std::collections::BTreeSet;

use imagefactory_plugin_sdk::payload::manifest::JsonFinding;
use serde_json::Value;

use super::seen::Seen;
use super::subject::Subject;

/// Which rule a place of the manifest belongs to.
fn rule_of(pointer: &str) -> u16 {
    let first = pointer.split('/').nth(1).unwrap_or_default();
    match (first, pointer) {
        ("id", _) => 2,
        ("version" | "abi", _) => 3,
        ("license", _) => 4,
        ("targets", _) => 5,
        (_, "/library/path") => 6,
        (_, "/library/sha256") => 7,
        ("parameters_schema" | "provider_schema" | "credentials_schema", _) => 14,
        ("requires", _) => 15,
        _ => 1,
    }
}

/// Problems and warnings of the reader that belong to a rule.
fn take_over(subject: &Subject, rule: u16, seen: &mut Seen) {
    let mine = |finding: &&JsonFinding| rule_of(&finding.pointer) == rule;
    subject.problems.iter().filter(mine).for_each(|finding| seen.failed(finding.to_string()));
    subject.warnings.iter().filter(mine).for_each(|finding| seen.advise(finding.to_string()));
}

/// 001.
pub(crate) fn is_valid(subject: &Subject, seen: &mut Seen) {
    take_over(subject, 1, seen);
}

/// 002.
pub(crate) fn has_its_id(subject: &Subject, seen: &mut Seen) {
    take_over(subject, 2, seen);
}

/// 003.
pub(crate) fn has_versions(subject: &Subject, seen: &mut Seen) {
    take_over(subject, 3, seen);
    if subject.document.is_none() || !seen.findings.iter().all(|finding| finding.advice) {
        return;
    }
    let version = subject.text("/version");
    if let Err(error) = semver::Version::parse(version) {
        seen.findings.clear(); // the reader's advice says the same more gently
        seen.failed(format!("version {version:?} is not semver: {error}; write MAJOR.MINOR.PATCH"));
    }
    let required = subject.text("/abi/req");
    if let Err(error) = semver::VersionReq::parse(required) {
        seen.failed(format!("abi.req {required:?} is no semver requirement: {error}; write ^1.0"));
    }
}

/// 004: an advice, because the original's manifests say "Apache License v2.0".
pub(crate) fn has_a_licence(subject: &Subject, seen: &mut Seen) {
    take_over(subject, 4, seen);
    let licence = subject.text("/license");
    if subject.document.is_none() || !seen.findings.is_empty() {
        return;
    }
    if let Err(error) = spdx::Expression::parse(licence) {
        seen.advise(format!("license {licence:?} is no SPDX expression: {}", error.reason));
    }
}

/// 005.
pub(crate) fn has_targets(subject: &Subject, seen: &mut Seen) {
    take_over(subject, 5, seen);
    // A target that nobody can ever ask for is shown by the daemon with a warning; who writes a
    // manifest today has made a mistake.
    seen.findings.iter_mut().for_each(|finding| finding.advice = false);
    if !seen.findings.is_empty() {
        return;
    }
    let rows = subject.document.as_ref().and_then(|manifest| manifest["targets"].as_array());
    let mut known = BTreeSet::new();
    for row in rows.into_iter().flatten() {
        if !known.insert(row.to_string()) {
            seen.failed(format!("the target {row} is there twice"));
        }
        let fields = row.as_array().map(Vec::as_slice).unwrap_or_default();
        let given = fields.iter().take_while(|field| !field.is_null()).count();
        if fields[given..].iter().any(|field| !field.is_null()) {
            seen.failed(format!("the target {row} can never match: null stands only at the end"));
        }
    }
}

/// 014.
pub(crate) fn has_schemas(subject: &Subject, seen: &mut Seen) {
    take_over(subject, 14, seen);
    if !seen.findings.is_empty() {
        return;
    }
    let Some(manifest) = &subject.document else { return };
    for key in ["parameters_schema", "provider_schema", "credentials_schema"] {
        if let Some(schema) = manifest.get(key).filter(|schema| !schema.is_null()) {
            check_schema(key, schema, seen);
        }
    }
}

/// The schema itself, then every default and example in it against the schema beside it.
fn check_schema(place: &str, schema: &Value, seen: &mut Seen) {
    let validator = match jsonschema::validator_for(schema) {
        Ok(validator) => validator,
        Err(error) => {
            seen.failed(format!("{place} is no JSON Schema: {error}"));
            return;
        }
    };
    for sample in samples(schema) {
        if let Err(error) = validator.validate(sample) {
            seen.failed(format!("{place}: the sample {sample} does not meet it: {error}"));
        }
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        if samples(property).next().is_some() || property.get("properties").is_some() {
            check_schema(&format!("{place}/properties/{name}"), property, seen);
        }
    }
}

/// `default` and `examples` of a schema.
fn samples(schema: &Value) -> impl Iterator<Item = &Value> {
    let examples = schema.get("examples").and_then(Value::as_array);
    schema.get("default").into_iter().chain(examples.into_iter().flatten())
}

/// 015: what is missing here is no fault of the plugin, but operations cannot be tried.
pub(crate) fn has_its_tools(subject: &Subject, seen: &mut Seen) {
    take_over(subject, 15, seen);
    let tools =
        subject.document.as_ref().and_then(|manifest| manifest["requires"]["tools"].as_array());
    let path = std::env::var_os("PATH").unwrap_or_default();
    for tool in tools.into_iter().flatten().filter_map(Value::as_str) {
        if tool.is_empty() || tool.contains(|c: char| c == '/' || c.is_whitespace()) {
            seen.failed(format!(
                "requires.tools: {tool:?} is no program name; name it without folder and arguments"
            ));
        } else if !std::env::split_paths(&path).any(|folder| folder.join(tool).is_file()) {
            seen.skip(format!("{tool} is not installed here"));
        }
    }
}
