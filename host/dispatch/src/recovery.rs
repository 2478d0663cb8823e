//! After a crash: what is left of dead processes is ended, swept and resumed (plugin-abi.md 3.4).
//!
//! Orders whose owner lives are left alone: a command line may build beside a daemon. For the
//! others: fence what may still run, remove what it left half, and hand the orders back to be
//! worked on. Runs before the first new order, and again whenever another process of this store has
//! died.

use std::time::Duration;

use imagefactory_model::order::Order;
use imagefactory_store::StoreError;
use imagefactory_store::owner;
use imagefactory_store::stages::{AttemptEnd, StageRecord, StageState};
use uuid::Uuid;

use crate::engine::Engine;
use crate::stage_process::{SpawnedAttempt, StageFolders, fence};

/// How long a killed process of an earlier attempt may take to go: longer means that it hangs in
/// the kernel, and its order waits for the next start.
const FENCE_PATIENCE: Duration = Duration::from_secs(30);

/// Sealed credentials are written a moment before their order is recorded.
const YOUNG: Duration = Duration::from_secs(3600);

/// A UUID as text.
const UUID_CHARS: usize = 36;

impl Engine {
    /// Takes over the open orders of dead processes. What comes back is ready to be worked on.
    pub(crate) async fn adopt_orphans(&self) -> Result<Vec<Order>, StoreError> {
        let layout = self.layout.clone();
        let living = tokio::task::spawn_blocking(move || owner::living(&layout))
            .await
            .map_err(|_| StoreError::Closed)??;
        let open = self.store.open_orders().await?;
        let mut adopted = Vec::new();
        for order in &open {
            if order.owner.is_some_and(|owner| living.contains(&owner)) {
                continue;
            }
            match self.adopt(order).await {
                Ok(order) => adopted.push(order),
                Err(AdoptError::Store(error)) => return Err(error),
                Err(AdoptError::Fence(error)) => {
                    tracing::error!(image = %order.image_id, "not resumed: {error}");
                }
            }
        }
        self.store.release_all_but(&living).await?;
        self.sweep(&open).await?;
        Ok(adopted)
    }

    async fn adopt(&self, order: &Order) -> Result<Order, AdoptError> {
        for stage in self.store.stages_of(order.id).await? {
            if stage.state == StageState::Running {
                self.bury(order, &stage).await?;
            }
        }
        self.store.own(order.id, self.owner.id()).await?;
        Ok(Order { owner: Some(self.owner.id()), ..order.clone() })
    }

    /// Makes sure that an attempt is over, and removes what it left.
    async fn bury(&self, order: &Order, stage: &StageRecord) -> Result<(), AdoptError> {
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
        self.store.count_interruption(order.id, Some(1)).await?;
        Ok(())
    }

    /// Removes files that belong to no open order.
    async fn sweep(&self, open: &[Order]) -> Result<(), StoreError> {
        let orders: Vec<Uuid> = open.iter().map(|order| order.id).collect();
        let vault = self.vault.clone();
        tokio::task::spawn_blocking(move || vault.forget_all_but(&orders, YOUNG))
            .await
            .map_err(|_| StoreError::Closed)??;
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
                if let Err(error) = self.remove_tree(&entry.path(), None).await {
                    tracing::warn!("{} is left behind: {error}", entry.path().display());
                }
            }
        }
        Ok(())
    }
}

/// Why an order was not taken over.
enum AdoptError {
    Store(StoreError),
    Fence(crate::stage_process::FenceError),
}

impl From<StoreError> for AdoptError {
    fn from(error: StoreError) -> Self {
        AdoptError::Store(error)
    }
}

impl From<crate::stage_process::FenceError> for AdoptError {
    fn from(error: crate::stage_process::FenceError) -> Self {
        AdoptError::Fence(error)
    }
}
