//! JSON bodies: `{"base_image": {…}}`. serde_json refuses what is deeper than 128, so depth costs
//! nothing.

use serde_json::{Map, Value};

use super::Fields;
use crate::rest::problems::Problem;

/// The fields under the root key. Fields beside the root key, or an object without it, are taken as
/// they are when nothing else says what is meant (DELETE's flat form).
pub(super) fn parse(body: &[u8], root: &str) -> Result<Fields, Problem> {
    let document: Value = serde_json::from_slice(body)
        .map_err(|error| Problem::bad_request(format!("the body is not valid JSON: {error}")))?;
    let Value::Object(mut document) = document else {
        return Err(Problem::bad_request(format!("the body must be an object: {}", form(root))));
    };
    match document.remove(root) {
        Some(Value::Object(mut fields)) => {
            // What stands beside the root key is as unknown as what stands in it.
            for (name, value) in document {
                fields.entry(name).or_insert(value);
            }
            Ok(Fields::new(fields))
        }
        Some(_) => Err(Problem::bad_request(format!("'{root}' must be an object: {}", form(root)))),
        None => flat(document, root),
    }
}

fn flat(document: Map<String, Value>, root: &str) -> Result<Fields, Problem> {
    const ROOTS: [&str; 4] = ["base_image", "target_image", "provider_image", "template"];
    let other = ROOTS.iter().find(|other| document.get(**other).is_some_and(Value::is_object));
    match other {
        Some(other) => Err(Problem::bad_request(format!(
            "the body is about a '{other}', and this address is about: {}",
            form(root)
        ))),
        None => Ok(Fields::new(document)),
    }
}

fn form(root: &str) -> String {
    format!("{{\"{root}\": {{…}}}}")
}
