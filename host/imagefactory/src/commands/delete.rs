//! `delete`: orders a deletion and stays until the image is gone, or its provider would not.

use imagefactory_dispatch::requests::CredentialsGiven;
use imagefactory_model::status::Status;
use serde_json::json;

use super::{Context, build};
use crate::cli::DeleteArguments;
use crate::error::CommandError;
use crate::factory::Removal;
use crate::inputs;
use crate::interrupt::Interrupt;
use crate::progress::Progress;

/// `delete UUID`. Ctrl-C leaves: a deletion that began goes on at the next start of a daemon.
pub(super) async fn delete(
    context: &Context,
    arguments: DeleteArguments,
) -> Result<u8, CommandError> {
    let interrupt = Interrupt::listen()?;
    let id = arguments.id;
    let removal = Removal {
        id,
        target: arguments.target,
        provider: arguments.provider.as_deref().map(inputs::provider).transpose()?,
        credentials: match &arguments.credentials {
            Some(argument) => inputs::credentials(argument)?,
            None => CredentialsGiven::Absent,
        },
        forget: arguments.forget,
        parameters: build::parameters_of(context, &arguments.parameters).await?,
    };
    context.factory.delete(removal).await?;
    if !context.output.is_json() {
        context.output.text(&format!("Deleting image with id {id}\n"))?;
    }
    let mut progress = Progress::new(false);
    while let Some(image) = context.factory.image(id).await? {
        progress.show(&image);
        if image.status == Status::DeleteFailed {
            progress.end();
            let why = image.error.unwrap_or_else(|| "its provider refused".to_owned());
            return Err(CommandError::NotDeleted { id, why });
        }
        tokio::select! {
            _ = context.factory.next_change() => {}
            () = interrupt.asked() => {
                progress.say("The deletion goes on when imagefactoryd runs");
                return Ok(interrupt.exit_status().unwrap_or_default());
            }
        }
    }
    progress.end();
    if context.output.is_json() {
        context.output.document(&json!({"identifier": id, "status": Status::Deleted}))?;
    }
    Ok(0)
}
