//! Bodies that are sent while they arise: files piece by piece, logs that grow, events.
//!
//! A task of its own feeds the body through a short queue. A client that reads slowly makes the
//! task wait; a client that leaves ends it at its next piece.

use std::io;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;
use warp::reply::{Reply, Response};

/// Pieces on their way to one client.
const QUEUE_PIECES: usize = 4;

/// Where a task puts what is to be sent.
pub(crate) struct Sink(mpsc::Sender<io::Result<Bytes>>);

impl Sink {
    /// Sends a piece; `false` when the client is gone.
    pub(crate) async fn send(&self, piece: impl Into<Bytes>) -> bool {
        self.0.send(Ok(piece.into())).await.is_ok()
    }

    /// Breaks the body off: the client sees that it is incomplete.
    pub(crate) async fn fail(&self, error: io::Error) {
        // A client that is gone needs no failure.
        self.0.send(Err(error)).await.ok();
    }

    /// Returns when the client is gone.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }
}

/// A body and where its pieces go.
pub(crate) fn body() -> (Sink, Response) {
    let (sender, mut pieces) = mpsc::channel(QUEUE_PIECES);
    let pieces = stream::poll_fn(move |context| pieces.poll_recv(context));
    (Sink(sender), warp::reply::stream(pieces).into_response())
}
