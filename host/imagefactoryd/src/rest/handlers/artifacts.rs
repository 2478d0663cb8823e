//! Artefacts of an image: SBOM, serial log, screenshot, OVF. Listed, and sent like files.

use std::sync::Arc;

use hyper::http::StatusCode;
use imagefactory_store::artifacts::ArtifactRecord;
use serde_json::{Value, json};

use crate::rest::Rest;
use crate::rest::answers::{self, Answer};
use crate::rest::files::{self, FileAnswer};
use crate::rest::href;
use crate::rest::problems::Problem;
use crate::rest::request::Request;
use crate::rest::routes::Found;

/// `{"artifacts": [{name, href, media_type, bytes, sha256}]}`, by name.
pub(crate) async fn list(rest: &Arc<Rest>, request: &Request, found: &Found) -> Answer {
    let image = super::images::located(rest, found).await?;
    let here = href::at(request, &found.path);
    let records = rest.store().artifacts(image.id).await?;
    let entry = |ArtifactRecord { name, media_type, bytes, sha256 }: ArtifactRecord| -> Value {
        let href = format!("{here}/{name}");
        json!({
            "name": name, "href": href, "media_type": media_type, "bytes": bytes, "sha256": sha256,
        })
    };
    let artifacts: Vec<Value> = records.into_iter().map(entry).collect();
    Ok(answers::json(StatusCode::OK, &json!({ "artifacts": artifacts })))
}

/// One of them.
pub(crate) async fn send(rest: &Arc<Rest>, request: &Request, found: &Found) -> Answer {
    let image = super::images::located(rest, found).await?;
    let name = found.value("name");
    let records = rest.store().artifacts(image.id).await?;
    // The record's name was checked when it was taken; the path is made of it, never of the
    // request.
    let record = records.into_iter().find(|record| record.name == name);
    let record =
        record.ok_or_else(|| Problem::not_found(format!("there is nothing at {}", found.path)))?;
    let file = FileAnswer {
        path: rest.dispatcher.artifact_files().path(image.id, &record.name),
        sha256: record.sha256,
        media_type: record.media_type,
        name: record.name,
    };
    files::send(request, file).await
}
