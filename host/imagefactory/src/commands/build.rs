//! `base_image`, `target_image`, `provider_image`: orders an image and stays until it is final,
//! with the images that are made on the way. Ctrl-C ends the builds and waits for their clean end.

use imagefactory_configuration::settings::Verbosity;
use imagefactory_dispatch::requests::MadeFrom;
use imagefactory_model::status::Status;
use uuid::Uuid;

use super::Context;
use crate::cli::{
    BaseImageArguments, ParameterFlags, ProviderImageArguments, SourceFlags, TargetImageArguments,
};
use crate::error::{CommandError, FAILED};
use crate::factory::{BuildOrder, LogPosition, Product, Taken};
use crate::image_view::ImageView;
use crate::inputs::{self, GivenParameters};
use crate::interrupt::Interrupt;
use crate::progress::Progress;

/// Base, target and provider image: no cascade has more.
const CASCADE_MAX: usize = 3;

/// `base_image TEMPLATE`.
pub(super) async fn base_image(
    context: &Context,
    arguments: &BaseImageArguments,
) -> Result<u8, CommandError> {
    let template = inputs::text(&arguments.template, "the template")?;
    let given = GivenParameters::read(&arguments.parameters)?;
    build(context, Product::Base { template }, given).await
}

/// `target_image TARGET`.
pub(super) async fn target_image(
    context: &Context,
    arguments: TargetImageArguments,
) -> Result<u8, CommandError> {
    let from = made_from(&arguments.source)?;
    let given = GivenParameters::read(&arguments.parameters)?;
    build(context, Product::Target { target: arguments.target, from }, given).await
}

/// `provider_image TARGET PROVIDER CREDENTIALS`.
pub(super) async fn provider_image(
    context: &Context,
    arguments: ProviderImageArguments,
) -> Result<u8, CommandError> {
    let from = made_from(&arguments.source)?;
    let provider = inputs::provider(&arguments.provider)?;
    let credentials = inputs::credentials(&arguments.credentials)?;
    let mut given = GivenParameters::read(&arguments.parameters)?;
    if arguments.snapshot {
        given.default_to("snapshot", true.into());
    }
    let target = arguments.target;
    build(context, Product::Provider { target, provider, credentials, from }, given).await
}

fn made_from(source: &SourceFlags) -> Result<MadeFrom, CommandError> {
    match (source.id, &source.template) {
        (Some(id), None) => Ok(MadeFrom::Image(id)),
        (None, Some(path)) => Ok(MadeFrom::Template(inputs::text(path, "the template")?)),
        // clap's group lets neither and both through to nobody.
        _ => Err(CommandError::Usage("either --id or --template is needed".to_owned())),
    }
}

/// The parameters, with types from the plugins' schemas where a text could be something else.
pub(super) async fn parameters(
    context: &Context,
    given: GivenParameters,
) -> Result<Option<serde_json::Map<String, serde_json::Value>>, CommandError> {
    let plugins = match given.need_schemas() {
        true => context.factory.plugins().await?,
        false => Vec::new(),
    };
    let schemas: Vec<_> =
        plugins.into_iter().map(|mut plugin| plugin["parameters_schema"].take()).collect();
    Ok(given.typed(&schemas))
}

/// As [`parameters`], of flags.
pub(super) async fn parameters_of(
    context: &Context,
    flags: &ParameterFlags,
) -> Result<Option<serde_json::Map<String, serde_json::Value>>, CommandError> {
    parameters(context, GivenParameters::read(flags)?).await
}

async fn build(
    context: &Context,
    product: Product,
    given: GivenParameters,
) -> Result<u8, CommandError> {
    let interrupt = Interrupt::listen()?;
    let by_template = !matches!(
        &product,
        Product::Target { from: MadeFrom::Image(_), .. }
            | Product::Provider { from: MadeFrom::Image(_), .. }
    );
    let parameters = parameters(context, given).await?;
    let taken = context.factory.order(BuildOrder { product, parameters }).await?;
    stay(context, taken, by_template, &interrupt).await
}

