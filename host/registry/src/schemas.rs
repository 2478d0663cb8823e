//! Checks parameters, provider definitions and credentials against the schemas of a manifest.
//!
//! The schemas are compiled once, when the manifest is judged, so a broken one shows in the listing
//! and not in the middle of an order. Nothing is ever fetched: references to other documents do not
//! compile. Findings never quote a value, for any of them may be a secret. Called for each order.

use imagefactory_plugin_sdk::payload::manifest::{JsonFinding, Manifest};
use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Map, Value};

/// Findings told of one document; more help nobody.
const FINDINGS_MAX: usize = 50;

/// Memory of one compiled pattern: a hostile `(a{999}){999}` is refused instead of compiled.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// The compiled schemas of one manifest.
#[derive(Debug, Default)]
pub struct Schemas {
    parameters: Option<Validator>,
    provider: Option<Validator>,
    credentials: Option<Validator>,
    /// Declared parameters by name, with their defaults.
    declared: Vec<(String, Option<Value>)>,
}

impl Schemas {
    /// Compiles them; each finding points into the manifest.
    pub fn compile(manifest: &Manifest) -> Result<Schemas, Vec<JsonFinding>> {
        let mut findings = Vec::new();
        let schemas = Schemas {
            parameters: compile(&manifest.parameters_schema, "/parameters_schema", &mut findings),
            provider: compile(&manifest.provider_schema, "/provider_schema", &mut findings),
            credentials: compile(
                &manifest.credentials_schema,
                "/credentials_schema",
                &mut findings,
            ),
            declared: declared(manifest),
        };
        if findings.is_empty() { Ok(schemas) } else { Err(findings) }
    }

    /// Checks the names that the plugin declares; other names belong to others and pass.
    pub fn check_parameters(&self, parameters: &Map<String, Value>) -> Vec<JsonFinding> {
        let Some(validator) = &self.parameters else { return Vec::new() };
        let own = parameters.iter().filter(|(name, _)| self.declares(name));
        let own: Map<String, Value> =
            own.map(|(name, value)| (name.clone(), value.clone())).collect();
        check(validator, &Value::Object(own))
    }

    /// Checks a provider definition; a plugin without a schema for it takes any.
    pub fn check_provider(&self, provider: &Value) -> Vec<JsonFinding> {
        self.provider.as_ref().map_or_else(Vec::new, |validator| check(validator, provider))
    }

    /// Checks credentials; a plugin without a schema for them takes any.
    pub fn check_credentials(&self, credentials: &Value) -> Vec<JsonFinding> {
        self.credentials.as_ref().map_or_else(Vec::new, |validator| check(validator, credentials))
    }

    /// Is this a parameter of the plugin?
    pub fn declares(&self, name: &str) -> bool {
        self.declared.iter().any(|(declared, _)| declared == name)
    }

    /// The plugin's own parameters: those given, and the defaults of the others.
    pub fn effective_parameters(&self, given: &Map<String, Value>) -> Map<String, Value> {
        let value = |name: &String, default: &Option<Value>| {
            given.get(name).or(default.as_ref()).map(|value| (name.clone(), value.clone()))
        };
        self.declared.iter().filter_map(|(name, default)| value(name, default)).collect()
    }
}

fn declared(manifest: &Manifest) -> Vec<(String, Option<Value>)> {
    let properties =
        manifest.parameters_schema.as_ref().and_then(|schema| schema["properties"].as_object());
    let with_default =
        |(name, schema): (&String, &Value)| (name.clone(), schema.get("default").cloned());
    properties.into_iter().flatten().map(with_default).collect()
}

