//! What arguments name: templates, parameters, providers, credentials. Reads files within bounds
//! and turns them into what an order is made of. Knows neither factory nor daemon.

use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;

use imagefactory_dispatch::requests::CredentialsGiven;
use serde_json::{Map, Value};

use crate::cli::ParameterFlags;
use crate::error::CommandError;

/// Largest text that an argument may name: what the REST interface takes in one body by default.
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// Parameters that the factory itself reads, with the types that it reads.
const OWN_PARAMETERS: [(&str, &str); 4] = [
    ("snapshot", "boolean"),
    ("fresh", "boolean"),
    ("boot_test", "boolean"),
    ("callbacks", "array"),
];

/// A text file, or standard input for `-`. `what` completes "cannot read …".
pub(crate) fn text(path: &Path, what: &'static str) -> Result<String, CommandError> {
    text_or(path, what, "")
}

fn text_or(path: &Path, what: &'static str, hint: &'static str) -> Result<String, CommandError> {
    let failed = |cause| {
        let path = path.to_owned();
        CommandError::File { doing: "read", what, path, hint, cause }
    };
    let mut text = String::new();
    let bytes = if path == Path::new("-") {
        std::io::stdin().lock().take(TEXT_BYTES_MAX + 1).read_to_string(&mut text)
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text)
    };
    if bytes.map_err(failed)? as u64 > TEXT_BYTES_MAX {
        let why = format!("it has more than {TEXT_BYTES_MAX} bytes");
        return Err(failed(std::io::Error::new(std::io::ErrorKind::FileTooLarge, why)));
    }
    Ok(text)
}

/// `@name` is the definition itself; everything else names a file with it. A JSON object in there
/// is the object, other text stays text.
pub(crate) fn provider(argument: &str) -> Result<Value, CommandError> {
    const HINT: &str = " (a provider that is no file is written with '@' before it)";
    let text = match argument.strip_prefix('@') {
        Some(literal) => literal.to_owned(),
        None => text_or(Path::new(argument), "the provider", HINT)?.trim_end().to_owned(),
    };
    Ok(match serde_json::from_str(&text) {
        Ok(object @ Value::Object(_)) => object,
        _ => Value::String(text),
    })
}

/// `@name` names credentials of the configuration; everything else names a file with them.
pub(crate) fn credentials(argument: &str) -> Result<CredentialsGiven, CommandError> {
    const HINT: &str = " (configured credentials are written with '@' before their name)";
    match argument.strip_prefix('@') {
        Some(_) => Ok(CredentialsGiven::parse(Some(argument))),
        None => {
            let text = text_or(Path::new(argument), "the credentials", HINT)?;
            // A file that begins with '@' holds credentials all the same.
            Ok(CredentialsGiven::Inline(text.trim_end().to_owned()))
        }
    }
}

/// Parameters as they were given: typed ones of the JSON file, and texts of the flags.
#[derive(Debug, Default)]
pub(crate) struct GivenParameters {
    typed: Map<String, Value>,
    texts: Vec<(String, String)>,
}

impl GivenParameters {
    /// Reads the files that the flags name.
    pub(crate) fn read(flags: &ParameterFlags) -> Result<GivenParameters, CommandError> {
        let mut given = GivenParameters::default();
        if let Some(path) = &flags.parameters {
            given.typed = parameters_file(path)?;
        }
        for pair in flags.file_parameter.chunks_exact(2) {
            let name = name_of(&pair[0])?;
            given.typed.insert(name, text(Path::new(&pair[1]), "the parameter's file")?.into());
        }
        for pair in flags.parameter.chunks_exact(2) {
            given.texts.push((name_of(OsStr::new(&pair[0]))?, pair[1].clone()));
        }
        Ok(given)
    }

    /// Sets one that was not given otherwise.
    pub(crate) fn default_to(&mut self, name: &str, value: Value) {
        let is_given =
            self.typed.contains_key(name) || self.texts.iter().any(|(other, _)| other == name);
        if !is_given {
            self.typed.insert(name.to_owned(), value);
        }
    }

