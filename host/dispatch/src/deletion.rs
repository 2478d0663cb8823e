//! Works on the deletion of an image: builds of it end first, then what is at its provider goes,
//! then its files, and its record last. A crash in between is repeated, never forgotten.

use imagefactory_model::image::ImageKind;
use imagefactory_model::order::{Order, OrderKind};
use imagefactory_model::status::Status;
use imagefactory_store::StoreError;
use imagefactory_store::images::ImageStep;
use tokio_util::sync::CancellationToken;

use crate::attempts::StageEnd;
use crate::build_log::BuildLog;
use crate::engine::Engine;
use crate::pipeline::provider_text;
use crate::stage_work::OrderContext;
use crate::work::{LOOK_AGAIN, error_text, too_often_interrupted};

/// IMGF_E_NOT_FOUND of status.h.
const NOT_FOUND: i32 = 5;

impl Engine {
    pub(crate) async fn work_on_deletion(
        &self,
        order: Order,
        cancel: CancellationToken,
    ) -> Result<(), StoreError> {
        let Some(image) = self.store.image(order.image_id).await? else {
            return self.close(&order).await;
        };
        match image.status {
            Status::Deleting => {}
            // A crash between the last step and the end of the record.
            Status::Deleted => return self.forget(&order).await,
            _ => {
                // Its own DELETEFAILED, recorded before a crash.
                if image.status.is_final() {
                    self.progress.write_meta(image).await;
                }
                return self.close(&order).await;
            }
        }
        self.wait_for_other_orders(&order, &cancel).await?;
        if self.stopping.is_cancelled() {
            return Ok(());
        }
        // The build that was cancelled may have left an identifier.
        let image = self.store.image(order.image_id).await?.unwrap_or(image);
        let log = BuildLog::open(&self.logs, image.id);
        let context = OrderContext { order, image, cancel, log };
        let removed = match too_often_interrupted(&context.order) {
            None => self.remove_from_provider(&context).await,
            Some(given_up) => Err(given_up),
        };
        match removed {
            Err(StageEnd::Stopped) => Ok(()),
            Err(StageEnd::Failed(failure)) => {
                let step = ImageStep {
                    status: Some(Status::DeleteFailed),
                    activity: Some("deletion failed".to_owned()),
                    error: Some(error_text(&failure)),
                    error_code: Some(failure.code.name().to_owned()),
                    ..ImageStep::default()
                };
                self.progress.step(context.image.id, step).await?;
                self.close(&context.order).await
            }
            Ok(()) => self.erase(context).await,
        }
    }

    /// A build that was cancelled for this deletion ends first, with its own clean-up.
    async fn wait_for_other_orders(
        &self,
        order: &Order,
        cancel: &CancellationToken,
    ) -> Result<(), StoreError> {
        loop {
            let closed = self.order_closed.notified();
            let others = self.store.open_orders_of(order.image_id).await?;
            if others.iter().all(|other| other.kind == OrderKind::Delete) {
                return Ok(());
            }
            tokio::select! {
                () = closed => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = cancel.cancelled() => return Ok(()),
            }
        }
    }

    /// What the plugins made outside goes first.
    async fn remove_from_provider(&self, context: &OrderContext) -> Result<(), StageEnd> {
        let image = &context.image;
        let on_provider =
            image.kind == ImageKind::ProviderImage && image.identifier_on_provider.is_some();
        let details = &context.order.deletion;
        if on_provider && !details.forget {
            let place = tokio::select! {
                place = self.places.remote(image.target.as_deref()) => place,
                () = context.cancel.cancelled() => return Err(self.ended_early()),
            };
            let target = details.target.clone().or_else(|| image.target.clone());
            let provider = details.provider.as_ref().or(image.provider.as_ref());
            let (target, provider) = (target.unwrap_or_default(), provider.map(provider_text));
            let deleted = self.delete_from_provider(context, target, provider).await;
            drop(place);
            match deleted {
                // Somebody else removed it: what was asked for is the case (cloud.h).
                Err(StageEnd::Failed(failure)) if failure.plugin_status == Some(NOT_FOUND) => {}
                deleted => deleted?,
            }
        }
        Ok(())
    }

    /// Files first, record last: a crash in between is repeated, never forgotten.
    async fn erase(&self, context: OrderContext) -> Result<(), StoreError> {
        let id = context.image.id;
        let stages = self.store.stages_of_image(id).await?;
        for stage in &stages {
            self.remove_stage(stage.id).await;
        }
        let step =
            ImageStep { activity: Some("deleted".to_owned()), ..ImageStep::to(Status::Deleted) };
        let order = context.order.clone();
        drop(context); // closes the log
        let (bodies, artifacts, logs) =
            (self.bodies.clone(), self.artifacts.clone(), self.logs.clone());
        let removed = tokio::task::spawn_blocking(move || {
            bodies.remove(id)?;
            artifacts.remove_all(id)?;
            logs.remove(id)
        });
        removed.await.map_err(|_| StoreError::Closed)??;
        self.progress.step(id, step).await?;
        self.forget(&order).await
    }

    /// The end of a DELETED image's record, its orders included.
    async fn forget(&self, order: &Order) -> Result<(), StoreError> {
        // Another deletion may have been ordered in the same moment.
        for other in self.store.open_orders_of(order.image_id).await? {
            self.forget_credentials(&other).await?;
        }
        self.forget_credentials(order).await?;
        self.store.forget(order.image_id).await?;
        self.order_closed.notify_waiters();
        Ok(())
    }
}
