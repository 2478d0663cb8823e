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
use crate::leftovers::Why;
use crate::pipeline::provider_text;
use crate::places::Place;
use crate::plugins::ChosenPlugin;
use crate::stage_work::{OrderContext, StageWork};

/// A change that another process made (a command line beside the daemon) is not heard of, so a
/// waiting order looks again after so long.
pub(crate) const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(2);

/// First pause after the store failed; it doubles.
const STORE_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// Longest such pause: an operator who made room sees the work go on.
const STORE_PAUSE_MAX: std::time::Duration = std::time::Duration::from_secs(30);

impl Engine {
    /// Works on an order to its end. While the store fails (a full disk), it is tried again: what
    /// was accepted is not given up for that.
    pub(crate) async fn work_on(self: Arc<Self>, order: Order, cancel: CancellationToken) {
        let image = order.image_id;
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
    }

    async fn work_once(&self, order: &Order, cancel: &CancellationToken) -> Result<(), StoreError> {
        let (order, cancel) = (order.clone(), cancel.clone());
        match order.kind {
            OrderKind::Build | OrderKind::Snapshot | OrderKind::Import => {
                self.work_on_build(order, cancel).await
            }
            OrderKind::Delete => self.work_on_deletion(order, cancel).await,
            OrderKind::Cleanup => self.work_on_leftover(&order, &cancel).await,
        }
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
            if image.status == Status::Complete {
                self.leave_scratch(&order, &image).await?;
            }
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
            activity: Some(match context.order.kind {
                OrderKind::Import => "Importing the disk image".to_owned(),
                _ => format!("Building the {}", context.image.kind.title().to_lowercase()),
            }),
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
        let is_built = ended.is_ok();
        let last = match ended {
            Err(StageEnd::Stopped) => return Ok(()),
            Ok(built) => ImageStep {
                status: Some(Status::Complete),
                activity: Some(format!("{title} {} complete", done_word(&context.order))),
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
        if is_built {
            self.leave_scratch(&context.order, &context.image).await?;
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
                let error = format!(
                    "{} is gone; what it left outside has the token {}",
                    record.plugin_id, record.id
                );
                context.log.note(&error);
                let why = Why { error, scratch: false, given_up: false };
                self.leave(&context.order, &context.image, &record, why).await?;
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

    /// The order is final: its credentials and folders go, then it is closed.
    pub(crate) async fn close(&self, order: &Order) -> Result<(), StoreError> {
        for stage in self.store.stages_of(order.id).await? {
            self.store.release(stage.id).await?;
            self.remove_stage(stage.id).await;
        }
        self.forget_credentials(order).await?;
        if order.kind == OrderKind::Import {
            // Taken by then, where the image is complete.
            let (bodies, id) = (self.bodies.clone(), order.id);
            let forgotten = tokio::task::spawn_blocking(move || bodies.forget_staged(id));
            forgotten.await.map_err(|_| StoreError::Closed)??;
        }
        self.store.close(order.id).await?;
        self.order_closed.notify_waiters();
        Ok(())
    }

    pub(crate) async fn forget_credentials(&self, order: &Order) -> Result<(), StoreError> {
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
    pub(crate) fn ended_early(&self) -> StageEnd {
        if self.stopping.is_cancelled() {
            return StageEnd::Stopped;
        }
        StageEnd::Failed(StageFailure::new(FailureCode::Cancelled, "cancelled"))
    }
}

/// An order that dies with its factory again and again may be what kills it.
pub(crate) fn too_often_interrupted(order: &Order) -> Option<StageEnd> {
    let message = "the factory was killed while it worked on this";
    let failure = StageFailure::new(FailureCode::Interrupted, message);
    let row = order.interruptions;
    (row >= INTERRUPTIONS_MAX).then(|| given_up(failure, row))
}

fn done_word(order: &Order) -> &'static str {
    match order.kind {
        OrderKind::Import => "import",
        _ => "build",
    }
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
pub(crate) fn error_text(failure: &StageFailure) -> String {
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
