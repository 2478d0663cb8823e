//! `/healthz`: the process answers. `/readyz`: it can take orders, or why not.

use std::sync::Arc;

use bytes::Bytes;
use hyper::http::StatusCode;
use imagefactory_store::images::ImageQuery;

use crate::rest::Rest;
use crate::rest::answers::{self, Answer};
use crate::rest::problems::Problem;

const TEXT: &str = "text/plain; charset=utf-8";

/// Liveness.
pub(crate) fn alive() -> Answer {
    Ok(answers::with_type(StatusCode::OK, TEXT, Bytes::from_static(b"ok\n")))
}

/// Readiness: plugins were looked for, the store can be read, nobody stops the daemon.
pub(crate) async fn ready(rest: &Arc<Rest>) -> Answer {
    let waits = |why: &str| Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why));
    if rest.stopping.is_cancelled() {
        return waits("the factory is shutting down");
    }
    if !*rest.started.borrow() {
        return waits("plugins are being looked for");
    }
    rest.store().list(ImageQuery { limit: Some(1), ..ImageQuery::default() }).await?;
    Ok(answers::with_type(StatusCode::OK, TEXT, Bytes::from_static(b"ready\n")))
}
