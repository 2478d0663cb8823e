//! Values as clients send them: JSON's own types, or the texts that forms and XML have for all.

use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer, Error};
use serde_json::Value;

/// `true`, `"true"`, `"yes"`, `"1"`, as the original read them.
pub(crate) fn boolean<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    as_boolean(&Value::deserialize(from)?).map_err(D::Error::custom)
}

/// The same, or nothing.
pub(crate) fn some_boolean<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    some(Value::deserialize(from)?, as_boolean).map_err(D::Error::custom)
}

/// A whole number, as such or as text, or nothing.
pub(crate) fn some_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    some(Value::deserialize(from)?, as_number).map_err(D::Error::custom)
}

/// A list of texts, one with commas between, or one that is JSON.
pub(crate) fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    as_list(Value::deserialize(from)?).map_err(D::Error::custom)
}

/// An object of texts, or its JSON.
pub(crate) fn text_map<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    as_text_map(Value::deserialize(from)?).map_err(D::Error::custom)
}

fn some<T>(value: Value, read: impl Fn(&Value) -> Result<T, String>) -> Result<Option<T>, String> {
    match &value {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        value => read(value).map(Some),
    }
}

fn as_boolean(value: &Value) -> Result<bool, String> {
    let word = match value {
        Value::Bool(is) => return Ok(*is),
        Value::String(word) => word.to_ascii_lowercase(),
        other => other.to_string(),
    };
    match word.as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("{value} is not true or false")),
    }
}

fn as_number(value: &Value) -> Result<u64, String> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_u64(),
    };
    number.ok_or_else(|| format!("{value} is not a whole number"))
}

fn as_list(value: Value) -> Result<Vec<String>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(entries) => entries.into_iter().map(as_text).collect(),
        Value::String(text) if text.trim_start().starts_with('[') => {
            as_list(serde_json::from_str(&text).map_err(|error| error.to_string())?)
        }
        Value::String(text) => {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            Ok(words.map(str::to_owned).collect())
        }
        other => Err(format!("{other} is not a list")),
    }
}

fn as_text_map(value: Value) -> Result<BTreeMap<String, String>, String> {
    match value {
        Value::Null => Ok(BTreeMap::new()),
        Value::Object(members) => {
            members.into_iter().map(|(key, value)| Ok((key, as_text(value)?))).collect()
        }
        Value::String(text) if text.is_empty() => Ok(BTreeMap::new()),
        Value::String(text) => {
            let members: Value = serde_json::from_str(&text)
                .map_err(|_| format!("{text:?} is not a JSON object"))?;
            match members {
                Value::Object(_) => as_text_map(members),
                _ => Err(format!("{text:?} is not a JSON object")),
            }
        }
        other => Err(format!("{other} is not an object")),
    }
}

fn as_text(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        other => Err(format!("{other} is not a text")),
    }
}
