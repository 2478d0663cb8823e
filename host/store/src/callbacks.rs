//! The queue of callbacks: one line per status change and URL, kept until it is delivered or given
//! up.

use async_trait::async_trait;
use uuid::Uuid;

use crate::StoreError;

/// A callback to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// Its place in the queue.
    pub seq: i64,
    /// About which image.
    pub image_id: Uuid,
    /// Where to.
    pub url: String,
    /// The JSON to PUT, as the image was when its status changed.
    pub document: String,
    /// Tries so far.
    pub attempts: u32,
    /// Not before this time, milliseconds since 1970.
    pub due_at_ms: i64,
}

/// The queue of callbacks.
#[async_trait]
pub trait Callbacks {
    /// The first waiting callback of each image and URL (so order is kept), at most `limit`,
    /// soonest due first.
    async fn next_callbacks(&self, limit: u32) -> Result<Vec<Callback>, StoreError>;

    /// Delivered, or given up: leaves the queue.
    async fn callback_done(&self, seq: i64) -> Result<(), StoreError>;

    /// Try again then.
    async fn callback_later(&self, seq: i64, due_at_ms: i64) -> Result<(), StoreError>;
}
