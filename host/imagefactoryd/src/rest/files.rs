//! Files as answers: ranges, `ETag`, `If-None-Match`, `If-Range`, HEAD (RFC 9110).
//!
//! Called for image bodies and artefacts, whose sha256 the store knows. One range is answered with
//! 206; several are answered with the whole file, as the RFC allows.

use std::io::{self, SeekFrom};
use std::path::PathBuf;

use bytes::BytesMut;
use hyper::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, IF_RANGE, RANGE,
};
use hyper::http::{HeaderValue, Method, StatusCode};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use warp::reply::Response;

use super::answers::Answer;
use super::problems::Problem;
use super::request::Request;
use super::streams::{self, Sink};

/// One read: large enough for a disk, small enough for many clients.
const PIECE_BYTES: usize = 128 << 10;

/// A file and what is known of it.
pub(crate) struct FileAnswer {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// Lower-case hex.
    pub(crate) sha256: String,
    /// `application/octet-stream`.
    pub(crate) media_type: String,
    /// What a browser calls it when it saves it.
    pub(crate) name: String,
}

/// Sends the file, or the part of it that is asked for.
pub(crate) async fn send(request: &Request, answer: FileAnswer) -> Answer {
    let mut file = File::open(&answer.path).await.map_err(|error| match error.kind() {
        // Deleted between the look at the record and now.
        io::ErrorKind::NotFound => Problem::not_found("the file is gone"),
        _ => Problem::internal(&error),
    })?;
    let bytes = file.metadata().await.map_err(|error| Problem::internal(&error))?.len();
    let etag = format!("\"{}\"", answer.sha256);
    if request.header(&IF_NONE_MATCH).is_some_and(|tags| names(tags, &etag)) {
        let mut response = super::answers::no_content();
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        insert(&mut response, ETAG, &etag);
        return Ok(response);
    }
    let is_same = request.header(&IF_RANGE).is_none_or(|tag| tag == etag);
    let asked = request.header(&RANGE).filter(|_| is_same);
    let (status, first, length) = match asked.map_or(Part::Whole, |range| part(range, bytes)) {
        Part::Whole => (StatusCode::OK, 0, bytes),
        Part::Bytes { first, length } => (StatusCode::PARTIAL_CONTENT, first, length),
        Part::Outside => {
            let detail = format!("the file has {bytes} bytes, and the range begins behind them");
            let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, detail);
            let range = HeaderValue::from_str(&format!("bytes */{bytes}"));
            return Err(match range {
                Ok(range) => problem.with_header(CONTENT_RANGE, range),
                Err(_) => problem,
            });
        }
    };
    let mut response = if request.method == Method::HEAD {
        super::answers::no_content()
    } else {
        file.seek(SeekFrom::Start(first)).await.map_err(|error| Problem::internal(&error))?;
        let (sink, response) = streams::body();
        tokio::spawn(pump(file, length, sink));
        response
    };
    *response.status_mut() = status;
    insert(&mut response, ACCEPT_RANGES, "bytes");
    insert(&mut response, ETAG, &etag);
    insert(&mut response, CONTENT_TYPE, &answer.media_type);
    insert(&mut response, CONTENT_LENGTH, &length.to_string());
    let disposition = format!("attachment; filename=\"{}\"", answer.name);
    insert(&mut response, CONTENT_DISPOSITION, &disposition);
    if status == StatusCode::PARTIAL_CONTENT {
        let last = first + length - 1;
        insert(&mut response, CONTENT_RANGE, &format!("bytes {first}-{last}/{bytes}"));
    }
    Ok(response)
}

fn insert(response: &mut Response, name: hyper::http::HeaderName, value: &str) {
    // A media type of a plugin may hold what no header takes; then the header is left out.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn names(tags: &str, etag: &str) -> bool {
    tags.split(',')
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

async fn pump(mut file: File, mut left: u64, sink: Sink) {
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let mut piece = BytesMut::with_capacity(wanted);
        let read = (&mut file).take(wanted as u64).read_buf(&mut piece).await;
        match read {
            Ok(0) => return sink.fail(io::ErrorKind::UnexpectedEof.into()).await,
            Ok(read) => left -= read as u64,
            Err(error) => return sink.fail(error).await,
        }
        if !sink.send(piece.freeze()).await {
            return;
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Bytes { first: u64, length: u64 },
    Outside,
}

/// What `Range` asks of a file of so many bytes. What is no valid single range of bytes is ignored.
fn part(range: &str, bytes: u64) -> Part {
    let Some((first, last)) = range.trim().strip_prefix("bytes=").and_then(|r| r.split_once('-'))
    else {
        return Part::Whole;
    };
    match (first.trim(), last.trim()) {
        ("", suffix) => match suffix.parse::<u64>() {
            Ok(0) => Part::Outside,
            Ok(length) if bytes > 0 => {
                let length = length.min(bytes);
                Part::Bytes { first: bytes - length, length }
            }
            Ok(_) => Part::Outside,
            Err(_) => Part::Whole,
        },
        (first, last) => {
            let Ok(first) = first.parse::<u64>() else { return Part::Whole };
            let last = match last {
                "" => u64::MAX,
                last => match last.parse::<u64>() {
                    Ok(last) if last >= first => last,
                    _ => return Part::Whole,
                },
            };
            if first >= bytes {
                return Part::Outside;
            }
            let length = last.min(bytes - 1) - first + 1;
            Part::Bytes { first, length }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_part(range: &str, bytes: u64, expected: Part) {
        assert_eq!(part(range, bytes), expected, "{range} of {bytes}");
    }

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        check_part("bytes=0-0", 10, Part::Bytes { first: 0, length: 1 });
        check_part("bytes=2-5", 10, Part::Bytes { first: 2, length: 4 });
        check_part("bytes=5-", 10, Part::Bytes { first: 5, length: 5 });
        check_part("bytes=-3", 10, Part::Bytes { first: 7, length: 3 });
        check_part("bytes=-30", 10, Part::Bytes { first: 0, length: 10 });
        check_part("bytes=8-99", 10, Part::Bytes { first: 8, length: 2 });
        check_part("bytes=10-", 10, Part::Outside);
        check_part("bytes=-0", 10, Part::Outside);
        check_part("bytes=0-", 0, Part::Outside);
        check_part("bytes=5-2", 10, Part::Whole);
        check_part("bytes=0-1,3-4", 10, Part::Whole);
        check_part("lines=0-1", 10, Part::Whole);
        check_part("bytes=99999999999999999999-", 10, Part::Whole);
    }
}
