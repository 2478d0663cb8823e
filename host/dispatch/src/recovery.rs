//! After a crash: what is left of dead processes is ended, swept and resumed (plugin-abi.md 3.4).
//!
//! Orders whose owner lives are left alone: a command line may build beside a daemon. For the
//! others: fence what may still run, remove what it left half, and hand the orders back to be
//! worked on. Runs before the first new order, and again whenever another process of this store has
//! died.

use std::sync::PoisonError;
use std::time::Duration;

use imagefactory_model::order::Order;
use imagefactory_store::StoreError;
use imagefactory_store::half_written::HalfWritten;
use imagefactory_store::owner;
use imagefactory_store::stages::{AttemptEnd, StageRecord, StageState};
use uuid::Uuid;

use crate::engine::Engine;
use crate::stage_process::{SpawnedAttempt, StageFolders, fence};

/// How long a killed process of an earlier attempt may take to go: longer means that it hangs in
/// the kernel, and its order waits for the next start.
const FENCE_PATIENCE: Duration = Duration::from_secs(30);

/// Nobody takes so long over one file: sealed credentials are written a moment before their order
/// is recorded, and an upload grows all the time.
const YOUNG: Duration = Duration::from_secs(3600);

/// A UUID as text.
const UUID_CHARS: usize = 36;

/// Which processes live is asked so often: a few small files are opened each time.
pub(crate) const LOOK_FOR_DEAD: Duration = Duration::from_secs(10);

impl Engine {
    /// Takes over the open orders of dead processes. An order that cannot be had now (a process
    /// that hangs in the kernel, a full disk) waits for the next time.
    pub(crate) async fn adopt_orphans(&self) -> Result<Adopted, StoreError> {
        let living = self.living().await?;
        let open = self.store.open_orders().await?;
        let mut adopted = Adopted { orders: Vec::new(), all: true };
        for order in &open {
            if order.owner.is_some_and(|owner| living.contains(&owner)) {
                continue;
            }
            match self.adopt(order).await {
                Ok(order) => adopted.orders.push(order),
                Err(error) => {
                    adopted.all = false;
                    let cause = std::error::Error::source(&error);
                    tracing::error!(image = %order.image_id, "not resumed: {error}: {cause:?}");
                }
            }
        }
        if let Err(error) = self.tidy_up(&open, &living).await {
            tracing::warn!("what dead processes left stays a while: {error}");
            adopted.all = false;
        }
        Ok(adopted)
    }

    async fn tidy_up(&self, open: &[Order], living: &[Uuid]) -> Result<(), StoreError> {
        let left = self.left_by_the_dead.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.store.release_all_but(living).await?;
        self.sweep(open, left.filter(|_| living == [self.owner.id()])).await
    }

    /// Returns when there are open orders of a process that has died. Never, if none dies.
    pub(crate) async fn another_died(&self) {
        loop {
            tokio::time::sleep(LOOK_FOR_DEAD).await;
            match self.has_orphans().await {
                Ok(true) => return,
                Ok(false) => {}
                // Heard of again in the next round.
                Err(error) => tracing::warn!("which processes work here is not known: {error}"),
            }
        }
    }

    async fn has_orphans(&self) -> Result<bool, StoreError> {
        // Orders first: an owner that is asked for afterwards and is not there has died.
        let open = self.store.open_orders().await?;
        let owner = self.owner.id();
        if open.iter().all(|order| order.owner == Some(owner)) {
            return Ok(false);
        }
        let living = self.living().await?;
        Ok(open.iter().any(|order| order.owner.is_none_or(|owner| !living.contains(&owner))))
    }

    async fn living(&self) -> Result<Vec<Uuid>, StoreError> {
        let layout = self.layout.clone();
        tokio::task::spawn_blocking(move || owner::living(&layout))
            .await
            .map_err(|_| StoreError::Closed)?
    }

    async fn adopt(&self, order: &Order) -> Result<Order, AdoptError> {
        let mut interruptions = order.interruptions;
        for stage in self.store.stages_of(order.id).await? {
            if stage.state == StageState::Running {
                interruptions = self.bury(order, &stage).await?;
            }
        }
        self.store.own(order.id, self.owner.id()).await?;
        Ok(Order { owner: Some(self.owner.id()), interruptions, ..order.clone() })
    }

    /// Makes sure that an attempt is over, and removes what it left. Answers how many interruptions
    /// there were in a row by now.
    async fn bury(&self, order: &Order, stage: &StageRecord) -> Result<u32, AdoptError> {
        let process = stage.process.clone().map(serde_json::from_value::<SpawnedAttempt>);
        let _fenced = match process {
            Some(Ok(attempt)) => Some(fence(&attempt, FENCE_PATIENCE).await?),
            Some(Err(cause)) => {
                tracing::warn!(stage = %stage.id, "its process record is damaged: {cause}");
                None
            }
            // Killed before it was told what to do: nothing of the plugin ran.
            None => None,
        };
        let folders = StageFolders::locate(
            self.layout.root(),
            &self.configuration.tmp_dir,
            stage.id,
            stage.attempt,
        );
        self.remove_attempt(folders, false, None).await;
        self.store.end_attempt(stage.id, AttemptEnd::Interrupted).await?;
        Ok(self.store.count_interruption(order.id, Some(1)).await?)
    }

    /// Removes files that belong to no open order. `of_the_dead`: all of these are, whatever their
    /// age; `None` = others live and write, so only old ones go.
    async fn sweep(
        &self,
        open: &[Order],
        of_the_dead: Option<HalfWritten>,
    ) -> Result<(), StoreError> {
        let orders: Vec<Uuid> = open.iter().map(|order| order.id).collect();
        let layout = self.layout.clone();
        let swept = tokio::task::spawn_blocking(move || match of_the_dead {
            Some(files) => files.remove(&orders, Duration::ZERO),
            None => HalfWritten::list(&layout)?.remove(&orders, YOUNG),
        });
        swept.await.map_err(|_| StoreError::Closed)??;
        let stages = self.layout.root().join("stages");
        for dir in [stages, self.configuration.tmp_dir.clone()] {
            let Ok(entries) = std::fs::read_dir(&dir) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name();
                // `<stage>` or `<stage>-<attempt>`: whatever else lies there is not ours.
                let id = name.to_str().and_then(|name| name.get(..UUID_CHARS)).unwrap_or_default();
                let Ok(stage) = Uuid::parse_str(id) else { continue };
                // Asked now and not from a list: another process may have begun it a moment ago.
                if self.store.is_of_open_order(stage).await? {
                    continue;
                }
                if let Err(error) = self.remove_tree(&entry.path()).await {
                    tracing::warn!("{} is left behind: {error}", entry.path().display());
                }
            }
        }
        Ok(())
    }
}

/// Orders that were taken over.
pub(crate) struct Adopted {
    /// Ready to be worked on.
    pub(crate) orders: Vec<Order>,
    /// None had to be left for later.
    pub(crate) all: bool,
}

/// Why an order was not taken over.
#[derive(Debug, thiserror::Error)]
enum AdoptError {
    #[error("the store failed")]
    Store(#[from] StoreError),
    #[error("what is left of it cannot be ended")]
    Fence(#[from] crate::stage_process::FenceError),
}
