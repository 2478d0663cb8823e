//! `/events`: every change of any image, as server-sent events (WHATWG HTML, 9.2).
//!
//! Read from the store's log of changes, so that what a command line does beside the daemon is told
//! as well. Each event has its place in that log as its id: a client that comes back with
//! `Last-Event-ID` hears what it missed, or how many changes are not kept any more; then it reads
//! the images again.

use std::sync::Arc;
use std::time::Duration;

use hyper::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use hyper::http::{HeaderName, HeaderValue};
use imagefactory_store::StoreError;
use imagefactory_store::changes::RecordedChange;
use imagefactory_store::images::Revision;
use tokio::sync::broadcast::error::RecvError;
use warp::reply::Response;

use crate::rest::Rest;
use crate::rest::answers::Answer;
use crate::rest::href;
use crate::rest::request::Request;
use crate::rest::streams::{self, Sink};

/// Proxies close what is silent for a minute.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Other processes tell nobody what they recorded; this is how late it may be heard of. A look
/// costs one system call.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Changes that are read at once.
const CHANGES_MAX: u32 = 256;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// GET `/events`.
pub(crate) async fn stream(rest: &Arc<Rest>, request: &Request) -> Answer {
    let last = rest.store().last_change().await?;
    // An id of the future is one of another store.
    let heard = request.header(&LAST_EVENT_ID).and_then(|id| id.trim().parse().ok());
    let seq = heard.filter(|heard| (0..=last).contains(heard)).unwrap_or(last);
    let (sink, response) = streams::body();
    let listener = Listener { seq, revision: None, base: href::base(request), sink };
    tokio::spawn(listener.hear(Arc::clone(rest)));
    Ok(as_events(response))
}

/// One client.
struct Listener {
    /// The last change it heard of.
    seq: i64,
    /// The store's state up to which it heard everything.
    revision: Option<Revision>,
    base: String,
    sink: Sink,
}

impl Listener {
    async fn hear(mut self, rest: Arc<Rest>) {
        let mut ours = rest.dispatcher.changes().listen();
        let mut is_there = self.sink.send(": listening\n\n").await;
        let mut silent_since = tokio::time::Instant::now();
        while is_there {
            is_there = match self.tell(&rest).await {
                Ok(Some(is_there)) => {
                    silent_since = tokio::time::Instant::now();
                    is_there
                }
                Ok(None) if silent_since.elapsed() >= KEEP_ALIVE => {
                    silent_since = tokio::time::Instant::now();
                    self.sink.send(": still here\n\n").await
                }
                Ok(None) => true,
                Err(error) => {
                    tracing::error!("events are late: {}", crate::error::chain(&error));
                    true
                }
            };
            tokio::select! {
                () = self.sink.closed() => return,
                () = rest.stopping.cancelled() => return,
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                // Whatever it is, the log has it.
                change = ours.recv() => if matches!(change, Err(RecvError::Closed)) { return },
            }
        }
    }

    /// Sends what is new. `None`: nothing was; `false`: the client is gone.
    async fn tell(&mut self, rest: &Rest) -> Result<Option<bool>, StoreError> {
        let revision = rest.store().revision();
        if revision.is_some() && revision == self.revision {
            return Ok(None);
        }
        let mut told = None;
        loop {
            let changes = rest.store().changes_after(self.seq, CHANGES_MAX).await?;
            let (Some(first), Some(last)) = (changes.first(), changes.last()) else { break };
            let (missed, seq) = (first.seq - self.seq - 1, last.seq);
            let mut text = String::new();
            if missed > 0 {
                text = format!("event: missed\ndata: {missed}\n\n");
            }
            text.extend(changes.iter().filter_map(|change| event(change, &self.base)));
            self.seq = seq;
            if !text.is_empty() {
                told = Some(true);
                if !self.sink.send(text).await {
                    return Ok(Some(false));
                }
            }
        }
        self.revision = revision;
        Ok(told)
    }
}

/// Marks a body as a stream of events.
pub(crate) fn as_events(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `status` for a new status, `progress` for everything else; the image as callbacks carry it.
fn event(change: &RecordedChange, base: &str) -> Option<String> {
    let fields = change.document.as_deref()?.strip_prefix('{')?;
    let name = if change.status_changed { "status" } else { "progress" };
    let (id, root) = (change.image_id, change.kind.name());
    let href = format!("{base}/imagefactory/{}/{id}", change.kind.collection());
    // The host in it was checked: nothing needs escaping.
    let data = format!("{{\"{root}\":{{\"href\":\"{href}\",{fields}}}");
    Some(format!("id: {}\nevent: {name}\ndata: {data}\n\n", change.seq))
}
