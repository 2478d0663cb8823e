//! The fields of one request, taken one by one; what is left at the end is unknown.

use imagefactory_plugin_sdk::payload::nearest::nearest;
use serde_json::{Map, Value};

use super::Upload;
use crate::rest::problems::Problem;

/// The fields of one request.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    values: Map<String, Value>,
    asked: Vec<&'static str>,
    upload: Option<Upload>,
    form_sha256: Option<String>,
}

impl Fields {
    /// Of a body that was read.
    pub(crate) fn new(values: Map<String, Value>) -> Fields {
        Fields { values, ..Fields::default() }
    }

    /// With a file beside them.
    pub(crate) fn with_upload(self, upload: Option<Upload>) -> Fields {
        Fields { upload, ..self }
    }

    /// With the sha256 of names, values and file of a multipart form.
    pub(crate) fn with_form_sha256(self, sha256: String) -> Fields {
        Fields { form_sha256: Some(sha256), ..self }
    }

    /// What a multipart form says, whatever its boundary and the order of its parts; `None` for
    /// other bodies.
    pub(crate) fn form_sha256(&self) -> Option<&str> {
        self.form_sha256.as_deref()
    }

    /// The file, once.
    pub(crate) fn take_upload(&mut self) -> Option<Upload> {
        self.upload.take()
    }

    /// A field of any type; null is the same as absent.
    pub(crate) fn value(&mut self, name: &'static str) -> Option<Value> {
        self.asked.push(name);
        self.values.remove(name).filter(|value| !value.is_null())
    }

    /// A field that is text; blank is the same as absent.
    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(name, "a text", &other)),
        }
    }

    /// A field that is an object, or the text of one (forms and XML have nothing but text).
    pub(crate) fn object(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Map<String, Value>>, Problem> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
            Some(Value::String(text)) => match serde_json::from_str(&text) {
                Ok(Value::Object(object)) => Ok(Some(object)),
                Ok(other) => Err(wrong_type(name, "an object", &other)),
                Err(error) => Err(Problem::bad_request(format!(
                    "'{name}' must be an object; its text is not JSON: {error}"
                ))),
            },
            Some(other) => Err(wrong_type(name, "an object", &other)),
        }
    }

    /// What nobody asked for, one sentence each.
    pub(crate) fn unknown(&self) -> Vec<String> {
        self.values
            .keys()
            .map(|name| {
                let shown: String = name.chars().take(60).collect();
                match nearest(name, &self.asked) {
                    Some(near) => {
                        format!("unknown field '{shown}' ignored; did you mean '{near}'?")
                    }
                    None => format!("unknown field '{shown}' ignored"),
                }
            })
            .collect()
    }
}

fn wrong_type(name: &str, wanted: &str, found: &Value) -> Problem {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    Problem::bad_request(format!("'{name}' must be {wanted}, and it is {found}"))
}
