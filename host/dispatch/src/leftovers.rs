//! What a cleanup could not remove from outside, tried again until it is gone.
//!
//! ```text
//! cleanup failed ─▶ leftover and its order recorded ─▶ due ─▶ cleanup by a fresh process ─▶ gone
//!                                                      ▲  └ failed: pause, doubling ┘ │
//!                                     dropped by an operator ─▶ gone    given up ◀────┘
//! ```
//!
//! The order that failed is long final by then: its image may be gone, its credentials are sealed
//! anew for this. A daemon adopts these orders like those of the dead, also from command lines.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use imagefactory_model::image::{Destination, Image};
use imagefactory_model::order::{CredentialSource, Order, OrderKind};
use imagefactory_model::stage::{JournalEntry, Operation, StageFailure};
use imagefactory_store::StoreError;
use imagefactory_store::leftovers::Leftover;
use imagefactory_store::stages::{AttemptEnd, StageRecord};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::build_log::BuildLog;
use crate::engine::Engine;
use crate::pipeline::provider_text;
use crate::plugins::ChosenPlugin;
use crate::stage_work::{OrderContext, StageWork};

/// First pause; it doubles. A provider that hiccups is back by then.
const PAUSE: Duration = Duration::from_secs(5);

/// Longest pause: an operator who mended something sees it happen within the hour.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// With the pauses above the last try is about three days after the first: a weekend.
const TRIES_MAX: u32 = 80;

/// Why something is still outside.
pub(crate) struct Why {
    /// The sentence.
    pub(crate) error: String,
    /// Helpers only; the product is wanted.
    pub(crate) scratch: bool,
    /// Trying again cannot help.
    pub(crate) given_up: bool,
}

/// What came of one try.
enum Tried {
    Gone,
    Failed(String),
    Stopped,
}

impl Engine {
    /// Records that a stage left something outside, durably; somebody tries to remove it from now
    /// on. Once for each stage, however often it is called.
    pub(crate) async fn leave(
        &self,
        order: &Order,
        image: &Image,
        record: &StageRecord,
        why: Why,
    ) -> Result<(), StoreError> {
        let id = Uuid::new_v4();
        let credentials = self.credentials_for(order, id).await?;
        let is_sealed = credentials == CredentialSource::Sealed;
        // Nobody's: a daemon adopts it within seconds.
        let cleanup = Order { id, credentials, owner: None, ..Order::new(id, OrderKind::Cleanup) };
        let leftover = Leftover {
            id,
            image_id: image.id,
            stage_id: record.id,
            step: record.step.clone(),
            plugin_id: record.plugin_id.clone(),
            target: image.target.clone(),
            provider: image.provider.clone(),
            parameters: image.parameters.clone(),
            scratch: why.scratch,
            tries: 0,
            due_at_ms: after(pause(0)),
            error: why.error.clone(),
            given_up: why.given_up,
            created_at: OffsetDateTime::now_utc(),
        };
        let is_new = match self.store.leave(leftover, cleanup).await {
            Ok(is_new) => is_new,
            Err(error) => {
                self.forget_sealed(id, is_sealed).await;
                return Err(error);
            }
        };
        if !is_new {
            self.forget_sealed(id, is_sealed).await;
            return Ok(());
        }
        // What is left on a provider costs money.
        tracing::error!(
            image = %image.id, leftover = %id, token = %record.id, plugin = %record.plugin_id,
            "what {} left outside is still there: {}", record.step, first_line(&why.error)
        );
        Ok(())
    }

    /// The credentials of an order, once more under another id.
    async fn credentials_for(
        &self,
        order: &Order,
        id: Uuid,
    ) -> Result<CredentialSource, StoreError> {
        if order.credentials != CredentialSource::Sealed {
            return Ok(order.credentials.clone());
        }
        let (vault, from) = (self.vault.clone(), order.id);
        let sealing = tokio::task::spawn_blocking(move || match vault.open_sealed(from)? {
            Some(text) => vault.seal(id, &text).map(|()| CredentialSource::Sealed),
            None => Ok(CredentialSource::None),
        });
        sealing.await.map_err(|_| StoreError::Closed)?
    }

