//! `/targets`: the clouds that loaded plugins serve, and the providers that the configuration
//! knows.

use std::collections::BTreeSet;
use std::sync::Arc;

use hyper::http::StatusCode;
use serde_json::{Map, Value, json};

use crate::rest::Rest;
use crate::rest::answers::{self, Answer};
use crate::rest::href;
use crate::rest::problems::Problem;
use crate::rest::request::Request;
use crate::rest::routes::Found;

/// `{"targets": [{"target": {_type, id, href}}, …]}`, by name.
pub(crate) async fn list(rest: &Arc<Rest>, request: &Request) -> Answer {
    rest.started().await;
    let registry = rest.dispatcher.registry();
    let targets: Vec<Value> = registry
        .cloud_targets()
        .map(
            |(target, _)| json!({"target": reference("target", target, &href_of(request, target))}),
        )
        .collect();
    Ok(answers::json(StatusCode::OK, &json!({ "targets": targets })))
}

/// One target: its plugin and its providers.
pub(crate) async fn show(rest: &Arc<Rest>, request: &Request, found: &Found) -> Answer {
    let target = found.value("target");
    let plugin = plugin_of(rest, found).await?;
    let href = href_of(request, target);
    let mut document = reference("target", target, &href);
    document.insert("plugin".to_owned(), plugin.into());
    document.insert("providers".to_owned(), providers(rest, target, &href));
    Ok(answers::json(StatusCode::OK, &json!({ "target": document })))
}

/// `{"providers": [{"provider": {_type, id, href}}, …]}`, by name.
pub(crate) async fn list_providers(rest: &Arc<Rest>, request: &Request, found: &Found) -> Answer {
    plugin_of(rest, found).await?;
    let target = found.value("target");
    Ok(answers::json(StatusCode::OK, &providers(rest, target, &href_of(request, target))))
}

/// One provider: its definition, as `provider` of an order could be.
pub(crate) async fn show_provider(rest: &Arc<Rest>, request: &Request, found: &Found) -> Answer {
    plugin_of(rest, found).await?;
    let (target, provider) = (found.value("target"), found.value("provider"));
    if !names(rest, target).contains(provider) {
        return Err(Problem::not_found(format!("there is nothing at {}", found.path)));
    }
    let href = format!("{}/providers/{}", href_of(request, target), segment(provider));
    let mut document = reference("provider", provider, &href);
    let definition = rest.providers.get(target).and_then(|providers| providers.get(provider));
    document.insert("target".to_owned(), target.into());
    document.insert("definition".to_owned(), definition.map_or(Value::Null, without_secrets));
    Ok(answers::json(StatusCode::OK, &json!({ "provider": document })))
}

async fn plugin_of(rest: &Rest, found: &Found) -> Result<String, Problem> {
    rest.started().await;
    let registry = rest.dispatcher.registry();
    match registry.cloud_plugin(found.value("target")) {
        Ok(entry) => Ok(entry.id().to_owned()),
        Err(missing) => Err(Problem::not_found(missing.to_string())),
    }
}

/// Configured ones, and those that have JEOS images.
fn names(rest: &Rest, target: &str) -> BTreeSet<String> {
    let configured = rest.providers.get(target).into_iter().flat_map(|all| all.keys().cloned());
    let jeos = rest.jeos();
    configured.chain(jeos.providers(target).into_iter().map(str::to_owned)).collect()
}

fn providers(rest: &Rest, target: &str, href: &str) -> Value {
    let names = names(rest, target);
    let entry = |name: &String| {
        let href = format!("{href}/providers/{}", segment(name));
        json!({"provider": reference("provider", name, &href)})
    };
    json!({"providers": names.iter().map(entry).collect::<Vec<Value>>()})
}

fn reference(kind: &str, id: &str, href: &str) -> Map<String, Value> {
    let entries = [("_type", kind), ("id", id), ("href", href)];
    entries.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect()
}

fn href_of(request: &Request, target: &str) -> String {
    href::at(request, &format!("/imagefactory/targets/{}", segment(target)))
}

/// A name as one segment of a path.
fn segment(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC)
        .to_string()
        .replace("%2D", "-")
        .replace("%2E", ".")
        .replace("%5F", "_")
}

/// Definitions hold no secrets (those are credentials); one that does all the same is not shown.
fn without_secrets(definition: &Value) -> Value {
    /// What plugins and people call a secret.
    const SECRET_WORDS: [&str; 5] = ["password", "passwd", "secret", "token", "credential"];
    match definition {
        Value::Object(fields) => {
            let shown = fields.iter().map(|(name, value)| {
                let lower = name.to_lowercase();
                let is_secret = SECRET_WORDS.iter().any(|word| lower.contains(word));
                let value = if is_secret { "REDACTED".into() } else { without_secrets(value) };
                (name.clone(), value)
            });
            Value::Object(shown.collect())
        }
        Value::Array(values) => values.iter().map(without_secrets).collect(),
        Value::String(text) => imagefactory_model::document::masked_url(text).into(),
        other => other.clone(),
    }
}
