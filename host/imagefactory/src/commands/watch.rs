//! `watch` and `cancel`: images that others build.

use std::collections::HashMap;

use imagefactory_model::status::Status;
use uuid::Uuid;

use super::Context;
use crate::error::{CommandError, FAILED};
use crate::fetch_spec::FetchSpec;
use crate::image_view::ImageView;

/// `cancel UUID`: asks; whoever works on the image ends it, `watch UUID` sees it end.
pub(super) async fn cancel(context: &Context, id: Uuid) -> Result<u8, CommandError> {
    context.factory.cancel(id).await?;
    if context.output.is_json() {
        let image = context.factory.image(id).await?.ok_or(CommandError::NoSuchImage(id))?;
        context.output.document(&image.document)?;
    } else {
        context.output.text(&format!("Cancelling image with id {id}\n"))?;
    }
    Ok(0)
}

/// `watch UUID`: until the image is final; exits as the build would.
pub(super) async fn one(context: &Context, id: Uuid) -> Result<u8, CommandError> {
    let mut before: Option<ImageView> = None;
    loop {
        let image = match (context.factory.image(id).await?, &before) {
            (Some(image), _) => image,
            (None, None) => return Err(CommandError::NoSuchImage(id)),
            (None, Some(_)) => {
                tell_gone(context, id)?;
                return Ok(0);
            }
        };
        tell(context, &image, before.as_ref())?;
        match image.status {
            Status::Complete => return Ok(0),
            Status::Failed | Status::DeleteFailed => return Ok(FAILED),
            _ => {}
        }
        before = Some(image);
        context.factory.next_change().await;
    }
}

/// `watch`: all images, until the process is ended. Those that are final at first are not told of.
pub(super) async fn all(context: &Context) -> Result<u8, CommandError> {
    let mut seen: HashMap<Uuid, ImageView> = HashMap::new();
    let mut is_first = true;
    loop {
        let images = context.factory.images(&FetchSpec::default()).await?;
        let mut gone = std::mem::take(&mut seen);
        for image in images {
            let before = gone.remove(&image.id);
            if !(is_first && image.status.is_final()) {
                tell(context, &image, before.as_ref())?;
            }
            seen.insert(image.id, image);
        }
        for id in gone.into_keys() {
            tell_gone(context, id)?;
        }
        is_first = false;
        context.factory.next_change().await;
    }
}

/// One line a change; JSON documents stand one on a line.
fn tell(
    context: &Context,
    image: &ImageView,
    before: Option<&ImageView>,
) -> Result<(), CommandError> {
    if before.is_some_and(|before| !image.tells_more_than(before)) {
        return Ok(());
    }
    match context.output.is_json() {
        true => context.output.document_line(&image.document),
        false => context.output.text(&format!("{}\n", image.line())),
    }
}

fn tell_gone(context: &Context, id: Uuid) -> Result<(), CommandError> {
    let status = Status::Deleted;
    match context.output.is_json() {
        true => {
            context.output.document_line(&serde_json::json!({"identifier": id, "status": status}))
        }
        false => context.output.text(&format!("image {id}: {status}\n")),
    }
}
