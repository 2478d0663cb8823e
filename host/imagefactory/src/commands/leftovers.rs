//! `leftovers`: what failed cleanups left at providers; `--drop` forgets one.

use serde_json::{Value, json};
use uuid::Uuid;

use super::Context;
use crate::error::CommandError;

/// Lists them, or drops one.
pub(super) async fn leftovers(context: &Context, drop: Option<Uuid>) -> Result<u8, CommandError> {
    if let Some(id) = drop {
        context.factory.drop_leftover(id).await?;
        match context.output.is_json() {
            true => context.output.document(&json!({"id": id, "dropped": true}))?,
            false => context.output.text(&format!("Dropped {id}: nobody tries any more\n"))?,
        }
        return Ok(0);
    }
    let leftovers = context.factory.leftovers().await?;
    if context.output.is_json() {
        context.output.document(&Value::Array(leftovers))?;
        return Ok(0);
    }
    for leftover in &leftovers {
        context.output.text(&paragraph(leftover))?;
    }
    Ok(0)
}

/// What a person looks for at the provider, and whether somebody still tries.
fn paragraph(leftover: &Value) -> String {
    let text = |key: &str| leftover[key].as_str().unwrap_or("-").to_owned();
    let resources = leftover["resources"].as_array().cloned().unwrap_or_default();
    let resources: Vec<String> = resources
        .iter()
        .map(|resource| {
            let id = resource["resource_id"].as_str().or(resource["token"].as_str());
            format!("{} {}", resource["kind"].as_str().unwrap_or("-"), id.unwrap_or("-"))
        })
        .collect();
    let next = match leftover["given_up"] == true {
        true => "given up".to_owned(),
        false => format!("next try {}", text("next_try_at")),
    };
    let error = text("error");
    format!(
        "{}  {} on {}: {}\n  of image {}, token {}\n  {} tries, {next}: {}\n",
        text("id"),
        text("plugin"),
        text("target"),
        resources.join(", "),
        text("image_id"),
        text("token"),
        leftover["tries"],
        error.lines().next().unwrap_or_default(),
    )
}
