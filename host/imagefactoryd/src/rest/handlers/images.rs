//! One image: GET, DELETE, cancel; and what all addresses of one image share.

use std::sync::Arc;

use bytes::Bytes;
use hyper::http::StatusCode;
use imagefactory_dispatch::requests::Deletion;
use imagefactory_model::document;
use imagefactory_model::image::{Image, ImageKind};
use imagefactory_store::images::ImageQuery;
use serde_json::{Map, Value, json};
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::rest::Rest;
use crate::rest::answers::{self, Answer};
use crate::rest::bodies::{self, Payload};
use crate::rest::problems::Problem;
use crate::rest::request::Request;
use crate::rest::routes::Found;
use crate::rest::{href, orders, rendered};

/// The image of the path: of its collection's kind, below the parents that the path names.
pub(crate) async fn located(rest: &Rest, found: &Found) -> Result<Image, Problem> {
    let unknown = || Problem::not_found(format!("there is nothing at {}", found.path));
    let id = found.uuid("id").ok_or_else(unknown)?;
    let image = rest.store().image(id).await?.ok_or_else(unknown)?;
    let is_below =
        |name: &str, parent: Option<Uuid>| !found.has(name) || found.uuid(name) == parent;
    let (parent, grandparent) = match image.kind {
        ImageKind::ProviderImage => ("target_image_id", "base_image_id"),
        _ => ("base_image_id", ""),
    };
    if Some(image.kind) != found.row.kind || !is_below(parent, image.parent) {
        return Err(unknown());
    }
    if found.has(grandparent) {
        let parent = match image.parent {
            Some(parent) => rest.store().image(parent).await?,
            None => None,
        };
        if !is_below(grandparent, parent.and_then(|parent| parent.parent)) {
            return Err(unknown());
        }
    }
    Ok(image)
}

/// The parent's id in a collection's path; an impossible one is an unknown image.
pub(crate) fn parent_in_path(
    found: &Found,
    name: &str,
    kind: ImageKind,
) -> Result<Option<Uuid>, Problem> {
    match (found.has(name), found.uuid(name)) {
        (false, _) => Ok(None),
        (true, Some(id)) => Ok(Some(id)),
        (true, None) => {
            let shown: String = found.value(name).chars().take(60).collect();
            Err(Problem::not_found(format!("there is no {} {shown:?}", kind.name())))
        }
    }
}

/// In `/base_images/{b}/target_images/{t}/provider_images`: is `t` made from `b`?
pub(crate) async fn check_grandparent(rest: &Rest, found: &Found) -> Result<(), Problem> {
    if !found.has("base_image_id") {
        return Ok(());
    }
    let unknown = || Problem::not_found(format!("there is nothing at {}", found.path));
    let target = found.uuid("target_image_id").ok_or_else(unknown)?;
    let target = rest.store().image(target).await?.ok_or_else(unknown)?;
    match target.parent.is_some() && target.parent == found.uuid("base_image_id") {
        true => Ok(()),
        false => Err(unknown()),
    }
}

/// GET of one image.
pub(crate) async fn show(rest: &Arc<Rest>, request: &Request, found: &Found) -> Answer {
    let href = href::at(request, &found.path);
    let id = found.uuid("id").unwrap_or_default();
    let revision = match rest.rendered.get(rest.store(), id, &href).await? {
        rendered::Found::Answer(answer) => return Ok(answers::json_bytes(StatusCode::OK, answer)),
        rendered::Found::Nothing(revision) => revision,
    };
    let image = located(rest, found).await?;
    let document = nested(rest, request, &image, &href).await?;
    let answer = Bytes::from(document.to_string());
    if let Some(revision) = revision {
        rest.rendered.put(revision, (id, image.parent), &href, &answer);
    }
    Ok(answers::json_bytes(StatusCode::OK, answer))
}

