//! `/leftovers`: what failed cleanups left at providers, and an operator's word to drop it.

use std::sync::Arc;

use hyper::http::StatusCode;
use imagefactory_store::StoreError;
use imagefactory_store::leftovers::Leftover;
use serde_json::{Value, json};

use crate::rest::Rest;
use crate::rest::answers::{self, Answer};
use crate::rest::href;
use crate::rest::problems::Problem;
use crate::rest::request::Request;
use crate::rest::routes::Found;

/// `{"leftovers": [{id, href, plugin, resources, tries, …}]}`, oldest first.
pub(crate) async fn list(rest: &Arc<Rest>, request: &Request) -> Answer {
    let mut listed = Vec::new();
    for leftover in rest.store().leftovers().await? {
        listed.push(document(rest, request, &leftover).await?);
    }
    Ok(answers::json(StatusCode::OK, &json!({ "leftovers": listed })))
}

/// 204: it is removed by hand, or nobody cares any more.
pub(crate) async fn drop_it(rest: &Arc<Rest>, found: &Found) -> Answer {
    let unknown = || Problem::not_found(format!("there is nothing at {}", found.path));
    let id = found.uuid("leftover_id").ok_or_else(unknown)?;
    match rest.store().drop_leftover(id).await? {
        true => {
            tracing::info!(leftover = %id, "dropped by an operator");
            Ok(answers::no_content())
        }
        false => Err(unknown()),
    }
}

async fn document(
    rest: &Rest,
    request: &Request,
    leftover: &Leftover,
) -> Result<Value, StoreError> {
    let outstanding = rest.store().outstanding(leftover.stage_id).await?;
    let mut document = leftover.document(&outstanding);
    let path = format!("/imagefactory/leftovers/{}", leftover.id);
    document["href"] = href::at(request, &path).into();
    Ok(document)
}