    /// Are there texts whose type only a schema can tell?
    pub(crate) fn need_schemas(&self) -> bool {
        self.texts.iter().any(|(_, text)| serde_json::from_str::<Value>(text).is_ok())
    }

    /// The parameters of the order. On the command line everything is text: it becomes what the
    /// plugins' schemas declare, and stays text where nobody, or somebody, wants text.
    pub(crate) fn typed(self, schemas: &[Value]) -> Option<Map<String, Value>> {
        let mut parameters = self.typed;
        for (name, text) in self.texts {
            let value = typed(&name, text, schemas);
            parameters.insert(name, value);
        }
        Some(parameters).filter(|parameters| !parameters.is_empty())
    }
}

fn parameters_file(path: &Path) -> Result<Map<String, Value>, CommandError> {
    let text = text(path, "the parameters")?;
    let invalid = |why: String| {
        CommandError::Usage(format!(
            "the parameters in {} are no JSON object: {why}",
            path.display()
        ))
    };
    match serde_json::from_str(&text) {
        Ok(Value::Object(parameters)) => Ok(parameters),
        Ok(_) => Err(invalid("the document is of another type".to_owned())),
        Err(error) => Err(invalid(error.to_string())),
    }
}

fn name_of(argument: &OsStr) -> Result<String, CommandError> {
    let name = argument.to_str().filter(|name| !name.is_empty());
    name.map(str::to_owned)
        .ok_or_else(|| CommandError::Usage(format!("{argument:?} is no name of a parameter")))
}

fn typed(name: &str, text: String, schemas: &[Value]) -> Value {
    let declared = schemas.iter().map(|schema| &schema["properties"][name]["type"]);
    let own = OWN_PARAMETERS.iter().filter(|(own, _)| *own == name);
    let types: Vec<String> = declared
        .flat_map(|declared| match declared {
            Value::String(one) => vec![one.clone()],
            Value::Array(some) => {
                some.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect()
            }
            _ => Vec::new(),
        })
        .chain(own.map(|(_, own)| (*own).to_owned()))
        .collect();
    if types.iter().any(|wanted| wanted == "string") {
        return Value::String(text);
    }
    // The original took any spelling of true and false.
    let is_boolean = types.iter().any(|wanted| wanted == "boolean");
    if is_boolean && let Ok(value) = text.to_ascii_lowercase().parse::<bool>() {
        return Value::Bool(value);
    }
    match serde_json::from_str::<Value>(&text) {
        Ok(value) if types.iter().any(|wanted| is_of(&value, wanted)) => value,
        _ => Value::String(text),
    }
}

fn is_of(value: &Value, wanted: &str) -> bool {
    match wanted {
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check_typed(name: &str, text: &str, wanted: Value) {
        let schemas = [
            json!({"properties": {"gb": {"type": "integer"}, "product": {"type": "string"}}}),
            json!({"properties": {"list": {"type": ["array", "null"]}, "yes": {"type": "boolean"}}}),
            Value::Null,
        ];
        assert_eq!(typed(name, text.to_owned(), &schemas), wanted, "{name} {text}");
    }

    #[test]
    fn a_text_becomes_what_its_schema_declares() {
        check_typed("gb", "12", json!(12));
        check_typed("gb", "many", json!("many"));
        check_typed("product", "12", json!("12"));
        check_typed("list", "[1]", json!([1]));
        check_typed("yes", "True", json!(true));
        check_typed("snapshot", "true", json!(true));
        check_typed("callbacks", r#"["http://h/"]"#, json!(["http://h/"]));
        check_typed("nobody_declares_it", "12", json!("12"));
    }

    #[test]
    fn a_provider_is_a_literal_or_a_file() {
        assert_eq!(provider("@ec2-us-east-1").unwrap(), json!("ec2-us-east-1"));
        assert_eq!(provider(r#"@{"a": 1}"#).unwrap(), json!({"a": 1}));
        let missing = provider("ec2-us-east-1").unwrap_err().to_string();
        assert!(missing.contains("'@'"), "{missing}");
    }
}
