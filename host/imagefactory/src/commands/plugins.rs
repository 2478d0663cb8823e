//! `plugins`: what this factory, or the daemon's, can do. JSON is an object by id, as the
//! original's.

use serde_json::{Map, Value};

use super::Context;
use crate::error::CommandError;

/// `plugins [--id ID]`.
pub(super) async fn plugins(context: &Context, id: Option<&str>) -> Result<u8, CommandError> {
    let mut plugins = context.factory.plugins().await?;
    if let Some(id) = id {
        let known: Vec<String> = plugins.iter().map(|plugin| text(plugin, "id")).collect();
        plugins.retain(|plugin| plugin["id"] == id);
        if plugins.is_empty() {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(CommandError::NoSuchPlugin { id: id.to_owned(), known });
        }
    }
    match (context.output.is_json(), id, plugins.first()) {
        (true, Some(_), Some(plugin)) => context.output.document(plugin)?,
        (true, ..) => {
            let by_id: Map<String, Value> =
                plugins.into_iter().map(|plugin| (text(&plugin, "id"), plugin)).collect();
            context.output.document(&Value::Object(by_id))?;
        }
        (false, Some(_), Some(plugin)) => context.output.text(&described(plugin))?,
        (false, ..) => {
            let lines: String = plugins.iter().map(line).collect();
            context.output.text(&lines)?;
        }
    }
    Ok(0)
}

fn text(plugin: &Value, key: &str) -> String {
    plugin[key].as_str().unwrap_or_default().to_owned()
}

/// `MockCloud  cloud  2.0.0  active  mock mocksphere`, or the reason in the place of the targets.
fn line(plugin: &Value) -> String {
    let rest = match plugin["ERROR"].as_str() {
        Some(error) => error.to_owned(),
        None => targets(plugin).join(" "),
    };
    format!(
        "{:<20}  {:<5}  {:<8}  {:<8}  {rest}\n",
        text(plugin, "id"),
        text(plugin, "type"),
        text(plugin, "version"),
        state(plugin)
    )
}

fn state(plugin: &Value) -> &'static str {
    match (plugin["ERROR"].is_string(), plugin["active"].as_bool()) {
        (true, _) | (_, Some(false)) => "inactive",
        (_, Some(true)) => "active",
        (_, None) => "unknown",
    }
}

/// Each target with its parts: `Fedora/41/x86_64`, `*` for any.
fn targets(plugin: &Value) -> Vec<String> {
    let rows = plugin["targets"].as_array().into_iter().flatten();
    rows.map(|row| {
        let parts = row.as_array().into_iter().flatten();
        let parts: Vec<&str> = parts.map(|part| part.as_str().unwrap_or("*")).collect();
        parts.join("/")
    })
    .collect()
}

/// Everything about one plugin that fits on a screen.
fn described(plugin: &Value) -> String {
    let parameters: Vec<String> = plugin["parameters_schema"]["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, schema)| {
            let about = schema["description"].as_str().unwrap_or_default();
            format!("  {name:<28} {about}\n")
        })
        .collect();
    let mut lines = String::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push_str(&format!("{name:<13} {value}\n"));
        }
    };
    row("id", text(plugin, "id"));
    row("type", text(plugin, "type"));
    row("version", text(plugin, "version"));
    row("description", text(plugin, "description"));
    row("license", text(plugin, "license"));
    row("state", state(plugin).to_owned());
    row("ERROR", text(plugin, "ERROR"));
    row("targets", targets(plugin).join(" "));
    if !parameters.is_empty() {
        lines.push_str("parameters\n");
        lines.extend(parameters);
    }
    lines
}
