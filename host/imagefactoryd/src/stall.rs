//! A deadline for clients that do not read: a connection whose peer takes nothing for a while ends.
//!
//! The kernel keeps little that was not sent yet ([`UNSENT_BYTES_MAX`]), so "takes something" comes
//! about with every such amount and not with megabytes, and 1,000 slow clients hold little memory.
//! What one stream of a fast HTTP/2 connection does not read is `rest/streams.rs`'s to end.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// Longest wait for a peer to take some bytes. A laptop that changes its network is back by then.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes that the kernel keeps unsent for one connection.
const UNSENT_BYTES_MAX: u32 = 128 << 10;

/// Asks the kernel to take no more than can be sent soon.
pub(crate) fn limit_unsent(tcp: &TcpStream) {
    // Refused by some exotic kernel: then slow clients are found later.
    socket2::SockRef::from(tcp).set_tcp_notsent_lowat(UNSENT_BYTES_MAX).ok();
}

/// A stream whose writing fails with `TimedOut` when its peer takes nothing for too long.
pub(crate) struct Stall<S> {
    stream: S,
    patience: Duration,
    /// Since the last write that was not taken.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Stall<S> {
    /// Ends `stream` after that.
    pub(crate) fn after(patience: Duration, stream: S) -> Stall<S> {
        Stall { stream, patience, deadline: None }
    }

    fn watched<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<Result<T>>,
    ) -> Poll<Result<T>> {
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(self.patience)));
        match deadline.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(Error::from(ErrorKind::TimedOut))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stall<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stall<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watched(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.watched(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.watched(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watched(context, ended)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::timeout;

    use super::*;

    const SHORT: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn who_reads_nothing_is_ended() {
        let (ours, theirs) = duplex(64);
        let mut stream = Stall::after(SHORT, ours);
        let written = timeout(SHORT * 50, stream.write_all(&[0; 200])).await.unwrap();
        assert_eq!(written.unwrap_err().kind(), ErrorKind::TimedOut);
        drop(theirs);
    }

    #[tokio::test]
    async fn who_reads_slowly_but_steadily_is_served_to_the_end() {
        let (ours, mut theirs) = duplex(64);
        let mut stream = Stall::after(SHORT, ours);
        let reader = tokio::spawn(async move {
            let (mut buffer, mut read) = ([0; 64], 0);
            while read < 640 {
                tokio::time::sleep(SHORT / 3).await;
                read += theirs.read(&mut buffer).await.unwrap();
            }
        });
        // Ten times as long as the patience in all.
        stream.write_all(&[0; 640]).await.unwrap();
        reader.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_without_anything_to_send_may_be_silent() {
        let (ours, mut theirs) = duplex(64);
        let mut stream = Stall::after(SHORT, ours);
        let mut buffer = [0; 64];
        for _ in 0..2 {
            stream.write_all(&[0; 64]).await.unwrap();
            tokio::time::sleep(SHORT * 3).await;
            theirs.read_exact(&mut buffer).await.unwrap();
        }
    }
}
