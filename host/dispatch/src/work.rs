//! Works on one order from its beginning, or from where a crash left it, to its end.
//!
//! ```text
//!  NEW ─▶ PENDING: parent not finished ─▶ place free ─▶ BUILDING ─▶ pipeline ─▶ COMPLETE
//!                    │ parent failed                       │  └ shutdown: open, resumed later
//!                    └──────────────▶ FAILED ◀─────────────┘ product cleaned up
//! ```
//!
//! One task an order. It never decides what a build consists of; that is `pipeline.rs`.

use std::sync::Arc;

use imagefactory_model::image::{Image, ImageKind};
use imagefactory_model::order::{CredentialSource, Order, OrderKind};
use imagefactory_model::stage::{FailureCode, StageFailure};
use imagefactory_model::status::Status;
use imagefactory_store::StoreError;
use imagefactory_store::images::ImageStep;
use tokio_util::sync::CancellationToken;

use crate::attempts::{CleanUpEnd, INTERRUPTIONS_MAX, Leftover, StageEnd, given_up};
use crate::build_log::BuildLog;
use crate::engine::Engine;
use crate::pipeline::provider_text;
use crate::places::Place;
use crate::plugins::ChosenPlugin;
use crate::stage_work::{OrderContext, StageWork};

/// A change that another process made (a command line beside the daemon) is not heard of, so a
/// waiting order looks again after so long.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(2);

/// IMGF_E_NOT_FOUND of status.h.
const NOT_FOUND: i32 = 5;

/// First pause after the store failed; it doubles.
const STORE_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// Longest such pause: an operator who made room sees the work go on.
const STORE_PAUSE_MAX: std::time::Duration = std::time::Duration::from_secs(30);

