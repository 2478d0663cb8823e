//! The log of an image's build: as it is, or followed until the image is final.
//!
//! `?follow=true` sends what there is and then every line as it comes, as plain text, or as
//! server-sent events where the client asks for them. A log that is rotated meanwhile is read to
//! its end before the new one is begun.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use hyper::http::{HeaderValue, StatusCode};
use imagefactory_model::image::Image;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use crate::rest::Rest;
use crate::rest::accept;
use crate::rest::answers::{self, Answer};
use crate::rest::request::Request;
use crate::rest::routes::Found;
use crate::rest::streams::{self, Sink};

const TEXT: &str = "text/plain; charset=utf-8";

/// A growing file tells nobody that it grew; this is how late a line may be.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// One read.
const PIECE_BYTES: usize = 64 << 10;

/// GET …/log.
pub(crate) async fn send(rest: &Arc<Rest>, request: &Request, found: &Found) -> Answer {
    let image = super::images::located(rest, found).await?;
    let follows = request.query_flag("follow")?;
    let as_events = accept::wants_events(&request.headers);
    let paths = rest.dispatcher.logs().paths(image.id);
    if paths.is_empty() && !follows {
        // Nothing was logged yet, or ever.
        return Ok(answers::with_type(StatusCode::OK, TEXT, Bytes::new()));
    }
    let (sink, mut response) = streams::body();
    let mut log = Log { waiting: paths.into(), open: None, as_events, partial: BytesMut::new() };
    let rest = Arc::clone(rest);
    tokio::spawn(async move {
        let sent = if follows {
            log.follow(&rest, &image, &sink).await
        } else {
            log.drain(&sink).await.map(|_| ())
        };
        if let Err(error) = sent {
            sink.fail(error).await;
        }
    });
    if as_events {
        return Ok(super::events::as_events(response));
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// A log that is being read.
struct Log {
    waiting: VecDeque<PathBuf>,
    open: Option<(File, u64)>,
    as_events: bool,
    /// The begin of a line whose end is not there yet.
    partial: BytesMut,
}

impl Log {
    /// Sends until the image is final and its log is at its end.
    async fn follow(&mut self, rest: &Rest, image: &Image, sink: &Sink) -> io::Result<()> {
        loop {
            // Looked at before the file: what is written until then is read below.
            let status = rest.store().image(image.id).await.ok().flatten().map(|now| now.status);
            let is_over = status.is_none_or(|status| status.is_final());
            if !self.drain(sink).await? {
                return Ok(()); // the client is gone
            }
            if is_over || rest.stopping.is_cancelled() {
                if self.as_events {
                    let status = status.map_or("DELETED", |status| status.name());
                    sink.send(format!("event: end\ndata: {status}\n\n")).await;
                }
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = sink.closed() => return Ok(()),
                () = rest.stopping.cancelled() => {}
            }
            self.notice_rotation(rest, image).await;
        }
    }

    /// Sends what there is. `false`: the client is gone.
    async fn drain(&mut self, sink: &Sink) -> io::Result<bool> {
        loop {
            if self.open.is_none() {
                let Some(path) = self.waiting.pop_front() else { return Ok(true) };
                match File::open(path).await {
                    Ok(file) => {
                        let inode = file.metadata().await?.ino();
                        self.open = Some((file, inode));
                    }
                    // Rotated away in this moment: what it held is in the next one.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
            }
            let Some((file, _)) = self.open.as_mut() else { return Ok(true) };
            let mut piece = BytesMut::with_capacity(PIECE_BYTES);
            if file.read_buf(&mut piece).await? == 0 {
                if self.waiting.is_empty() {
                    return Ok(true);
                }
                self.open = None;
                continue;
            }
            let piece = if self.as_events { self.events(&piece) } else { piece.freeze() };
            if !piece.is_empty() && !sink.send(piece).await {
                return Ok(false);
            }
        }
    }

    /// Puts the new file behind the old one when the name belongs to another file now.
    async fn notice_rotation(&mut self, rest: &Rest, image: &Image) {
        let current = rest.dispatcher.logs().current(image.id);
        let Ok(metadata) = tokio::fs::metadata(&current).await else { return };
        let is_read = self.open.as_ref().is_some_and(|(_, inode)| *inode == metadata.ino());
        if !is_read && !self.waiting.contains(&current) {
            self.waiting.push_back(current);
        }
    }

    /// Whole lines as one event each.
    fn events(&mut self, piece: &[u8]) -> Bytes {
        /// A line that never ends is cut here.
        const LINE_BYTES_MAX: usize = 64 << 10;
        self.partial.extend_from_slice(piece);
        let mut events = BytesMut::new();
        while let Some(at) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line = self.partial.split_to(at + 1);
            events.extend_from_slice(b"data: ");
            // A carriage return would end the field.
            let line = line[..at].split(|byte| *byte == b'\r');
            line.for_each(|part| events.extend_from_slice(part));
            events.extend_from_slice(b"\n\n");
        }
        if self.partial.len() > LINE_BYTES_MAX {
            self.partial.clear();
        }
        events.freeze()
    }
}