/// The answer to GET: parents and children as objects, and the times.
async fn nested(
    rest: &Rest,
    request: &Request,
    image: &Image,
    href: &str,
) -> Result<Value, Problem> {
    let mut fields = document::fields(image);
    fields.insert("href".to_owned(), href.into());
    fields.insert("created_at".to_owned(), image.created_at.format(&Rfc3339).ok().into());
    let finished_at = image.finished_at.and_then(|time| time.format(&Rfc3339).ok());
    fields.insert("finished_at".to_owned(), finished_at.into());
    fields.insert("attempt".to_owned(), image.attempt.into());
    match image.kind {
        ImageKind::BaseImage => {
            let children = children(rest, image.id, ImageKind::TargetImage, href).await?;
            fields.insert("target_images".to_owned(), children);
        }
        ImageKind::TargetImage => {
            fields.insert("base_image".to_owned(), parent(rest, request, image).await?);
            let children = children(rest, image.id, ImageKind::ProviderImage, href).await?;
            fields.insert("provider_images".to_owned(), children);
        }
        ImageKind::ProviderImage => {
            fields.insert("target_image".to_owned(), parent(rest, request, image).await?);
        }
    }
    let mut root = Map::new();
    root.insert(image.kind.name().to_owned(), Value::Object(fields));
    Ok(Value::Object(root))
}

/// `{"target_images": [{"target_image": {…}}, …]}`: the format of lists, one level deeper.
async fn children(
    rest: &Rest,
    parent: Uuid,
    kind: ImageKind,
    href: &str,
) -> Result<Value, Problem> {
    let query = ImageQuery { parent: Some(parent), kind: Some(kind), ..ImageQuery::default() };
    let entries = rest.store().list(query).await?;
    let href = format!("{href}/{}", kind.collection());
    let entries: Vec<Value> = entries
        .iter()
        .map(|entry| json!({ kind.name(): reference(kind, entry.id, &format!("{href}/{}", entry.id)) }))
        .collect();
    Ok(json!({ kind.collection(): entries }))
}

async fn parent(rest: &Rest, request: &Request, image: &Image) -> Result<Value, Problem> {
    let Some(id) = image.parent else { return Ok(Value::Null) };
    // Deleted in this moment: then it has no parent any more.
    let Some(parent) = rest.store().image(id).await? else { return Ok(Value::Null) };
    let path = format!("/imagefactory/{}/{id}", parent.kind.collection());
    Ok(reference(parent.kind, id, &href::at(request, &path)))
}

fn reference(kind: ImageKind, id: Uuid, href: &str) -> Value {
    json!({"_type": kind.type_name(), "id": id.to_string(), "href": href})
}

/// DELETE of one image: 204, the rest happens by itself.
pub(crate) async fn delete(
    rest: &Arc<Rest>,
    request: &Request,
    found: &Found,
    body: Payload,
) -> Answer {
    let image = located(rest, found).await?;
    let mut fields = bodies::fields(request, body, image.kind.name(), None).await?;
    let target = fields.text("target")?.map(|target| target.trim().to_owned());
    let provider = fields.value("provider");
    let credentials = orders::credentials(&mut fields);
    let parameters = fields.object("parameters")?.unwrap_or_default();
    let callbacks = orders::callbacks(&parameters)?;
    let unknown = orders::unknown_fields(request, &fields)?;
    let forget = request.query_flag("forget")?;
    rest.started().await;
    let deletion = Deletion { id: image.id, target, provider, credentials, callbacks, forget };
    rest.dispatcher.delete(deletion).await?;
    let mut response = answers::no_content();
    answers::warn(&mut response, &unknown);
    Ok(response)
}

/// POST …/cancel: 202 with the image; it becomes FAILED.
pub(crate) async fn cancel(rest: &Arc<Rest>, request: &Request, found: &Found) -> Answer {
    let image = located(rest, found).await?;
    let image = rest.dispatcher.cancel(image.id).await?;
    let href = href::at(request, found.path.trim_end_matches("/cancel"));
    Ok(answers::json(StatusCode::ACCEPTED, &orders::created_document(&image, &href)))
}
