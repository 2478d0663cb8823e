//! Request bodies: read within the limit, then made [`Fields`] of, whatever their media type.
//!
//! - [`fields`]: the fields of one request
//! - [`json`], [`form`], [`multipart`], [`xml`]: one reader for each kind of body
//! - [`pem_blanks`]: what forms do to credentials

mod fields;
mod form;
mod json;
mod multipart;
mod pem_blanks;
mod xml;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use hyper::http::StatusCode;
use hyper::http::header::CONTENT_TYPE;

pub(crate) use self::fields::Fields;
pub(crate) use self::multipart::{Upload, UploadFolder};
use super::problems::Problem;
use super::request::{BodyStream, Request};

/// For a whole body of a few megabytes over a slow line.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// A request's body.
pub(crate) enum Payload {
    /// All of it.
    Whole(Bytes),
    /// More than the limit: only an upload may be.
    More {
        /// What was read.
        start: Bytes,
        /// What is still to come.
        rest: BodyStream,
    },
}

impl Payload {
    /// Refuses what is more than the limit.
    pub(crate) fn check_whole(&self, bytes_max: usize) -> Result<(), Problem> {
        match self {
            Payload::Whole(_) => Ok(()),
            Payload::More { .. } => Err(too_large(bytes_max)),
        }
    }

    /// What a signature can cover: an upload's body never is.
    pub(crate) fn signed_part(&self) -> &[u8] {
        match self {
            Payload::Whole(body) => body,
            Payload::More { .. } => &[],
        }
    }
}

pub(crate) fn too_large(bytes_max: usize) -> Problem {
    let detail = format!("the request's body is larger than {bytes_max} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        .with_hint("the limit is body_bytes_max in the configuration")
}

/// Reads a body up to `bytes_max`.
pub(crate) async fn read(mut body: BodyStream, bytes_max: usize) -> Result<Payload, Problem> {
    let reading = async {
        let mut start = BytesMut::new();
        while let Some(piece) = body.next().await {
            start.extend_from_slice(&piece.map_err(cut_off)?);
            if start.len() > bytes_max {
                return Ok::<_, Problem>((start.freeze(), true));
            }
        }
        Ok::<_, Problem>((start.freeze(), false))
    };
    let read = tokio::time::timeout(BODY_TIMEOUT, reading).await;
    match read.map_err(|_| too_slow())?? {
        (start, false) => Ok(Payload::Whole(start)),
        (start, true) => Ok(Payload::More { start, rest: body }),
    }
}

fn too_slow() -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, "the request's body did not arrive in time")
}

fn cut_off(_: warp::Error) -> Problem {
    Problem::bad_request("the request's body ended before it was complete")
}

/// Is the body multipart/form-data?
pub(crate) fn is_multipart(request: &Request) -> bool {
    media_type(request) == "multipart/form-data"
}

/// The media type in lower case without parameters; empty where there is none.
fn media_type(request: &Request) -> String {
    let value = request.header(&CONTENT_TYPE).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The fields of a body under `root` (`base_image`). An empty body has none.
pub(crate) async fn fields(
    request: &Request,
    payload: Payload,
    root: &str,
    uploads: Option<&UploadFolder<'_>>,
) -> Result<Fields, Problem> {
    let media_type = media_type(request);
    if media_type == "multipart/form-data" {
        let content_type = request.header(&CONTENT_TYPE).unwrap_or_default();
        return multipart::parse(content_type, payload, uploads).await;
    }
    let Payload::Whole(body) = payload else { return Err(too_large(0)) };
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Fields::default());
    }
    match media_type.as_str() {
        "application/x-www-form-urlencoded" => form::parse(&body),
        "application/xml" | "text/xml" => xml::parse(text(&body)?, root),
        "" | "application/json" | "text/json" => json::parse(&body, root),
        other if other.ends_with("+json") => json::parse(&body, root),
        other if other.ends_with("+xml") => xml::parse(text(&body)?, root),
        other => {
            let detail = format!("bodies of type {other:?} are not read here");
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).with_hint(
                "send application/json, application/xml, application/x-www-form-urlencoded or \
                 multipart/form-data",
            ))
        }
    }
}

/// The body itself, where it is XML (a template to be judged) and not fields.
pub(crate) fn xml_itself(request: &Request, payload: &Payload) -> Result<Option<String>, Problem> {
    let media_type = media_type(request);
    let is_xml = matches!(media_type.as_str(), "application/xml" | "text/xml")
        || media_type.ends_with("+xml");
    match payload {
        Payload::Whole(body) if is_xml => Ok(Some(text(body)?.to_owned())),
        _ => Ok(None),
    }
}

fn text(body: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(body).map_err(|error| {
        let at = error.valid_up_to();
        Problem::bad_request(format!("the body is not UTF-8: the byte at offset {at} is wrong"))
    })
}
