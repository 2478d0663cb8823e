//! `/jeos`: the small ready-made images of providers, from which snapshot builds start.

use std::sync::Arc;

use hyper::http::StatusCode;
use serde_json::json;

use crate::rest::Rest;
use crate::rest::answers::{self, Answer};
use crate::rest::href;
use crate::rest::request::Request;

/// Where the images are.
pub(crate) fn show(request: &Request) -> Answer {
    let document = json!({"jeos": {
        "_type": "jeos",
        "href": href::at(request, "/imagefactory/jeos"),
        "images": href::at(request, "/imagefactory/jeos/images"),
    }});
    Ok(answers::json(StatusCode::OK, &document))
}

/// `{"images": [{target, provider, os, version, arch, image, user, cmd_prefix}]}`.
pub(crate) fn list(rest: &Arc<Rest>) -> Answer {
    let images = rest.jeos();
    let images: Vec<_> = images.all().collect();
    Ok(answers::json(StatusCode::OK, &json!({ "images": images })))
}
