//! Lists of images: `{"base_images": [{"base_image": {_type, id, href}}, …]}`, oldest first.
//!
//! A list may have 100,000 entries, so it is written as text at once instead of as a tree of
//! values. An unknown parent is an empty list, as it always was.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use hyper::http::StatusCode;
use imagefactory_model::image::ImageKind;
use imagefactory_model::status::{Status, UnknownStatus};
use imagefactory_store::images::{ImageEntry, ImageQuery};
use uuid::Uuid;

use crate::rest::Rest;
use crate::rest::answers::{self, Answer};
use crate::rest::href;
use crate::rest::problems::Problem;
use crate::rest::request::Request;
use crate::rest::routes::Found;

/// Beyond it a page is no page: the list without `limit` has everything.
const LIMIT_MAX: u32 = 100_000;

/// GET of a collection.
pub(crate) async fn list(rest: &Arc<Rest>, request: &Request, found: &Found) -> Answer {
    let kind = found.row.kind.unwrap_or(ImageKind::BaseImage);
    let page = Page::asked_for(request)?;
    let href = href::at(request, &found.path);
    let Some(parent) = parent(rest, found).await? else {
        return Ok(answers::json_bytes(StatusCode::OK, text(kind, &href, &[])));
    };
    let query = ImageQuery {
        kind: Some(kind),
        parent,
        status: page.status,
        after: page.after,
        // One more, to know whether there are more.
        limit: page.limit.map(|limit| limit + 1),
    };
    let mut entries = rest.store().list(query).await?;
    let limit = page.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let more = entries.len() > limit;
    entries.truncate(limit);
    let mut response = answers::json_bytes(StatusCode::OK, text(kind, &href, &entries));
    if more && let Some(last) = entries.last() {
        answers::link_next(&mut response, &page.next(&href, last.id));
    }
    Ok(response)
}

/// `Some(None)`: no parent is asked for. `None`: the parent in the path does not exist.
async fn parent(rest: &Rest, found: &Found) -> Result<Option<Option<Uuid>>, Problem> {
    if found.has("target_image_id") {
        let Some(target) = found.uuid("target_image_id") else { return Ok(None) };
        let below = super::images::check_grandparent(rest, found).await;
        return Ok(below.is_ok().then_some(Some(target)));
    }
    match found.has("base_image_id") {
        true => Ok(found.uuid("base_image_id").map(Some)),
        false => Ok(Some(None)),
    }
}

struct Page {
    status: Option<Status>,
    limit: Option<u32>,
    after: Option<Uuid>,
}

impl Page {
    fn asked_for(request: &Request) -> Result<Page, Problem> {
        let status = request.query_value("status").map(|text| text.parse()).transpose();
        let status = status
            .map_err(|error: UnknownStatus| Problem::bad_request(format!("status: {error}")))?;
        let limit = request.query_value("limit").map(|text| match text.parse() {
            Ok(limit @ 1..=LIMIT_MAX) => Ok(limit),
            _ => Err(Problem::bad_request(format!("limit must be 1 to {LIMIT_MAX}"))),
        });
        let after = request.query_value("after").map(|text| {
            Uuid::try_parse(&text).map_err(|_| Problem::bad_request("after must be an image's id"))
        });
        Ok(Page { status, limit: limit.transpose()?, after: after.transpose()? })
    }

    fn next(&self, href: &str, last: Uuid) -> String {
        let mut url = href.to_owned();
        // Writing to a text never fails.
        if let Some(status) = self.status {
            write!(url, "?status={status}&after={last}").ok();
        } else {
            write!(url, "?after={last}").ok();
        }
        if let Some(limit) = self.limit {
            write!(url, "&limit={limit}").ok();
        }
        url
    }
}

fn text(kind: ImageKind, href: &str, entries: &[ImageEntry]) -> Bytes {
    // Nothing here needs escaping: names of ours, UUIDs, and a host that was checked.
    let (name, type_name) = (kind.name(), kind.type_name());
    /// Of one entry, without its href.
    const ENTRY_BYTES: usize = 120;
    let mut text = String::with_capacity(32 + entries.len() * (ENTRY_BYTES + href.len()));
    write!(text, "{{\"{}\":[", kind.collection()).ok();
    for (index, ImageEntry { id, .. }) in entries.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write!(
            text,
            "{{\"{name}\":{{\"_type\":\"{type_name}\",\"href\":\"{href}/{id}\",\"id\":\"{id}\"}}}}"
        )
        .ok();
    }
    text.push_str("]}");
    text.into()
}