    async fn forget_sealed(&self, id: Uuid, is_sealed: bool) {
        if is_sealed {
            let vault = self.vault.clone();
            // What stays is swept by recovery.
            tokio::task::spawn_blocking(move || vault.forget(id)).await.ok();
        }
    }

    /// Helpers that a stage of a finished order left: the product is wanted, they are not.
    pub(crate) async fn leave_scratch(
        &self,
        order: &Order,
        image: &Image,
    ) -> Result<(), StoreError> {
        for record in self.store.stages_of(order.id).await? {
            let left = self.store.outstanding(record.id).await?;
            if left.iter().any(|entry| entry.scratch) {
                let error = "its stage ended without removing it".to_owned();
                let why = Why { error, scratch: true, given_up: false };
                self.leave(order, image, &record, why).await?;
            }
        }
        Ok(())
    }

    /// Tries until it is gone, given up or dropped; returns early when the factory shuts down.
    pub(crate) async fn work_on_leftover(
        &self,
        order: &Order,
        cancel: &CancellationToken,
    ) -> Result<(), StoreError> {
        loop {
            let leftover = self.store.leftover(order.id).await?.filter(|left| !left.given_up);
            let Some(leftover) = leftover else { return self.forget_cleanup(order).await };
            tokio::select! {
                () = tokio::time::sleep(until(leftover.due_at_ms)) => {}
                () = cancel.cancelled() => {
                    if self.stopping.is_cancelled() {
                        return Ok(());
                    }
                    return self.forget_cleanup(order).await; // dropped
                }
            }
            let tries = leftover.tries + 1;
            self.store.leftover_tried(order.id, after(pause(tries))).await?;
            match self.try_to_remove(order, &leftover, (tries, cancel)).await? {
                Tried::Stopped => return Ok(()),
                Tried::Gone => {
                    self.store.drop_leftover(order.id).await?;
                    tracing::info!(
                        image = %leftover.image_id, leftover = %order.id,
                        plugin = %leftover.plugin_id,
                        "what {} left outside is removed, at try {tries}", leftover.step
                    );
                }
                Tried::Failed(error) => {
                    let given_up = tries >= TRIES_MAX;
                    self.store.leftover_failed(order.id, &error, given_up).await?;
                    let what = if given_up { "given up" } else { "tried again later" };
                    tracing::warn!(
                        image = %leftover.image_id, leftover = %order.id,
                        token = %leftover.stage_id, plugin = %leftover.plugin_id,
                        "what {} left outside is {what}, after try {tries}: {}",
                        leftover.step, first_line(&error)
                    );
                }
            }
        }
    }

    async fn try_to_remove(
        &self,
        order: &Order,
        leftover: &Leftover,
        (tries, cancel): (u32, &CancellationToken),
    ) -> Result<Tried, StoreError> {
        let entries = self.store.outstanding(leftover.stage_id).await?;
        let entries: Vec<JournalEntry> =
            entries.into_iter().filter(|entry| entry.scratch || !leftover.scratch).collect();
        if entries.is_empty() {
            return Ok(Tried::Gone);
        }
        let plugin = match self.plugin_of(leftover) {
            Ok(plugin) => plugin,
            Err(why) => return Ok(Tried::Failed(why)),
        };
        let work = cleanup_work(leftover, plugin, tries);
        // The image's own log tells of it, where there is an image.
        let log = match self.store.image(leftover.image_id).await? {
            Some(image) => BuildLog::open(&self.logs, image.id),
            None => BuildLog::of_nobody(),
        };
        let (order, cancel) = (order.clone(), cancel.clone());
        let context = OrderContext { image: image_of(leftover), order, cancel, log };
        let order = &context.order;
        let own =
            self.store.begin_attempt(order.id, order.image_id, &work.step, &work.plugin.id).await?;
        let tried = self.attempt(&context, &work, &own, leftover.stage_id, entries.clone()).await;
        match tried {
            Ok(_) => {
                self.record_removed(leftover.stage_id, entries).await?;
                self.store.end_attempt(own.id, AttemptEnd::Succeeded(Value::Null)).await?;
                Ok(Tried::Gone)
            }
            Err(_) if self.stopping.is_cancelled() => {
                self.store.end_attempt(own.id, AttemptEnd::Interrupted).await?;
                Ok(Tried::Stopped)
            }
            Err(failure) => {
                self.store.end_attempt(own.id, AttemptEnd::Failed).await?;
                context.log.note(&format!("cleaning up after {} failed: {failure}", leftover.step));
                Ok(Tried::Failed(with_tail(&failure)))
            }
        }
    }

