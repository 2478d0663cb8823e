//! The body of a finished image, as a file.

use std::sync::Arc;

use imagefactory_model::status::Status;

use crate::rest::Rest;
use crate::rest::answers::Answer;
use crate::rest::files::{self, FileAnswer};
use crate::rest::problems::Problem;
use crate::rest::request::Request;
use crate::rest::routes::Found;

/// GET …/raw_image.
pub(crate) async fn send(rest: &Arc<Rest>, request: &Request, found: &Found) -> Answer {
    let image = super::images::located(rest, found).await?;
    if image.status != Status::Complete {
        let detail = format!("image {} is {}: it has no body to send", image.id, image.status);
        return Err(Problem::conflict(detail));
    }
    let Some(body) = image.body else {
        let detail = format!("image {} has no body here: it is on its provider", image.id);
        return Err(Problem::not_found(detail));
    };
    let file = FileAnswer {
        path: rest.dispatcher.bodies().path(image.id),
        sha256: body.sha256,
        media_type: "application/octet-stream".to_owned(),
        name: format!("{}.{}", image.id, body.format),
    };
    files::send(request, file).await
}