/// Stays until the ordered image is final, and says what became of it.
pub(super) async fn stay(
    context: &Context,
    taken: Taken,
    by_template: bool,
    interrupt: &Interrupt,
) -> Result<u8, CommandError> {
    for warning in taken.warnings {
        tracing::warn!("{warning}");
    }
    let command = taken.image.kind.name();
    let made = match by_template {
        true => cascade(context, &taken.image).await?,
        false => vec![taken.image.id],
    };
    let image = attend(context, &made, interrupt).await?;
    context.output.final_details(command, &image)?;
    Ok(match interrupt.exit_status() {
        Some(interrupted) if image.status != Status::Complete => interrupted,
        _ if image.status == Status::Complete => 0,
        _ => FAILED,
    })
}

/// The image and what it is made from, first the base image. All of them were ordered together.
async fn cascade(context: &Context, image: &ImageView) -> Result<Vec<Uuid>, CommandError> {
    let mut ids = vec![image.id];
    let mut parent = image.parent;
    while let Some(id) = parent.filter(|_| ids.len() < CASCADE_MAX) {
        ids.push(id);
        parent = context.factory.image(id).await?.and_then(|image| image.parent);
    }
    ids.reverse();
    Ok(ids)
}

/// Shows progress until all images are final, and answers the last one.
async fn attend(
    context: &Context,
    images: &[Uuid],
    interrupt: &Interrupt,
) -> Result<ImageView, CommandError> {
    let with_logs = context.verbosity != Verbosity::Normal;
    let mut progress = Progress::new(with_logs);
    let mut positions: Vec<LogPosition> = images.iter().map(|_| LogPosition::followed()).collect();
    let mut cancelled = false;
    // The store is ahead of the changes that wait to be heard: what it has shown is not taken back.
    let mut reached = vec![0; images.len()];
    loop {
        let mut open = 0;
        let mut last = None;
        for (index, (id, position)) in images.iter().zip(&mut positions).enumerate() {
            let image = look(context, *id).await?;
            reached[index] = stage_of_life(image.status);
            progress.show(&image);
            if with_logs {
                show_log(context, *id, position).await?;
            }
            open += usize::from(!image.status.is_final());
            last = Some(image);
        }
        if let Some(image) = last.filter(|_| open == 0) {
            progress.end();
            return Ok(image);
        }
        tokio::select! {
            change = context.factory.next_change() => {
                let known = change.and_then(|change| {
                    let index = images.iter().position(|id| *id == change.id)?;
                    (stage_of_life(change.status) >= reached[index]).then_some(change)
                });
                if let Some(image) = known {
                    progress.show(&image);
                }
            }
            () = interrupt.asked(), if !cancelled => {
                cancelled = true;
                progress.say("Ending the build; interrupt again to end at once");
                cancel_all(context, images).await;
            }
        }
    }
}

/// How far an image is in its life; its own process never sends it back.
fn stage_of_life(status: Status) -> u8 {
    match status {
        Status::New => 0,
        Status::Pending => 1,
        Status::Building => 2,
        Status::Complete | Status::Failed => 3,
        Status::Deleting => 4,
        Status::Deleted | Status::DeleteFailed => 5,
    }
}

/// The image as it is; one that somebody deletes meanwhile is gone for this command too.
async fn look(context: &Context, id: Uuid) -> Result<ImageView, CommandError> {
    context.factory.image(id).await?.ok_or(CommandError::NoSuchImage(id))
}

/// From the last to the first, so that none begins because its parent was ready.
async fn cancel_all(context: &Context, images: &[Uuid]) {
    for id in images.iter().rev() {
        // It may have become final this moment; then there is nothing to cancel.
        if let Err(error) = context.factory.cancel(*id).await {
            tracing::debug!("{}", error.report());
        }
    }
}

async fn show_log(
    context: &Context,
    id: Uuid,
    position: &mut LogPosition,
) -> Result<(), CommandError> {
    use std::io::Write;
    loop {
        let bytes = context.factory.log(id, position).await?;
        if bytes.is_empty() {
            return Ok(());
        }
        // Standard error is closed: there is nobody to tell.
        std::io::stderr().lock().write_all(&bytes).ok();
    }
}
