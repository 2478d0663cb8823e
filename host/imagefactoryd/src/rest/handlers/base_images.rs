//! POST of base images: built from a template, or imported as a finished disk image.

use std::sync::Arc;

use imagefactory_dispatch::requests::{NewBaseImage, NewImport, OrderOptions};

use crate::rest::Rest;
use crate::rest::answers::Answer;
use crate::rest::bodies::{self, Fields, Payload, Upload, UploadFolder};
use crate::rest::orders;
use crate::rest::problems::Problem;
use crate::rest::request::Request;
use crate::rest::routes::Found;

/// 202 with the new base image.
pub(crate) async fn create(
    rest: &Arc<Rest>,
    request: &Request,
    found: &Found,
    body: Payload,
) -> Answer {
    let idempotency = orders::idempotency(request, found, &body)?;
    let (staging, text_bytes_max) = (rest.layout.staging(), rest.rules.body_bytes_max);
    let uploads = UploadFolder { folder: &staging, text_bytes_max, hashed: idempotency.is_some() };
    let mut fields = bodies::fields(request, body, "base_image", Some(&uploads)).await?;
    if let Some(upload) = fields.take_upload() {
        let options = orders::options(&mut fields, idempotency)?;
        return import(rest, request, found, (fields, upload, options)).await;
    }
    let template = orders::template(&mut fields)?
        .ok_or_else(|| Problem::bad_request("'template' is missing: a base image needs one"))?;
    let options = orders::options(&mut fields, idempotency)?;
    let unknown = orders::unknown_fields(request, &fields)?;
    rest.started().await;
    let accepted = rest.dispatcher.build_base_image(NewBaseImage { template, options }).await?;
    orders::accepted(request, found, accepted, unknown)
}

/// An order like any other; its file is in the store by now.
async fn import(
    rest: &Arc<Rest>,
    request: &Request,
    found: &Found,
    (mut fields, upload, options): (Fields, Upload, OrderOptions),
) -> Answer {
    let template = orders::template(&mut fields)?;
    let format = fields.text("format")?.map(|format| format.trim().to_owned());
    let unknown = orders::unknown_fields(request, &fields)?;
    rest.started().await;
    // `upload` removes what is still at its old name, whatever happens.
    let new = NewImport { file: upload.path.clone(), format, template, options };
    let accepted = rest.dispatcher.import_base_image(new).await?;
    orders::accepted(request, found, accepted, unknown)
}
