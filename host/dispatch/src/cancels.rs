//! Who ends the work on an order early: a client of this process, a deletion, or another process,
//! which can say so only through the store.

use std::sync::PoisonError;

use imagefactory_model::image::Image;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::dispatcher::Dispatcher;
use crate::error::DispatchError;
use crate::work::LOOK_AGAIN;

/// The work of this process on one open order.
#[derive(Debug, Clone)]
pub(crate) struct OpenWork {
    pub(crate) image: Uuid,
    pub(crate) cancel: CancellationToken,
    pub(crate) makes_image: bool,
}

impl Dispatcher {
    /// Asks for the work on an image to end; it becomes FAILED with the code `cancelled`.
    pub async fn cancel(&self, id: Uuid) -> Result<Image, DispatchError> {
        let image = self.image(id).await?;
        if image.status.is_final() || !self.engine().store.request_cancel(id).await? {
            return Err(DispatchError::NothingToCancel { id, status: image.status });
        }
        self.end_builds_of(id);
        Ok(image)
    }

    /// Another process (a command line beside the daemon) can ask for an order to end only through
    /// the store. One look for all orders: thousands may wait.
    pub(crate) async fn hear_cancels(&self) {
        let stopping = &self.engine().stopping;
        let mut revision = None;
        while stopping.run_until_cancelled(tokio::time::sleep(LOOK_AGAIN)).await.is_some() {
            let now = self.engine().store.revision();
            if now.is_some() && now == revision {
                continue;
            }
            // A store that fails now is heard of by the work itself, and looked at again.
            let Ok(asked) = self.engine().store.cancels_requested().await else { continue };
            revision = now;
            let cancels = self.cancels().lock().unwrap_or_else(PoisonError::into_inner);
            let asked = asked.iter().filter_map(|order| cancels.get(order));
            asked.for_each(|work| work.cancel.cancel());
        }
    }

    pub(crate) fn open_work(&self) -> Vec<OpenWork> {
        let cancels = self.cancels().lock().unwrap_or_else(PoisonError::into_inner);
        cancels.values().cloned().collect()
    }

    pub(crate) fn end_builds_of(&self, image: Uuid) {
        for work in self.open_work() {
            if work.image == image && work.makes_image {
                work.cancel.cancel();
            }
        }
    }
}
