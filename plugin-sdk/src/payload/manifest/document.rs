//! Reads the text of a manifest into a JSON value, within bounds.
//!
//! Stricter than `serde_json::from_slice`: a key that stands twice is refused (else two readers
//! could see two manifests), nesting is bounded, and so is the size. Called by `parse.rs` and
//! `drop_in.rs`; knows no fields.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::finding::ManifestError;
use super::{MANIFEST_BYTES_MAX, MANIFEST_DEPTH_MAX};

/// The whole text as one JSON value.
pub(super) fn read(text: &[u8]) -> Result<Value, ManifestError> {
    if text.len() > MANIFEST_BYTES_MAX {
        return Err(ManifestError::TooLarge { bytes: text.len() });
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let unreadable = |error: serde_json::Error| ManifestError::Unreadable {
        message: if error.is_eof() {
            format!("{}: the file is cut off", error)
        } else {
            error.to_string()
        },
    };
    let value = Nested { depth: 0 }.deserialize(&mut deserializer).map_err(unreadable)?;
    deserializer.end().map_err(unreadable)?;
    Ok(value)
}

/// A value at a depth; each level of nesting is one more.
#[derive(Clone, Copy)]
struct Nested {
    depth: usize,
}

impl Nested {
    fn inside<E: Error>(self) -> Result<Nested, E> {
        if self.depth == MANIFEST_DEPTH_MAX {
            return Err(E::custom(format!("nested deeper than {} levels", MANIFEST_DEPTH_MAX)));
        }
        Ok(Nested { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Nested {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom(format!("{} is no JSON number", value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inside)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {:?} stands twice", key)));
            }
            let value = entries.next_value_seed(inside)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_stands_twice_is_refused_at_any_depth() {
        let error = read(br#"{"library":{"path":"a.so","path":"b.so"}}"#).unwrap_err();
        assert!(error.to_string().contains(r#"the key "path" stands twice"#), "{}", error);
    }

    #[test]
    fn the_deepest_allowed_nesting_is_read_and_one_more_is_not() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(read(nested(MANIFEST_DEPTH_MAX).as_bytes()).is_ok());
        let error = read(nested(MANIFEST_DEPTH_MAX + 1).as_bytes()).unwrap_err();
        assert!(error.to_string().contains("nested deeper than 32"), "{}", error);
    }

    #[test]
    fn a_cut_off_text_is_called_cut_off() {
        let error = read(br#"{"type":"os","#).unwrap_err();
        assert!(error.to_string().contains("cut off"), "{}", error);
    }

    #[test]
    fn one_byte_too_many_is_refused_before_it_is_parsed() {
        let text = vec![b' '; MANIFEST_BYTES_MAX + 1];
        assert_eq!(read(&text), Err(ManifestError::TooLarge { bytes: MANIFEST_BYTES_MAX + 1 }));
    }

    #[test]
    fn text_after_the_document_is_refused() {
        assert!(read(b"{} {}").is_err());
    }
}
