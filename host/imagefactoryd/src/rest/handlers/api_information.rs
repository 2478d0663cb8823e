//! `/imagefactory`: name and version. `/imagefactory/openapi.json`: the API as a document.

use bytes::Bytes;
use hyper::http::StatusCode;

use crate::rest::answers::{self, Answer};
use crate::rest::openapi;

/// The API's version since 2012.
pub(crate) const API_VERSION: &str = "2.0";

/// The three words that every client asks for first.
pub(crate) fn show() -> Answer {
    const DOCUMENT: &str = concat!(
        r#"{"api_version":"2.0","name":"imagefactory","version":""#,
        env!("CARGO_PKG_VERSION"),
        "\"}"
    );
    Ok(answers::json_bytes(StatusCode::OK, Bytes::from_static(DOCUMENT.as_bytes())))
}

/// OpenAPI 3.1.
pub(crate) fn openapi() -> Answer {
    Ok(answers::json_bytes(StatusCode::OK, openapi::text()?))
}
