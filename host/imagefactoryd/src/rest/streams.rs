//! Bodies that are sent while they arise: files piece by piece, lists, logs that grow, events.
//!
//! A task of its own feeds the body through a short queue. A client that reads slowly makes the
//! task wait, but not for ever: one that makes no room for a piece in [`PIECE_TIMEOUT`] has its
//! answer broken off. A client that leaves ends the task at its next piece.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;
use warp::reply::{Reply, Response};

/// Pieces on their way to one client.
const QUEUE_PIECES: usize = 4;

/// Longest wait for room for a piece: of a file (128 KiB) that is about 1 kB/s. The same patience
/// as for the whole connection; this one also sees a single stream of HTTP/2.
const PIECE_TIMEOUT: Duration = crate::stall::PATIENCE;

/// Where a task puts what is to be sent.
pub(crate) struct Sink {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    patience: Duration,
    /// The body ends with an error: the client must not take it for whole.
    is_broken: Arc<AtomicBool>,
}

impl Sink {
    /// Sends a piece; `false` when the client is gone, or as good as gone.
    pub(crate) async fn send(&self, piece: impl Into<Bytes>) -> bool {
        match tokio::time::timeout(self.patience, self.pieces.send(Ok(piece.into()))).await {
            Ok(sent) => sent.is_ok(),
            Err(_) => {
                tracing::debug!("an answer is broken off: its client reads too slowly");
                self.is_broken.store(true, Ordering::Release);
                false
            }
        }
    }

    /// Breaks the body off: the client sees that it is incomplete.
    pub(crate) async fn fail(&self, error: io::Error) {
        self.is_broken.store(true, Ordering::Release);
        // A client that is gone, or full, needs no reason.
        self.pieces.try_send(Err(error)).ok();
    }

    /// Returns when the client is gone.
    pub(crate) async fn closed(&self) {
        self.pieces.closed().await;
    }
}

/// A body and where its pieces go.
pub(crate) fn body() -> (Sink, Response) {
    let (sink, pieces) = pieces(PIECE_TIMEOUT);
    (sink, warp::reply::stream(pieces).into_response())
}

fn pieces(patience: Duration) -> (Sink, impl stream::Stream<Item = io::Result<Bytes>> + Send) {
    let (sender, mut receiver) = mpsc::channel(QUEUE_PIECES);
    let is_broken = Arc::new(AtomicBool::new(false));
    let sink = Sink { pieces: sender, patience, is_broken: Arc::clone(&is_broken) };
    let pieces = stream::poll_fn(move |context| match receiver.poll_recv(context) {
        Poll::Ready(None) if is_broken.swap(false, Ordering::AcqRel) => {
            Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())))
        }
        piece => piece,
    });
    (sink, pieces)
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn an_answer_that_is_not_read_is_broken_off_and_does_not_look_whole() {
        let (sink, pieces) = pieces(Duration::from_millis(50));
        let mut sent = 0;
        while sink.send("piece").await {
            sent += 1;
        }
        assert_eq!(sent, QUEUE_PIECES);
        drop(sink);
        let read: Vec<_> = pieces.collect().await;
        assert_eq!(read.len(), QUEUE_PIECES + 1);
        assert_eq!(read.last().unwrap().as_ref().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_whole_answer_ends_without_an_error_and_a_failed_one_with_one() {
        let (sink, whole) = pieces(Duration::from_secs(60));
        assert!(sink.send("piece").await);
        drop(sink);
        assert!(whole.map(|piece| piece.is_ok()).collect::<Vec<_>>().await == [true]);
        let (sink, failed) = pieces(Duration::from_secs(60));
        sink.fail(io::Error::other("no")).await;
        drop(sink);
        let failed: Vec<_> = failed.collect().await;
        assert!(failed[0].is_err());
    }
}
