//! `import_base_image`: takes a finished disk image as a base image.

use super::{Context, build};
use crate::cli::ImportArguments;
use crate::error::CommandError;
use crate::factory::Import;
use crate::inputs;
use crate::interrupt::Interrupt;

/// `import_base_image FILE`. The same last lines as a build's.
pub(super) async fn import(
    context: &Context,
    arguments: ImportArguments,
) -> Result<u8, CommandError> {
    let template = arguments.template.as_deref();
    let import = Import {
        file: arguments.file,
        format: arguments.format,
        template: template.map(|path| inputs::text(path, "the template")).transpose()?,
        parameters: build::parameters_of(context, &arguments.parameters).await?,
    };
    let interrupt = Interrupt::listen()?;
    let taken = context.factory.import(import).await?;
    build::stay(context, taken, false, &interrupt).await
}
