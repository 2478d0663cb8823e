//! Which results an operation may set, and of which JSON type (host.h, `set_result`).

use imagefactory_model::stage::Operation;
use serde_json::Value;

/// Refuses a key that the operation does not have and a value of another type.
pub(super) fn check(operation: Operation, key: &str, value: &Value) -> Result<(), String> {
    let keys = operation.result_keys();
    if !keys.contains(&key) {
        return Err(format!("{operation} has no result {key:?}; it has {}", keys.join(", ")));
    }
    let (wanted, fits) = match key {
        "properties" | "effective_parameters" => ("an object", value.is_object()),
        "verified" => (r#"{"ok": bool, "how": string}"#, is_verification(value)),
        _ => ("a string", value.is_string()),
    };
    if fits { Ok(()) } else { Err(format!("the result {key} must be {wanted}")) }
}

fn is_verification(value: &Value) -> bool {
    let Some(object) = value.as_object() else { return false };
    object.len() == 2
        && object.get("ok").is_some_and(Value::is_boolean)
        && object.get("how").is_some_and(Value::is_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_result_has_its_type_and_its_operations() {
        let check = |operation, key, value: Value| check(operation, key, &value).is_ok();
        assert!(check(Operation::CreateBaseImage, "format", json!("raw")));
        assert!(!check(Operation::CreateBaseImage, "format", json!(7)));
        assert!(!check(Operation::PushImageToProvider, "format", json!("raw")));
        assert!(check(Operation::Cleanup, "properties", json!({})));
        assert!(!check(Operation::Cleanup, "properties", json!([])));
        assert!(check(Operation::VerifyImage, "verified", json!({"ok": true, "how": "booted"})));
        assert!(!check(Operation::VerifyImage, "verified", json!({"ok": true})));
        assert!(!check(Operation::CreateBaseImage, "uuid", json!("x")));
    }
}
