//! The services of one attempt, answered from the store: journal, checkpoints, process record,
//! secrets.

use std::sync::Arc;

use imagefactory_model::order::CredentialSource;
use imagefactory_model::stage::JournalEntry;
use imagefactory_store::vault::Vault;
use imagefactory_store::{ImageStore, StoreError};
use uuid::Uuid;

use crate::configuration::NamedCredentials;
use crate::stage_process::{ServiceError, ServiceFuture, SpawnedAttempt, StageServices};
use crate::stages::images;

/// IMGF_E_INTERNAL, IMGF_E_NOT_FOUND, IMGF_E_QUOTA of status.h.
const INTERNAL: i32 = 1;
const NOT_FOUND: i32 = 5;
const QUOTA: i32 = 12;

/// The name under which a stage finds the credentials of its order.
pub(crate) const CREDENTIALS: &str = "credentials";

/// One attempt's services.
pub(crate) struct StoredServices {
    /// All records.
    pub(crate) store: Arc<dyn ImageStore>,
    /// The stage whose record this attempt belongs to.
    pub(crate) record: Uuid,
    /// The stage whose journal and checkpoints it writes: its own, or the one it cleans up after.
    pub(crate) stage: Uuid,
    /// Whose credentials.
    pub(crate) order: Uuid,
    /// Where they come from.
    pub(crate) credentials: CredentialSource,
    /// The configuration's.
    pub(crate) named: Arc<NamedCredentials>,
    /// The sealed ones.
    pub(crate) vault: Vault,
}

impl StageServices for StoredServices {
    fn spawned(&self, attempt: &SpawnedAttempt) -> ServiceFuture<'_, ()> {
        let process = serde_json::to_value(attempt);
        Box::pin(async move {
            let process = process.map_err(|cause| internal(&cause.to_string()))?;
            self.store.record_process(self.record, process).await.map_err(store_failed)
        })
    }

    fn journal(&self, entry: JournalEntry) -> ServiceFuture<'_, ()> {
        Box::pin(async move { self.store.journal(self.stage, entry).await.map_err(store_failed) })
    }

    fn checkpoint_put(&self, key: String, value: String) -> ServiceFuture<'_, ()> {
        Box::pin(async move {
            self.store.put_checkpoint(self.stage, &key, &value).await.map_err(store_failed)
        })
    }

    fn secret_get(&self, name: String) -> ServiceFuture<'_, String> {
        Box::pin(async move {
            let found = match &self.credentials {
                CredentialSource::None => None,
                CredentialSource::Named(given) => self.named.get(given).map(str::to_owned),
                CredentialSource::Sealed => {
                    let (vault, order) = (self.vault.clone(), self.order);
                    tokio::task::spawn_blocking(move || vault.open_sealed(order))
                        .await
                        .map_err(|_| internal("the factory is shutting down"))?
                        .map_err(store_failed)?
                }
            };
            found.ok_or_else(|| ServiceError {
                code: NOT_FOUND,
                message: format!("this order has no secret '{name}'"),
            })
        })
    }

    fn image_get(&self, id: String) -> ServiceFuture<'_, String> {
        Box::pin(async move {
            let unknown =
                || ServiceError { code: NOT_FOUND, message: format!("there is no image {id}") };
            let image = Uuid::parse_str(&id).map_err(|_| unknown())?;
            let image = self.store.image(image).await.map_err(store_failed)?.ok_or_else(unknown)?;
            Ok(images::document(&image, None).to_string())
        })
    }
}

fn internal(message: &str) -> ServiceError {
    ServiceError { code: INTERNAL, message: message.to_owned() }
}

/// What the plugin reads of a store's failure: no paths.
fn store_failed(error: StoreError) -> ServiceError {
    tracing::error!("{error}: {:?}", std::error::Error::source(&error));
    if error.is_no_space() {
        return ServiceError { code: QUOTA, message: "the factory's disk is full".to_owned() };
    }
    internal("the factory could not record this")
}