fn compile(
    schema: &Option<Value>,
    pointer: &str,
    findings: &mut Vec<JsonFinding>,
) -> Option<Validator> {
    let schema = schema.as_ref()?;
    let built = jsonschema::options()
        .with_draft(Draft::Draft202012)
        // Linear in the text, whatever the pattern; look-around is refused.
        .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES_MAX))
        .build(schema);
    match built {
        Ok(validator) => Some(validator),
        Err(error) => {
            let place = format!("{pointer}{}", error.instance_path());
            findings.push(JsonFinding::new(place, format!("is no valid JSON Schema: {error}")));
            None
        }
    }
}

fn check(validator: &Validator, document: &Value) -> Vec<JsonFinding> {
    let errors = validator.iter_errors(document).take(FINDINGS_MAX);
    errors
        .map(|error| {
            JsonFinding::new(error.instance_path().to_string(), error.masked().to_string())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schemas(parameters_schema: Value) -> Result<Schemas, Vec<JsonFinding>> {
        let document = json!({"type": "cloud", "targets": [["x"]], "version": "1.0.0",
            "parameters_schema": parameters_schema, "credentials_schema": {"required": ["key"],
            "properties": {"key": {"pattern": "^[a-f]+$"}}}});
        let (manifest, _) = Manifest::parse(document.to_string().as_bytes(), "X").unwrap();
        Schemas::compile(&manifest)
    }

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn parameters_are_checked_by_name_and_others_names_pass() {
        let schemas = schemas(json!({"type": "object", "properties": {"gb": {"type": "integer",
            "minimum": 1, "default": 10}, "region": {"type": "string"}}}))
        .unwrap();
        assert_eq!(schemas.check_parameters(&object(json!({"gb": 3, "of_another": []}))), []);
        let findings = schemas.check_parameters(&object(json!({"gb": 0, "region": 7})));
        let places: Vec<_> = findings.iter().map(|finding| finding.pointer.as_str()).collect();
        assert_eq!(places, ["/gb", "/region"]);
        assert_eq!(schemas.check_parameters(&Map::new()), []);
        assert_eq!(
            schemas.effective_parameters(&object(json!({"region": "eu", "foreign": 1}))),
            object(json!({"gb": 10, "region": "eu"}))
        );
    }

    #[test]
    fn a_finding_never_quotes_the_value() {
        let schemas = schemas(json!({"type": "object"})).unwrap();
        let findings = schemas.check_credentials(&json!({"key": "hunter2"}));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].pointer, "/key");
        assert!(!findings[0].message.contains("hunter2"), "{}", findings[0]);
    }

    #[test]
    fn a_broken_schema_is_found_when_it_is_compiled() {
        let findings = schemas(json!({"type": "object", "properties": {"a": {"type": "strin"}}}));
        let findings = findings.unwrap_err();
        assert_eq!(findings[0].pointer, "/parameters_schema/properties/a/type");
    }

    #[test]
    fn data_that_looks_like_a_reference_is_data() {
        let property = json!({"const": {"$ref": "http://192.0.2.1/x"}});
        let schemas = schemas(json!({"type": "object", "properties": {"a": property}})).unwrap();
        let same = object(json!({"a": {"$ref": "http://192.0.2.1/x"}}));
        assert_eq!(schemas.check_parameters(&same), []);
        assert_eq!(schemas.check_parameters(&object(json!({"a": 1}))).len(), 1);
    }

    #[test]
    fn hostile_patterns_and_circles_neither_hang_nor_overflow() {
        for property in [
            json!({"$ref": "#/properties/a"}),
            json!({"pattern": "^(a+)+$"}),
            json!({"allOf": [{"$ref": "#"}, {"$ref": "#/properties/a"}]}),
        ] {
            let schemas =
                schemas(json!({"type": "object", "properties": {"a": property}})).unwrap();
            let long = "a".repeat(100_000) + "!";
            // Any answer will do: it must come.
            schemas.check_parameters(&object(json!({ "a": long })));
        }
        let huge = schemas(
            json!({"type": "object", "properties": {"a": {"pattern": "((a{999}){999}){999}"}}}),
        );
        assert!(huge.is_err(), "a pattern that needs gigabytes must not compile");
    }
}
