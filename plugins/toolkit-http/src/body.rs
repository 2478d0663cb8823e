//! What is sent: nothing, bytes, a range of a file, or what is made while it is sent. Each can be
//! begun again from its start, because a request may have to be repeated.
//!
//! Files and generators are read by a thread of their own, some pieces ahead of the network, so
//! that neither waits for the other and a slow disk holds up no other request.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;

use crate::attempt::Meter;
use crate::bandwidth::Bandwidth;

/// One read, one write: large enough that calls are not the cost, small enough for the cache.
const PIECE_BYTES: usize = 256 << 10;

/// Pieces read ahead: 1 MiB bridges a disk's pauses at the speed of the wire.
const PIECES_AHEAD: usize = 4;

type Open = Arc<dyn Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync>;

/// What a request sends. Clones share the content.
#[derive(Clone, Default)]
pub struct Body {
    content: Content,
}

#[derive(Clone, Default)]
enum Content {
    #[default]
    Nothing,
    Bytes(Bytes),
    Made {
        bytes: u64,
        open: Open,
    },
}

impl Body {
    /// These bytes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Body {
        Body { content: Content::Bytes(bytes.into()) }
    }

    /// A range of a file, which must not change meanwhile. Holes are sent as zeros.
    pub fn file_range(file: impl Into<Arc<File>>, range: Range<u64>) -> Body {
        let file = file.into();
        Body::made(range.end.saturating_sub(range.start), move || {
            Ok(Box::new(FileReader { file: file.clone(), at: range.start, end: range.end }))
        })
    }

    /// What `open` gives to read, `bytes` long. It is called again for each attempt and must give
    /// the same content each time.
    pub fn made(
        bytes: u64,
        open: impl Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync + 'static,
    ) -> Body {
        Body { content: Content::Made { bytes, open: Arc::new(open) } }
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        match &self.content {
            Content::Nothing => 0,
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Made { bytes, .. } => *bytes,
        }
    }

    /// Is there nothing to send?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Begins to read it, for one attempt. `None`: the request has no body at all.
    pub(crate) fn start(
        &self,
        meter: Arc<Meter>,
        bandwidth: Option<Arc<Bandwidth>>,
    ) -> Option<reqwest::Body> {
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
        let piece_bytes =
            bandwidth.as_ref().map_or(PIECE_BYTES, |limit| limit.piece_bytes(PIECE_BYTES));
        match self.content.clone() {
            Content::Nothing => return None,
            Content::Bytes(bytes) => {
                tokio::spawn(async move { cut(bytes, piece_bytes, &sender).await });
            }
            Content::Made { bytes, open } => {
                tokio::task::spawn_blocking(move || read_ahead(&open, bytes, piece_bytes, &sender));
            }
        }
        let state = (pieces, meter, bandwidth);
        let stream = stream::unfold(state, |(mut pieces, meter, bandwidth)| async move {
            let piece: io::Result<Bytes> = pieces.recv().await?;
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => {
                    meter.fail(error);
                    let told = io::Error::other("the body cannot be read");
                    return Some((Err(told), (pieces, meter, bandwidth)));
                }
            };
            if let Some(limit) = &bandwidth {
                limit.admit(piece.len()).await;
            }
            meter.sent(piece.len() as u64);
            Some((Ok(piece), (pieces, meter, bandwidth)))
        });
        Some(reqwest::Body::wrap_stream(stream))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        Body::bytes(bytes)
    }
}

impl From<String> for Body {
    fn from(text: String) -> Body {
        Body::bytes(text)
    }
}

async fn cut(mut bytes: Bytes, piece_bytes: usize, sender: &mpsc::Sender<io::Result<Bytes>>) {
    while !bytes.is_empty() {
        let piece = bytes.split_to(piece_bytes.min(bytes.len()));
        // Nobody listens any more: the attempt has ended.
        if sender.send(Ok(piece)).await.is_err() {
            return;
        }
    }
}

fn read_ahead(
    open: &Open,
    bytes: u64,
    piece_bytes: usize,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) {
    let mut left = bytes;
    let mut reader = match open() {
        Ok(reader) => reader,
        Err(error) => {
            sender.blocking_send(Err(error)).ok();
            return;
        }
    };
    while left > 0 {
        let mut piece = vec![0; piece_bytes.min(usize::try_from(left).unwrap_or(piece_bytes))];
        let read = reader.read_exact(&mut piece);
        left -= piece.len() as u64;
        let failed = read.is_err();
        // Nobody listens any more: the attempt has ended.
        if sender.blocking_send(read.map(|()| piece.into())).is_err() || failed {
            return;
        }
    }
}

struct FileReader {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for FileReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let wanted = into.len().min(left);
        let read = self.file.read_at(&mut into[..wanted], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