    fn plugin_of(&self, leftover: &Leftover) -> Result<Arc<ChosenPlugin>, String> {
        let (registry, id) = (self.registry.load(), &leftover.plugin_id);
        let entry = registry.entry(id).ok_or_else(|| format!("the plugin {id} is not there"))?;
        let plugin = ChosenPlugin::choose(&registry, entry, &self.configuration)
            .map_err(|failure| failure.to_string())?;
        match plugin.can(Operation::Cleanup) {
            true => Ok(Arc::new(plugin)),
            false => Err(format!("the plugin {id} cannot clean up")),
        }
    }

    /// The end of a cleanup's order: nothing of it is kept.
    async fn forget_cleanup(&self, order: &Order) -> Result<(), StoreError> {
        self.close(order).await?;
        self.store.forget(order.image_id).await
    }
}

/// As much of the image as a cleanup is told.
fn image_of(leftover: &Leftover) -> Image {
    let destination = Destination {
        target: leftover.target.clone().unwrap_or_default(),
        provider: leftover.provider.clone().unwrap_or_default(),
        credentials_name: None,
    };
    let image = Image::new_provider(None, None, destination, leftover.parameters.clone());
    Image { id: leftover.image_id, ..image }
}

fn cleanup_work(leftover: &Leftover, plugin: Arc<ChosenPlugin>, tries: u32) -> StageWork {
    StageWork {
        step: format!("cleanup {tries} of {}", leftover.step),
        operation: Operation::Cleanup,
        plugin,
        percent: 0..0,
        input_image: None,
        reserve_bytes: 0,
        template: None,
        images: Map::new(),
        target: leftover.target.clone(),
        provider: leftover.provider.as_ref().map(provider_text),
        target_contents: Vec::new(),
        credentials: true,
    }
}

fn with_tail(failure: &StageFailure) -> String {
    let lines = std::iter::once(failure.to_string()).chain(failure.log_tail.iter().cloned());
    lines.collect::<Vec<_>>().join("\n")
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn pause(tries: u32) -> Duration {
    PAUSE.saturating_mul(2_u32.saturating_pow(tries)).min(PAUSE_MAX)
}

/// Milliseconds since 1970, so long from now.
fn after(pause: Duration) -> i64 {
    let then = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + pause;
    i64::try_from(then.as_millis()).unwrap_or(i64::MAX)
}

/// Never longer than a pause, whatever the clock did meanwhile.
fn until(due_at_ms: i64) -> Duration {
    let left = due_at_ms.saturating_sub(after(Duration::ZERO));
    Duration::from_millis(u64::try_from(left).unwrap_or(0)).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_stay_bounded_and_last_a_weekend_in_all() {
        assert_eq!(pause(0), Duration::from_secs(5));
        assert_eq!(pause(3), Duration::from_secs(40));
        assert_eq!(pause(400), PAUSE_MAX);
        let all: u64 = (0..TRIES_MAX).map(|tries| pause(tries).as_secs()).sum();
        assert!((60 * 3600..80 * 3600).contains(&all), "{} h", all / 3600);
        assert_eq!(until(i64::MAX), PAUSE_MAX);
        assert_eq!(until(0), Duration::ZERO);
    }
}
