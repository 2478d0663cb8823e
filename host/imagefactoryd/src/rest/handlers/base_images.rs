//! POST of base images: built from a template, or imported as a finished disk image.

use std::sync::Arc;

use imagefactory_dispatch::requests::{Accepted, NewBaseImage};
use serde_json::Map;

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
    let uploads = UploadFolder { folder: &staging, text_bytes_max };
    let mut fields = bodies::fields(request, body, "base_image", Some(&uploads)).await?;
    if let Some(upload) = fields.take_upload() {
        if idempotency.is_some() {
            let detail = "an import cannot have an Idempotency-Key";
            return Err(Problem::bad_request(detail));
        }
        return import(rest, request, found, fields, upload).await;
    }
    let template = orders::template(&mut fields)?
        .ok_or_else(|| Problem::bad_request("'template' is missing: a base image needs one"))?;
    let options = orders::options(&mut fields, idempotency)?;
    let unknown = orders::unknown_fields(request, &fields)?;
    rest.started().await;
    let accepted = rest.dispatcher.build_base_image(NewBaseImage { template, options }).await?;
    orders::accepted(request, found, accepted, unknown)
}

/// The image is COMPLETE when this answers.
async fn import(
    rest: &Arc<Rest>,
    request: &Request,
    found: &Found,
    mut fields: Fields,
    upload: Upload,
) -> Answer {
    if upload.bytes == 0 {
        return Err(Problem::bad_request("'image_body' is empty"));
    }
    let template = orders::template(&mut fields)?;
    let parameters = fields.object("parameters")?;
    let refused = parameters.as_ref().map_or_else(|| Ok(Vec::new()), orders::callbacks)?;
    let unknown = orders::unknown_fields(request, &fields)?;
    let mut warnings = unknown;
    if !refused.is_empty() {
        warnings.push("an import is complete with its answer: no callbacks are sent".to_owned());
    }
    rest.started().await;
    let parameters = parameters.filter(|parameters| *parameters != Map::new());
    let format = format_of(&upload).await?;
    let image = rest
        .dispatcher
        .import_base_image(upload.path.clone(), format.to_owned(), template, parameters)
        .await?;
    let accepted = Accepted { image, replayed: false, warnings: Vec::new() };
    orders::accepted(request, found, accepted, warnings)
}

/// By its first bytes, as QEMU tells formats apart; everything else is a raw disk.
async fn format_of(upload: &Upload) -> Result<&'static str, Problem> {
    use tokio::io::AsyncReadExt;
    let mut magic = Vec::new();
    let file = tokio::fs::File::open(&upload.path).await;
    let read =
        file.map_err(|error| Problem::internal(&error))?.take(4).read_to_end(&mut magic).await;
    read.map_err(|error| Problem::internal(&error))?;
    Ok(match magic.as_slice() {
        b"QFI\xfb" => "qcow2",
        b"KDMV" => "vmdk",
        _ => "raw",
    })
}
