//! A deadline for the first bytes of a connection, which tell HTTP/1.1 from HTTP/2.
//!
//! hyper-util waits for them without one (its header timeout begins only afterwards), so a crowd of
//! silent connections would hold every place for ever. What comes later is hyper's to limit.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How every HTTP/2 connection begins (RFC 9113 3.4).
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose reading fails with `TimedOut` when it has not said its protocol in time.
pub(crate) struct Preface<S> {
    stream: S,
    /// Bytes of [`HTTP2`] that were read, and the deadline; `None` when the protocol is known.
    unsaid: Option<(usize, Pin<Box<Sleep>>)>,
}

impl<S> Preface<S> {
    /// The time begins now.
    pub(crate) fn within(patience: Duration, stream: S) -> Preface<S> {
        Preface { stream, unsaid: Some((0, Box::pin(sleep(patience)))) }
    }

    /// Is the protocol known after these bytes?
    fn heard(&mut self, bytes: &[u8]) {
        let Some((said, _)) = &mut self.unsaid else { return };
        let expected = &HTTP2[*said..];
        if bytes.len() < expected.len() && expected.starts_with(bytes) {
            *said += bytes.len();
        } else {
            self.unsaid = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Preface<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        if let Some((_, deadline)) = &mut self.unsaid
            && deadline.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(Error::from(ErrorKind::TimedOut)));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.heard(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Preface<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(50);

    /// Says some bytes and nothing more: is the connection ended, or waited for?
    async fn is_waited_for(said: &[&[u8]]) -> bool {
        let (ours, mut theirs) = duplex(64);
        let mut stream = Preface::within(PATIENCE, ours);
        let mut buffer = [0; 64];
        for bytes in said {
            theirs.write_all(bytes).await.unwrap();
            assert_eq!(stream.read(&mut buffer).await.unwrap(), bytes.len());
        }
        match tokio::time::timeout(PATIENCE * 4, stream.read(&mut buffer)).await {
            Err(_) => true,
            Ok(ended) => {
                assert_eq!(ended.unwrap_err().kind(), ErrorKind::TimedOut);
                false
            }
        }
    }

    #[tokio::test]
    async fn only_who_has_said_the_protocol_is_waited_for() {
        assert!(!is_waited_for(&[]).await);
        assert!(!is_waited_for(&[b"P"]).await);
        assert!(!is_waited_for(&[b"PRI * HTTP", b"/2.0\r\n\r\nSM\r\n\r"]).await);
        assert!(is_waited_for(&[b"PRI * HTTP", b"/2.0\r\n\r\nSM\r\n\r\n"]).await);
        assert!(is_waited_for(&[b"G"]).await);
        assert!(is_waited_for(&[b"P", b"OST"]).await);
        assert!(is_waited_for(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nand frames"]).await);
    }
}
