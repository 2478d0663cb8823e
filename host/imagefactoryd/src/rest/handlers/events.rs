//! `/events`: every change of any image, as server-sent events (WHATWG HTML, 9.2).
//!
//! Changes of this daemon's process; what a command line does beside it shows up in lists, not
//! here. A client that is too slow is told how many changes it missed and reads the images again.

use std::sync::Arc;
use std::time::Duration;

use hyper::http::HeaderValue;
use hyper::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use imagefactory_model::change::Change;
use imagefactory_model::document;
use serde_json::{Map, Value};
use tokio::sync::broadcast::error::RecvError;
use warp::reply::Response;

use crate::rest::Rest;
use crate::rest::answers::Answer;
use crate::rest::href;
use crate::rest::request::Request;
use crate::rest::streams;

/// Proxies close what is silent for a minute.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// GET `/events`.
pub(crate) fn stream(rest: &Arc<Rest>, request: &Request) -> Answer {
    let (sink, response) = streams::body();
    let mut changes = rest.dispatcher.changes().listen();
    let (base, stopping) = (href::base(request), rest.stopping.clone());
    tokio::spawn(async move {
        // The first line goes out at once: the client knows that it hears from now on.
        let mut is_there = sink.send(": listening\n\n").await;
        while is_there {
            is_there = tokio::select! {
                () = sink.closed() => false,
                () = stopping.cancelled() => false,
                () = tokio::time::sleep(KEEP_ALIVE) => sink.send(": still here\n\n").await,
                change = changes.recv() => match change {
                    Ok(change) => sink.send(event(&change, &base)).await,
                    Err(RecvError::Lagged(missed)) => {
                        sink.send(format!("event: missed\ndata: {missed}\n\n")).await
                    }
                    Err(RecvError::Closed) => false,
                },
            };
        }
    });
    Ok(as_events(response))
}

/// Marks a body as a stream of events.
pub(crate) fn as_events(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `status` for a new status, `progress` for everything else; the image as callbacks carry it.
fn event(change: &Change, base: &str) -> String {
    let image = &change.image;
    let name = if change.status_changed { "status" } else { "progress" };
    let mut fields = document::fields(image);
    // Whoever wants a template of a megabyte asks for the image.
    fields.remove("template");
    fields.remove("icicle");
    let href = format!("{base}/imagefactory/{}/{}", image.kind.collection(), image.id);
    fields.insert("href".to_owned(), href.into());
    let mut root = Map::new();
    root.insert(image.kind.name().to_owned(), Value::Object(fields));
    format!("event: {name}\ndata: {}\n\n", Value::Object(root))
}