impl Engine {
    /// Works on an order to its end. While the store fails (a full disk), it is tried again: what
    /// was accepted is not given up for that.
    pub(crate) async fn work_on(self: Arc<Self>, order: Order, cancel: CancellationToken) {
        let image = order.image_id;
        let heard = self.hear_cancel(order.id, cancel.clone());
        let working = async {
            let mut pause = STORE_PAUSE;
            while let Err(error) = self.work_once(&order, &cancel).await {
                tracing::error!(%image, "work on this image waits for the store: {error}: {:?}",
                    std::error::Error::source(&error));
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = STORE_PAUSE_MAX.min(pause * 2),
                    // Open orders are resumed at the next start.
                    () = self.stopping.cancelled() => return,
                }
            }
        };
        tokio::select! {
            () = working => {}
            () = heard => {} // never: it only cancels the token
        }
    }

    async fn work_once(&self, order: &Order, cancel: &CancellationToken) -> Result<(), StoreError> {
        let (order, cancel) = (order.clone(), cancel.clone());
        match order.kind {
            OrderKind::Build | OrderKind::Snapshot => self.work_on_build(order, cancel).await,
            OrderKind::Delete => self.work_on_deletion(order, cancel).await,
        }
    }

    /// Another process (a command line beside the daemon) can ask for the order to end only through
    /// the store. Never returns.
    async fn hear_cancel(&self, order: uuid::Uuid, cancel: CancellationToken) {
        while !cancel.is_cancelled() {
            tokio::time::sleep(LOOK_AGAIN).await;
            // A store that fails now is heard of by the work itself.
            if self.store.is_cancel_requested(order).await.unwrap_or(false) {
                cancel.cancel();
            }
        }
        std::future::pending().await
    }

    async fn work_on_build(
        &self,
        order: Order,
        cancel: CancellationToken,
    ) -> Result<(), StoreError> {
        let Some(image) = self.store.image(order.image_id).await? else {
            return self.close(&order).await;
        };
        if image.status.is_final() {
            // A crash between the last step and the closing of the order.
            self.progress.write_meta(image).await;
            return self.close(&order).await;
        }
        let log = BuildLog::open(&self.logs, image.id);
        let context = OrderContext { order, image, cancel, log };
        if context.image.status == Status::Deleting {
            // A crash between the order to delete and the end of the build.
            return self.end_for_deletion(&context).await;
        }
        let ended = match too_often_interrupted(&context.order) {
            None => self.build_in_turn(&context).await,
            Some(given_up) => Err(given_up),
        };
        self.finish_build(&context, ended).await
    }

    /// Waits for what must be waited for, then builds.
    async fn build_in_turn(&self, context: &OrderContext) -> Result<ImageStep, StageEnd> {
        if context.image.status != Status::Pending {
            let waiting = if context.image.status == Status::Building {
                "Resuming after an interruption"
            } else {
                "Waiting for a place to build"
            };
            self.step(context, Status::Pending, waiting).await?;
        }
        self.wait_for_parent(context).await?;
        let place = tokio::select! {
            place = self.place_for(&context.image) => place,
            () = context.cancel.cancelled() => return Err(self.ended_early()),
        };
        let attempt = context.image.attempt + 1;
        let begun = ImageStep {
            activity: Some(format!("Building the {}", context.image.kind.title().to_lowercase())),
            attempt: Some(attempt),
            ..ImageStep::to(Status::Building)
        };
        let image = self.progress.step(context.image.id, begun).await?;
        let context = OrderContext { image, ..context.clone() };
        if attempt > 1 {
            context.log.note(&format!("attempt {attempt}"));
        }
        let built = self.build(&context).await;
        drop(place);
        built
    }

    async fn finish_build(
        &self,
        context: &OrderContext,
        ended: Result<ImageStep, StageEnd>,
    ) -> Result<(), StoreError> {
        let title = context.image.kind.title();
        let last = match ended {
            Err(StageEnd::Stopped) => return Ok(()),
            Ok(built) => ImageStep {
                status: Some(Status::Complete),
                activity: Some(format!("{title} build complete")),
                percent_complete: Some(100),
                ..built
            },
            Err(StageEnd::Failed(failure)) => {
                match self.remove_products(context).await {
                    Ok(()) => {}
                    Err(CleanUpEnd::Stopped) => return Ok(()),
                    Err(CleanUpEnd::Store(error)) => return Err(error),
                }
                self.remove_body(context).await;
                failed_step(title, &failure)
            }
        };
        match self.progress.step(context.image.id, last).await {
            Ok(_) => {}
            // A deletion was ordered meanwhile: it has the last word.
            Err(StoreError::Transition { from: Status::Deleting, .. }) => {
                return self.end_for_deletion(context).await;
            }
            Err(error) => return Err(error),
        }
        self.close(&context.order).await
    }

    /// The image is being deleted. What the build made outside is not recorded with the image, so
    /// nobody else would remove it.
    async fn end_for_deletion(&self, context: &OrderContext) -> Result<(), StoreError> {
        match self.remove_products(context).await {
            Ok(()) => self.close(&context.order).await,
            Err(CleanUpEnd::Stopped) => Ok(()),
            Err(CleanUpEnd::Store(error)) => Err(error),
        }
    }

    /// What stages of this order made outside and nobody will take over: removed by their plugins.
    async fn remove_products(&self, context: &OrderContext) -> Result<(), CleanUpEnd> {
        for record in self.store.stages_of(context.order.id).await? {
            if self.store.outstanding(record.id).await?.is_empty() {
                continue;
            }
            let registry = self.registry.load();
            let chosen = registry
                .entry(&record.plugin_id)
                .and_then(|entry| ChosenPlugin::choose(&registry, entry, &self.configuration).ok());
            let Some(plugin) = chosen else {
                context.log.note(&format!(
                    "{} is gone; what it left outside has the token {}",
                    record.plugin_id, record.id
                ));
                continue;
            };
            let work = StageWork {
                step: record.step.clone(),
                operation: imagefactory_model::stage::Operation::Cleanup,
                plugin: Arc::new(plugin),
                percent: 0..0,
                input_image: None,
                reserve_bytes: 0,
                template: None,
                images: serde_json::Map::new(),
                target: context.image.target.clone(),
                provider: context.image.provider.as_ref().map(provider_text),
                target_contents: Vec::new(),
                credentials: true,
            };
            self.clean_up(context, &work, &record, Leftover::Everything).await?;
        }
        Ok(())
    }

    /// A failed image has no body, even when a later stage than the one that made it failed.
    async fn remove_body(&self, context: &OrderContext) {
        let (bodies, image) = (self.bodies.clone(), context.image.id);
        let removed = tokio::task::spawn_blocking(move || bodies.remove(image)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(%image, "{error}");
        }
    }

    /// Waits until the image that this one is made from is finished.
    async fn wait_for_parent(&self, context: &OrderContext) -> Result<(), StageEnd> {
        let Some(parent) = context.image.parent else { return Ok(()) };
        // Listen first, look then: no change can fall between.
        let mut changes = self.changes.listen();
        let mut told = false;
        loop {
            match self.store.image(parent).await? {
                None => return Err(parent_failed(context, "is gone")),
                Some(image) => match image.status {
                    Status::Complete => return Ok(()),
                    Status::Failed => {
                        let error = image.status_detail.error.unwrap_or_default();
                        let first = error.lines().next().unwrap_or_default();
                        return Err(parent_failed(context, &format!("failed: {first}")));
                    }
                    Status::Deleting | Status::Deleted | Status::DeleteFailed => {
                        return Err(parent_failed(context, "is being deleted"));
                    }
                    Status::New | Status::Pending | Status::Building => {
                        if !told {
                            let waiting = format!("Waiting for {} {parent}", image.kind.name());
                            let step =
                                ImageStep { activity: Some(waiting), ..ImageStep::default() };
                            self.progress.step(context.image.id, step).await?;
                            told = true;
                        }
                    }
                },
            }
            let heard = async {
                loop {
                    match changes.recv().await {
                        Ok(change) if change.image.id == parent && change.status_changed => return,
                        Ok(_) => {}
                        // Behind (or closed): look.
                        Err(_) => return,
                    }
                }
            };
            tokio::select! {
                () = heard => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = context.cancel.cancelled() => return Err(self.ended_early()),
            }
        }
    }

    async fn place_for(&self, image: &Image) -> Place {
        match image.kind {
            ImageKind::BaseImage | ImageKind::TargetImage => self.places.local().await,
            ImageKind::ProviderImage => self.places.remote(image.target.as_deref()).await,
        }
    }

    async fn work_on_deletion(
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

    /// The order is final: its credentials and folders go, then it is closed.
    async fn close(&self, order: &Order) -> Result<(), StoreError> {
        for stage in self.store.stages_of(order.id).await? {
            self.store.release(stage.id).await?;
            self.remove_stage(stage.id).await;
        }
        self.forget_credentials(order).await?;
        self.store.close(order.id).await?;
        self.order_closed.notify_waiters();
        Ok(())
    }

    async fn forget_credentials(&self, order: &Order) -> Result<(), StoreError> {
        if order.credentials != CredentialSource::Sealed {
            return Ok(());
        }
        let (vault, order) = (self.vault.clone(), order.id);
        tokio::task::spawn_blocking(move || vault.forget(order))
            .await
            .map_err(|_| StoreError::Closed)?
    }

    async fn step(
        &self,
        context: &OrderContext,
        status: Status,
        activity: &str,
    ) -> Result<(), StageEnd> {
        let step = ImageStep { activity: Some(activity.to_owned()), ..ImageStep::to(status) };
        self.progress.step(context.image.id, step).await?;
        Ok(())
    }

    /// Cancelled by a client, or by the shutdown?
    fn ended_early(&self) -> StageEnd {
        if self.stopping.is_cancelled() {
            return StageEnd::Stopped;
        }
        StageEnd::Failed(StageFailure::new(FailureCode::Cancelled, "cancelled"))
    }
}

