//! The credentials that come with an order: by name from the configuration, or sealed for as long
//! as the order is open. They are kept before the order is recorded, so that no order lacks its
//! own.

use imagefactory_model::order::{CredentialSource, Order};
use uuid::Uuid;

use crate::dispatcher::Dispatcher;
use crate::error::DispatchError;
use crate::requests::CredentialsGiven;

impl Dispatcher {
    /// Inline credentials are sealed before the order is recorded, so that no order lacks its own.
    pub(crate) async fn keep_credentials(
        &self,
        order: Uuid,
        given: CredentialsGiven,
    ) -> Result<CredentialSource, DispatchError> {
        match given {
            CredentialsGiven::Absent => Ok(CredentialSource::None),
            CredentialsGiven::Named(name) => match self.engine().named_credentials.get(&name) {
                Some(_) => Ok(CredentialSource::Named(name)),
                None => Err(DispatchError::UnknownCredentials(name)),
            },
            CredentialsGiven::Inline(text) => {
                let vault = self.engine().vault.clone();
                tokio::task::spawn_blocking(move || vault.seal(order, &text))
                    .await
                    .map_err(|_| DispatchError::ShuttingDown)??;
                Ok(CredentialSource::Sealed)
            }
        }
    }

    pub(crate) async fn forget_sealed(&self, orders: &[Order]) {
        for order in orders.iter().filter(|order| order.credentials == CredentialSource::Sealed) {
            let (vault, id) = (self.engine().vault.clone(), order.id);
            // What stays is swept by recovery.
            tokio::task::spawn_blocking(move || vault.forget(id)).await.ok();
        }
    }
}
