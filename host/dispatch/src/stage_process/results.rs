//! What a plugin may set as results, and of which type (the table in plugin-abi.md 2.9).
//!
//! Pure checks on values; the file that a result speaks of is checked in `output.rs`.

use std::collections::BTreeMap;

use imagefactory_model::stage::Operation;
use serde_json::Value;

/// Longest name of a format (`qcow2`) or identifier at a provider. Providers' own identifiers are
/// below 500 bytes (Azure's resource ids are the longest).
const NAME_BYTES_MAX: usize = 1024;

/// Checks one `set_result`; the error is a sentence without the plugin's name.
pub(super) fn check_result(operation: Operation, key: &str, value: &Value) -> Result<(), String> {
    if !operation.result_keys().contains(&key) {
        let key = super::stage_log::visible(super::stage_log::cut(key, 100));
        return Err(format!(
            "it set the result {key:?}, which {operation} does not have; it has {}",
            operation.result_keys().join(", ")
        ));
    }
    let fits = match key {
        "format" => value.as_str().is_some_and(is_format_name),
        "identifier_on_provider" | "provider_account_identifier" | "input_digest" => {
            value.as_str().is_some_and(|text| !text.is_empty() && text.len() <= NAME_BYTES_MAX)
        }
        "icicle" => value.is_string(),
        "verified" => is_verdict(value),
        // properties, effective_parameters
        _ => value.is_object(),
    };
    if fits { Ok(()) } else { Err(format!("its result {key:?} is not {}", expected(key))) }
}

/// The results that success needs and that are not there.
pub(super) fn missing_results(
    operation: Operation,
    results: &BTreeMap<String, Value>,
) -> Vec<&'static str> {
    let required = operation.required_results().iter().copied();
    required.filter(|key| !results.contains_key(*key)).collect()
}

fn expected(key: &str) -> &'static str {
    match key {
        "format" => "a format's name in lower case, such as raw, qcow2 or vmdk",
        "icicle" => "a string (XML)",
        "verified" => "an object {\"ok\": bool, \"how\": string}",
        "properties" | "effective_parameters" => "an object",
        _ => "a string of 1 to 1024 bytes",
    }
}

fn is_format_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= 32
        && name.bytes().next().is_some_and(letter)
        && name.bytes().all(|byte| letter(byte) || b".-_+".contains(&byte))
}

fn is_verdict(value: &Value) -> bool {
    value.as_object().is_some_and(|members| {
        members.len() == 2
            && members.get("ok").is_some_and(Value::is_boolean)
            && members.get("how").is_some_and(Value::is_string)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(operation: Operation, key: &str, value: Value, good: bool) {
        let found = check_result(operation, key, &value);
        assert_eq!(found.is_ok(), good, "{operation} {key} {value}: {found:?}");
    }

    #[test]
    fn keys_are_closed_for_each_operation_and_values_have_their_type() {
        use Operation::*;
        check(CreateBaseImage, "format", json!("qcow2"), true);
        check(CreateBaseImage, "format", json!("QCOW2; rm"), false);
        check(CreateBaseImage, "format", json!(7), false);
        check(CreateBaseImage, "identifier_on_provider", json!("ami-1"), false);
        check(PushImageToProvider, "identifier_on_provider", json!("ami-1"), true);
        check(PushImageToProvider, "identifier_on_provider", json!(""), false);
        check(PushImageToProvider, "format", json!("raw"), false);
        check(VerifyImage, "verified", json!({"ok": true, "how": "booted"}), true);
        check(VerifyImage, "verified", json!({"ok": "yes", "how": "booted"}), false);
        check(VerifyImage, "verified", json!({"ok": true, "how": "b", "more": 1}), false);
        check(DeleteFromProvider, "properties", json!({}), true);
        check(DeleteFromProvider, "properties", json!([]), false);
    }

    #[test]
    fn success_needs_what_the_table_requires() {
        let none = BTreeMap::new();
        let push = Operation::PushImageToProvider;
        assert_eq!(missing_results(push, &none), ["identifier_on_provider"]);
        let set = BTreeMap::from([("identifier_on_provider".to_owned(), json!("x"))]);
        assert!(missing_results(push, &set).is_empty());
        assert!(missing_results(Operation::Cleanup, &none).is_empty());
    }
}