/// An order that dies with its factory again and again may be what kills it.
fn too_often_interrupted(order: &Order) -> Option<StageEnd> {
    let message = "the factory was killed while it worked on this";
    let failure = StageFailure::new(FailureCode::Interrupted, message);
    let row = order.interruptions;
    (row >= INTERRUPTIONS_MAX).then(|| given_up(failure, row))
}

fn parent_failed(context: &OrderContext, what: &str) -> StageEnd {
    let parent = match context.image.kind {
        ImageKind::ProviderImage => "target image",
        ImageKind::BaseImage | ImageKind::TargetImage => "base image",
    };
    let message = format!("the {parent} that it was to be made from {what}");
    StageEnd::Failed(StageFailure::new(FailureCode::UserRequest, message))
}

fn failed_step(title: &str, failure: &StageFailure) -> ImageStep {
    ImageStep {
        status: Some(Status::Failed),
        activity: Some(format!("{title} build failed with exception")),
        error: Some(error_text(failure)),
        error_code: Some(failure.code.name().to_owned()),
        ..ImageStep::default()
    }
}

/// The sentence, then the last lines of the log; for a cancelled order the one word that clients
/// look for (rest-contract.md).
fn error_text(failure: &StageFailure) -> String {
    if failure.code == FailureCode::Cancelled {
        return failure.code.name().to_owned();
    }
    let mut text = failure.to_string();
    for line in &failure.log_tail {
        text.push('\n');
        text.push_str(line);
    }
    text
}
