//! Form bodies: flat fields. Blanks inside credentials are mended ([`super::pem_blanks`]).

use serde_json::{Map, Value};

use super::{Fields, pem_blanks};
use crate::rest::problems::Problem;

/// No request has more than ten.
const FIELDS_MAX: usize = 100;

/// The fields. A name that came twice is refused: which one was meant nobody can know.
pub(super) fn parse(body: &[u8]) -> Result<Fields, Problem> {
    check_encoding(body)?;
    let mut fields = Map::new();
    for (name, value) in form_urlencoded::parse(body) {
        insert(&mut fields, name.trim(), value.into_owned())?;
    }
    Ok(Fields::new(fields))
}

/// Adds a field that is text.
pub(super) fn insert(
    fields: &mut Map<String, Value>,
    name: &str,
    value: String,
) -> Result<(), Problem> {
    if fields.len() >= FIELDS_MAX {
        return Err(Problem::bad_request(format!("the form has more than {FIELDS_MAX} fields")));
    }
    let value = if name == "credentials" { pem_blanks::mended(&value) } else { value };
    match fields.insert(name.to_owned(), value.into()) {
        None => Ok(()),
        Some(_) => {
            let shown: String = name.chars().take(60).collect();
            Err(Problem::bad_request(format!("the form has the field '{shown}' twice")))
        }
    }
}

/// Percent signs must be followed by two hexadecimal digits, and the result must be UTF-8.
fn check_encoding(body: &[u8]) -> Result<(), Problem> {
    let refused = |what: &str, at: usize| {
        Problem::bad_request(format!("the form is not valid: {what} at byte {at}"))
    };
    for (at, byte) in body.iter().enumerate() {
        let is_hex = |offset| body.get(at + offset).is_some_and(u8::is_ascii_hexdigit);
        if *byte == b'%' && !(is_hex(1) && is_hex(2)) {
            return Err(refused("a '%' without two hexadecimal digits", at));
        }
    }
    let decoded: Vec<u8> = percent_encoding::percent_decode(body).collect();
    match std::str::from_utf8(&decoded) {
        Ok(_) => Ok(()),
        Err(error) => Err(refused("what is not UTF-8 after decoding,", error.valid_up_to())),
    }
}
