//! Answers that say yes: JSON, text, nothing; and the `Warning` headers beside them.

use bytes::Bytes;
use hyper::http::header::{CONTENT_TYPE, LINK, WARNING};
use hyper::http::{HeaderValue, StatusCode};
use serde_json::Value;
use warp::reply::Response;

use super::problems::Problem;

/// What a handler answers.
pub(crate) type Answer = Result<Response, Problem>;

/// Warnings told of in one answer; a client that sends more has them in the log.
const WARNINGS_MAX: usize = 10;

/// Longest text of one warning.
const WARNING_CHARS_MAX: usize = 200;

/// A JSON document.
pub(crate) fn json(status: StatusCode, document: &Value) -> Response {
    json_bytes(status, document.to_string().into())
}

/// A JSON document that is text already.
pub(crate) fn json_bytes(status: StatusCode, document: Bytes) -> Response {
    with_type(status, "application/json", document)
}

/// Any content.
pub(crate) fn with_type(status: StatusCode, media_type: &'static str, content: Bytes) -> Response {
    let mut response = Response::new(content.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// 204.
pub(crate) fn no_content() -> Response {
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Adds `Warning: 299 imagefactory "…"` (RFC 7234 5.5), one for each.
pub(crate) fn warn(response: &mut Response, warnings: &[String]) {
    for warning in warnings.iter().take(WARNINGS_MAX) {
        let text: String = warning
            .chars()
            .take(WARNING_CHARS_MAX)
            .map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' })
            .map(|c| if matches!(c, '"' | '\\') { '\'' } else { c })
            .collect();
        // Only printable ASCII is left, which every header takes.
        if let Ok(value) = HeaderValue::from_str(&format!("299 imagefactory \"{text}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

/// Adds `Link: <…>; rel="next"`.
pub(crate) fn link_next(response: &mut Response, url: &str) {
    if let Ok(value) = HeaderValue::from_str(&format!("<{url}>; rel=\"next\"")) {
        response.headers_mut().insert(LINK, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_cannot_break_out_of_its_header() {
        let mut response = no_content();
        warn(&mut response, &["a\r\nSet-Cookie: b=\"c\" ü".to_owned()]);
        let value = response.headers().get(WARNING).unwrap().to_str().unwrap();
        assert_eq!(value, "299 imagefactory \"a??Set-Cookie: b='c' ?\"");
    }
}
