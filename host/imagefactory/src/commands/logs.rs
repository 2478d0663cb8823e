//! `logs`: the log of an image's build, as it was written, or as it is being written.

use uuid::Uuid;

use super::Context;
use crate::error::CommandError;
use crate::factory::LogPosition;

/// `logs UUID [--follow]`.
pub(super) async fn logs(context: &Context, id: Uuid, follow: bool) -> Result<u8, CommandError> {
    let mut position = if follow { LogPosition::followed() } else { LogPosition::start() };
    loop {
        // Looked at before the log is read: what is written before the end is read after it.
        let image = context.factory.image(id).await?;
        let is_final = match image {
            Some(image) => image.status.is_final(),
            None if position.bytes_read > 0 => true, // deleted while we read
            None => return Err(CommandError::NoSuchImage(id)),
        };
        loop {
            let bytes = context.factory.log(id, &mut position).await?;
            if bytes.is_empty() {
                break;
            }
            context.output.bytes(&bytes)?;
        }
        if is_final || !follow {
            return Ok(0);
        }
        context.factory.next_change().await;
    }
}
