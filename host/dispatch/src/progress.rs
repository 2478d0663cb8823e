//! The one place where an image's state changes: recorded first, then published.
//!
//! Everything else computes an [`ImageStep`] and hands it here. A client that reacts to a callback
//! or an event must find the new state in the store, so nothing is published before it is recorded.

use std::sync::Arc;

use imagefactory_model::change::Change;
use imagefactory_model::image::Image;
use imagefactory_notifications::events::Changes;
use imagefactory_store::images::ImageStep;
use imagefactory_store::layout::StoreLayout;
use imagefactory_store::{ImageStore, StoreError, meta};
use uuid::Uuid;

/// Records steps and tells of them. Cheap to clone.
#[derive(Clone)]
pub struct ProgressRecorder {
    store: Arc<dyn ImageStore>,
    layout: StoreLayout,
    changes: Changes,
}

impl std::fmt::Debug for ProgressRecorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProgressRecorder").finish_non_exhaustive()
    }
}

impl ProgressRecorder {
    /// Records into `store` and tells `changes`.
    pub fn new(store: Arc<dyn ImageStore>, layout: StoreLayout, changes: Changes) -> Self {
        ProgressRecorder { store, layout, changes }
    }

    /// Records one step of one image, then publishes it. When the image becomes final its `.meta`
    /// file is written before anybody hears of it.
    pub async fn step(&self, id: Uuid, step: ImageStep) -> Result<Image, StoreError> {
        let change = self.store.step(id, step).await?;
        if change.status_changed {
            let image = &change.image;
            tracing::info!(
                image = %image.id, kind = image.kind.name(), status = %image.status,
                "{}", image.status_detail.error.as_deref().and_then(|text| text.lines().next())
                    .unwrap_or(&image.status_detail.activity)
            );
            if image.status.is_final()
                && image.status != imagefactory_model::status::Status::Deleted
            {
                self.write_meta(image.clone()).await;
            }
        }
        let image = change.image.clone();
        self.changes.publish(change);
        Ok(image)
    }

    /// An image that was just submitted: told to watchers (callbacks do not hear of NEW).
    pub fn announce(&self, image: &Image) {
        self.changes.publish(Change { image: image.clone(), status_changed: true });
    }

    /// Writes the `.meta` file of a final image. SQL is the truth; a file that cannot be written is
    /// a warning for the operator. Recovery calls it where a crash came between the record and the
    /// file.
    pub(crate) async fn write_meta(&self, image: Image) {
        let layout = self.layout.clone();
        let id = image.id;
        let written = tokio::task::spawn_blocking(move || meta::write(&layout, &image)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(image = %id, "{error}: {:?}", std::error::Error::source(&error));
        }
    }
}
