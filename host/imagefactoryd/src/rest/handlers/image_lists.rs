//! Lists of images: `{"base_images": [{"base_image": {_type, id, href}}, …]}`, oldest first.
//!
//! A list may have 100,000 entries, so it is written as text at once instead of as a tree of
//! values, and what is longer than a page of the store is sent page by page while it is read. An
//! unknown parent is an empty list, as it always was.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use hyper::http::header::CONTENT_TYPE;
use hyper::http::{HeaderValue, StatusCode};
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
use crate::rest::streams::{self, Sink};

/// Beyond it a page is no page: the list without `limit` has everything.
const LIMIT_MAX: u32 = 100_000;

/// Entries that are read and sent together: some 200 kB of text.
const PAGE: u32 = 1000;

/// GET of a collection.
pub(crate) async fn list(rest: &Arc<Rest>, request: &Request, found: &Found) -> Answer {
    let kind = found.row.kind.unwrap_or(ImageKind::BaseImage);
    let asked = Page::asked_for(request)?;
    let href = href::at(request, &found.path);
    let text = ListText { kind, href };
    let Some(parent) = parent(rest, found).await? else {
        return Ok(answers::json_bytes(StatusCode::OK, text.whole(&[])));
    };
    let query = ImageQuery {
        kind: Some(kind),
        parent,
        status: asked.status,
        after: asked.after,
        // One more, to know whether there are more.
        limit: Some(asked.limit.unwrap_or(PAGE).min(PAGE) + 1),
        ..ImageQuery::default()
    };
    let mut entries = rest.store().list(query.clone()).await?;
    let limit = asked.limit.unwrap_or(u32::MAX);
    let (page, limit_entries) = (PAGE as usize, usize::try_from(limit).unwrap_or(usize::MAX));
    if entries.len() <= page || limit_entries <= page {
        let more = entries.len() > limit_entries;
        entries.truncate(limit_entries);
        let mut response = answers::json_bytes(StatusCode::OK, text.whole(&entries));
        if more && let Some(last) = entries.last() {
            answers::link_next(&mut response, &asked.next(&text.href, last.id));
        }
        return Ok(response);
    }
    entries.truncate(page);
    let next = match asked.limit {
        Some(limit) => last_of_long_page(rest, &query, limit).await?,
        None => None,
    };
    let link = next.map(|last| asked.next(&text.href, last));
    let (sink, mut response) = streams::body();
    tokio::spawn(send_pages(Arc::clone(rest), text, query, (entries, limit), sink));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(link) = link {
        answers::link_next(&mut response, &link);
    }
    Ok(response)
}

/// `Link` stands in front of a body that is longer than what is read at once: its last entry, where
/// there are more behind it.
async fn last_of_long_page(
    rest: &Rest,
    query: &ImageQuery,
    limit: u32,
) -> Result<Option<Uuid>, Problem> {
    let all = ImageQuery { limit: Some(limit + 1), ..query.clone() };
    let entries = rest.store().list(all).await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let last = entries.get(limit.saturating_sub(1)).map(|entry| entry.id);
    Ok(last.filter(|_| entries.len() > limit))
}

/// The first page was read already. An image that is deleted meanwhile does not end the list: the
/// next page goes on from its place.
async fn send_pages(
    rest: Arc<Rest>,
    text: ListText,
    query: ImageQuery,
    (mut entries, mut left): (Vec<ImageEntry>, u32),
    sink: Sink,
) {
    let mut piece = text.begin();
    while let Some(last) = entries.last().copied() {
        text.entries(&mut piece, &entries);
        left = left.saturating_sub(u32::try_from(entries.len()).unwrap_or(u32::MAX));
        if !sink.send(std::mem::take(&mut piece)).await {
            return;
        }
        if left == 0 {
            break;
        }
        let beyond = ImageQuery {
            after: None,
            beyond: Some(last.place),
            limit: Some(left.min(PAGE)),
            ..query.clone()
        };
        entries = match rest.store().list(beyond).await {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!("a list was broken off: {}", crate::error::chain(&error));
                return sink.fail(std::io::Error::other("the store failed")).await;
            }
        };
        if !entries.is_empty() {
            piece.push(',');
        }
    }
    piece.push_str("]}");
    sink.send(piece).await;
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

/// How a list is written. Nothing in it needs escaping: names of ours, UUIDs, and a host that was
/// checked.
struct ListText {
    kind: ImageKind,
    href: String,
}

impl ListText {
    fn whole(&self, entries: &[ImageEntry]) -> Bytes {
        let mut text = self.begin();
        self.entries(&mut text, entries);
        text.push_str("]}");
        text.into()
    }

    fn begin(&self) -> String {
        format!("{{\"{}\":[", self.kind.collection())
    }

    fn entries(&self, text: &mut String, entries: &[ImageEntry]) {
        /// Of one entry, without its href.
        const ENTRY_BYTES: usize = 120;
        let (name, type_name, href) = (self.kind.name(), self.kind.type_name(), &self.href);
        text.reserve(2 + entries.len() * (ENTRY_BYTES + href.len()));
        for (index, ImageEntry { id, .. }) in entries.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            // Writing to a text never fails.
            write!(
                text,
                "{{\"{name}\":{{\"_type\":\"{type_name}\",\"href\":\"{href}/{id}\",\
                 \"id\":\"{id}\"}}}}"
            )
            .ok();
        }
    }
}
