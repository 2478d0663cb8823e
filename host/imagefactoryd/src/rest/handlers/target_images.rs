//! POST of target images.

use std::sync::Arc;

use imagefactory_dispatch::requests::NewTargetImage;
use imagefactory_model::image::ImageKind;

use crate::rest::Rest;
use crate::rest::answers::Answer;
use crate::rest::bodies::{self, Payload};
use crate::rest::orders;
use crate::rest::problems::Problem;
use crate::rest::request::Request;
use crate::rest::routes::Found;

/// 202 with the new target image.
pub(crate) async fn create(
    rest: &Arc<Rest>,
    request: &Request,
    found: &Found,
    body: Payload,
) -> Answer {
    let idempotency = orders::idempotency(request, found, &body)?;
    let in_path = super::images::parent_in_path(found, "base_image_id", ImageKind::BaseImage)?;
    let mut fields = bodies::fields(request, body, "target_image", None).await?;
    let target = fields.text("target")?.map(|target| target.trim().to_owned());
    let target = target
        .ok_or_else(|| Problem::bad_request("'target' is missing: a target image needs one"))?;
    let from = orders::made_from(&mut fields, "base_image_id", in_path)?;
    let options = orders::options(&mut fields, idempotency)?;
    let unknown = orders::unknown_fields(request, &fields)?;
    rest.started().await;
    let new = NewTargetImage { target, from, options };
    let accepted = rest.dispatcher.build_target_image(new).await?;
    orders::accepted(request, found, accepted, unknown)
}
