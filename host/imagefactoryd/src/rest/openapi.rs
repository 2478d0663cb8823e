//! The API as an OpenAPI 3.1 document, made from the route table and `openapi.json` beside this
//! file.
//!
//! The table says which addresses and methods there are; `openapi.json` says of each endpoint what
//! it takes and answers. Neither can have something that the other lacks: a test holds them
//! together.

use std::sync::OnceLock;

use bytes::Bytes;
use imagefactory_model::image::ImageKind;
use serde_json::{Map, Value, json};

use super::problems::Problem;
use super::routes::{Access, Row, table};

/// Endpoints by name, and `components`.
const WORDS: &str = include_str!("openapi.json");

/// The document as text; made at the first question.
pub(crate) fn text() -> Result<Bytes, Problem> {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    if let Some(text) = TEXT.get() {
        return Ok(text.clone());
    }
    let text = document().map_err(|error| Problem::internal(&error))?.to_string();
    Ok(TEXT.get_or_init(|| text.into()).clone())
}

fn document() -> Result<Value, serde_json::Error> {
    let words: Value = serde_json::from_str(WORDS)?;
    let paths: Map<String, Value> =
        table().iter().map(|row| (row.path.clone(), path_item(row, &words))).collect();
    Ok(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Image Factory",
            "version": super::handlers::api_information::API_VERSION,
            "description": words["description"],
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": words["components"],
    }))
}

fn path_item(row: &Row, words: &Value) -> Value {
    let mut item = Map::new();
    let parameters: Vec<Value> = row.varying().map(path_parameter).collect();
    if !parameters.is_empty() {
        item.insert("parameters".to_owned(), parameters.into());
    }
    for (method, endpoint) in &row.methods {
        let mut operation = words["endpoints"][endpoint_words(row, *endpoint)].clone();
        operation["operationId"] = operation_id(method.as_str(), row).into();
        operation["security"] = match row.access {
            Access::Open => json!([]),
            _ => json!([{}, {"oauth1": []}]),
        };
        if let Some(responses) = operation["responses"].as_object_mut() {
            responses
                .insert("default".to_owned(), json!({"$ref": "#/components/responses/Problem"}));
        }
        item.insert(method.as_str().to_lowercase(), operation);
    }
    Value::Object(item)
}

/// The name of an endpoint's words: new images have other fields in each collection.
fn endpoint_words(row: &Row, endpoint: super::routes::Endpoint) -> String {
    let name = format!("{endpoint:?}");
    match row.kind {
        Some(kind)
            if ["ListImages", "NewImage", "ShowImage", "DeleteImage", "CancelImage"]
                .contains(&name.as_str()) =>
        {
            let of = match kind {
                ImageKind::BaseImage => "Base",
                ImageKind::TargetImage => "Target",
                ImageKind::ProviderImage => "Provider",
            };
            format!("{name}:{of}")
        }
        _ => name,
    }
}

fn path_parameter(name: &str) -> Value {
    let schema = match name {
        "id" | "base_image_id" | "target_image_id" | "leftover_id" => {
            json!({"type": "string", "format": "uuid"})
        }
        _ => json!({"type": "string", "minLength": 1}),
    };
    json!({"name": name, "in": "path", "required": true, "schema": schema})
}

/// `get_imagefactory_base_images_id`: unique, because paths are.
fn operation_id(method: &str, row: &Row) -> String {
    let path = row.path.replace(['/', '.'], "_").replace(['{', '}'], "");
    format!("{}{}", method.to_lowercase(), path.trim_end_matches('_'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_and_the_words_know_the_same_endpoints() {
        let words: Value = serde_json::from_str(WORDS).unwrap();
        let worded: BTreeSet<String> =
            words["endpoints"].as_object().unwrap().keys().cloned().collect();
        let routed: BTreeSet<String> = table()
            .iter()
            .flat_map(|row| row.methods.iter().map(|(_, endpoint)| endpoint_words(row, *endpoint)))
            .collect();
        assert_eq!(worded, routed);
    }

    #[test]
    fn every_path_and_method_of_the_table_stands_in_the_document_and_no_other() {
        let document = document().unwrap();
        let mut documented = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
                documented.insert((path.clone(), method.to_uppercase()));
            }
        }
        let routed: BTreeSet<(String, String)> = table()
            .iter()
            .flat_map(|row| {
                row.methods.iter().map(|(method, _)| (row.path.clone(), method.to_string()))
            })
            .collect();
        assert_eq!(documented, routed);
    }

    #[test]
    fn every_reference_leads_to_a_component_and_every_operation_answers() {
        let document = document().unwrap();
        check_references(&document, &document);
        let mut ids = BTreeSet::new();
        for item in document["paths"].as_object().unwrap().values() {
            for (method, operation) in item.as_object().unwrap() {
                if method == "parameters" {
                    continue;
                }
                let id = operation["operationId"].as_str().unwrap();
                assert!(ids.insert(id.to_owned()), "{id} twice");
                assert!(operation["responses"].as_object().unwrap().len() > 1, "{id}");
                assert!(operation["summary"].is_string(), "{id}");
            }
        }
    }

    fn check_references(value: &Value, document: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                    let pointer = reference.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
                }
                fields.values().for_each(|value| check_references(value, document));
            }
            Value::Array(values) => {
                values.iter().for_each(|value| check_references(value, document));
            }
            _ => {}
        }
    }
}
