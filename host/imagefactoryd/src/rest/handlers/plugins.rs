//! `/plugins`: what this factory offers, and why some of it is inactive.

use std::sync::Arc;

use hyper::http::StatusCode;
use imagefactory_registry::listing::{plugin_object, plugin_objects};
use serde_json::json;

use crate::rest::Rest;
use crate::rest::answers::{self, Answer};
use crate::rest::href;
use crate::rest::problems::Problem;
use crate::rest::request::Request;
use crate::rest::routes::Found;

/// `{"plugins": [{…}, …]}`.
pub(crate) async fn list(rest: &Arc<Rest>, request: &Request) -> Answer {
    rest.started().await;
    let objects = plugin_objects(&rest.dispatcher.registry(), |id| href_of(request, id));
    Ok(answers::json(StatusCode::OK, &json!({ "plugins": objects })))
}

/// One plugin: the object itself. Also at the doubled address that the document prints.
pub(crate) async fn show(rest: &Arc<Rest>, request: &Request, found: &Found) -> Answer {
    rest.started().await;
    let id = found.value("plugin_id");
    let is_doubled = found.has("again");
    let object = match is_doubled && found.value("again") != id {
        true => None,
        false => plugin_object(&rest.dispatcher.registry(), id, href_of(request, id)),
    };
    match object {
        Some(object) => Ok(answers::json(StatusCode::OK, &json!(object))),
        None => Err(Problem::not_found(format!("there is nothing at {}", found.path))),
    }
}

fn href_of(request: &Request, id: &str) -> String {
    href::at(request, &format!("/imagefactory/plugins/{id}"))
}
