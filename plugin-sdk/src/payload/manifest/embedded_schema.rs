//! What a JSON Schema inside a manifest may look like.
//!
//! One `parameters` object feeds every stage of a cascade, so a plugin sees names that belong to
//! others: at its top level a parameters schema may neither demand nor forbid names (REST contract,
//! "One image"). No schema may refer to another document, for nothing in a manifest makes the host
//! fetch or read anything. Whether the keywords themselves are well formed is for the host's
//! validator, which compiles them.

use serde_json::{Map, Value};

use super::finding::{child, Report};
use super::object_reader::{shown, sort_of};

/// The dialect, and the only one.
pub(super) const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// What may stand at the top level of a parameters schema. Everything else (`required`,
/// `additionalProperties`, `propertyNames`, `allOf`, `$ref`, …) can demand or forbid names.
const PARAMETERS_TOP_LEVEL: [&str; 10] = [
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "title",
    "description",
    "type",
    "properties",
    "examples",
    "default",
];

/// Checks a schema for parameters.
pub(super) fn check_parameters(schema: &Value, pointer: &str, report: &mut Report) {
    check(schema, pointer, report);
    let keywords = match schema {
        Value::Object(keywords) => keywords,
        _ => return,
    };
    for keyword in keywords.keys() {
        if !PARAMETERS_TOP_LEVEL.contains(&keyword.as_str()) && !keyword.starts_with("x-") {
            report.problem(
                child(pointer, keyword),
                "may not stand at the top level: one parameters object feeds all plugins of a \
                 build, so no plugin may demand or forbid names there; describe each parameter \
                 under \"properties\"",
            );
        }
    }
    match keywords.get("type").and_then(Value::as_str) {
        Some("object") => {}
        _ => report.problem(child(pointer, "type"), "must be \"object\""),
    }
}

/// Checks what holds for every schema: an object, of our dialect, referring to nothing outside.
pub(super) fn check(schema: &Value, pointer: &str, report: &mut Report) {
    let keywords = match schema {
        Value::Object(keywords) => keywords,
        other => {
            report
                .problem(pointer, format!("must be a JSON Schema object, not {}", sort_of(other)));
            return;
        }
    };
    if let Some(dialect) = keywords.get("$schema") {
        // A trailing '#' is an old habit and means the same.
        if dialect.as_str().map(|text| text.trim_end_matches('#')) != Some(DIALECT) {
            report.problem(child(pointer, "$schema"), format!("must be {:?}", DIALECT));
        }
    }
    check_references(keywords, pointer, report);
}

/// Recursion is bounded by the depth that the document reader allows.
fn check_references(keywords: &Map<String, Value>, pointer: &str, report: &mut Report) {
    for (keyword, value) in keywords {
        let here = child(pointer, keyword);
        match (keyword.as_str(), value) {
            // Data, not schemas: a "$ref" in there is a value.
            ("const", _) | ("enum", _) | ("default", _) | ("examples", _) => {}
            ("$ref", Value::String(target)) | ("$dynamicRef", Value::String(target))
                if !target.starts_with('#') =>
            {
                let message = format!(
                    "refers to {}, outside of this schema; nothing is fetched: copy it to $defs",
                    shown(target)
                );
                report.problem(here, message);
            }
            (_, Value::Object(inner)) => check_references(inner, &here, report),
            (_, Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    if let Value::Object(inner) = item {
                        check_references(inner, &format!("{}/{}", here, index), report);
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems(check: fn(&Value, &str, &mut Report), schema: Value) -> Vec<String> {
        let mut report = Report::default();
        check(&schema, "/s", &mut report);
        match report.finish() {
            Ok(_) => Vec::new(),
            Err(super::super::ManifestError::Invalid { problems }) => {
                problems.into_iter().map(|problem| problem.pointer).collect()
            }
            Err(other) => panic!("{}", other),
        }
    }

    #[test]
    fn a_parameters_schema_may_neither_demand_nor_forbid_names() {
        for keyword in ["required", "additionalProperties", "propertyNames", "allOf", "$ref", "not"]
        {
            let mut schema = json!({"type": "object", "properties": {}});
            schema[keyword] = json!(false);
            assert_eq!(problems(check_parameters, schema), [format!("/s/{}", keyword)]);
        }
    }

    #[test]
    fn inside_a_parameter_everything_is_allowed() {
        let schema = json!({"type": "object", "properties": {
            "disk": {"type": "object", "required": ["gb"], "additionalProperties": false}}});
        assert_eq!(problems(check_parameters, schema), Vec::<String>::new());
    }

    #[test]
    fn references_to_other_documents_are_refused_wherever_they_stand() {
        let schema = json!({"properties": {"a": {"anyOf": [{"$ref": "file:///etc/passwd"}]},
            "b": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"const": {"$ref": "http://x"}},
            "c": {"enum": [{"$ref": "http://x"}]}}});
        assert_eq!(problems(check, schema), ["/s/properties/a/anyOf/0/$ref"]);
    }

    #[test]
    fn another_dialect_is_refused() {
        let schema = json!({"$schema": "http://json-schema.org/draft-07/schema#"});
        assert_eq!(problems(check, schema), ["/s/$schema"]);
        assert_eq!(problems(check, json!({ "$schema": DIALECT })), Vec::<String>::new());
    }
}
