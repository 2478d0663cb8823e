//! The records of orders: who works on what, what is to be cancelled, what a crash left open.

use async_trait::async_trait;
use imagefactory_model::order::Order;
use uuid::Uuid;

use crate::StoreError;

/// The records of orders.
#[async_trait]
pub trait Orders {
    /// All open orders, oldest first.
    async fn open_orders(&self) -> Result<Vec<Order>, StoreError>;

    /// The open orders of one image, oldest first.
    async fn open_orders_of(&self, image: Uuid) -> Result<Vec<Order>, StoreError>;

    /// Records that `owner` works on the order from now on. Durable: it is what recovery goes by.
    async fn own(&self, order: Uuid, owner: Uuid) -> Result<(), StoreError>;

    /// Marks the open orders of an image as to be cancelled; `true` if there were any.
    async fn request_cancel(&self, image: Uuid) -> Result<bool, StoreError>;

    /// The open orders that somebody (this process or another) asked to end.
    async fn cancels_requested(&self) -> Result<Vec<Uuid>, StoreError>;

    /// Counts one interruption from outside (`Some`), or forgets them after progress (`None`).
    /// Returns how many there were in a row.
    async fn count_interruption(&self, order: Uuid, more: Option<u32>) -> Result<u32, StoreError>;

    /// The order is final: closed, durably.
    async fn close(&self, order: Uuid) -> Result<(), StoreError>;
}
