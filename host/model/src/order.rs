//! What clients ask for, after the edge has made values of it.
//!
//! An *order* is about one image: build it, or delete it. A request that needs several images (a
//! provider image by template) becomes one order for each, recorded together. Credentials travel
//! beside the orders, never in them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::image::Image;

/// What is to be done with the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderKind {
    /// Build it (or push it, for a provider image).
    Build,
    /// Make it on the provider by a snapshot, without a target image.
    Snapshot,
    /// Take a finished disk image that lies in the store's staging folder.
    Import,
    /// Remove it.
    Delete,
    /// Remove what a failed cleanup left outside (`host/store`, `leftovers.rs`). It is about no
    /// image: `image_id` repeats its own id, so that nothing done to an image touches it.
    Cleanup,
}

impl OrderKind {
    /// The store's word.
    pub fn name(self) -> &'static str {
        match self {
            OrderKind::Build => "build",
            OrderKind::Snapshot => "snapshot",
            OrderKind::Import => "import",
            OrderKind::Delete => "delete",
            OrderKind::Cleanup => "cleanup",
        }
    }

    /// The kind whose [`OrderKind::name`] this is.
    pub fn parse(text: &str) -> Option<OrderKind> {
        [
            OrderKind::Build,
            OrderKind::Snapshot,
            OrderKind::Import,
            OrderKind::Delete,
            OrderKind::Cleanup,
        ]
        .into_iter()
        .find(|kind| kind.name() == text)
    }

    /// Does it make an image, which a deletion or a cancel ends?
    pub fn makes_image(self) -> bool {
        matches!(self, OrderKind::Build | OrderKind::Snapshot | OrderKind::Import)
    }
}

/// One accepted order.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Its name.
    pub id: Uuid,
    /// The image it is about.
    pub image_id: Uuid,
    /// What is to be done.
    pub kind: OrderKind,
    /// Who hears of each change, in order.
    pub callbacks: Vec<String>,
    /// Where its credentials come from.
    pub credentials: CredentialSource,
    /// Was it given by a person at this machine (command line), whose templates may name local
    /// files?
    pub local: bool,
    /// What a deletion was told beside the image; empty for other orders.
    pub deletion: DeletionDetails,
    /// The format of the file that is imported; none for other orders.
    pub import_format: Option<String>,
    /// Somebody asked for it to end.
    pub cancel_requested: bool,
    /// Times that it was interrupted from outside in a row, without progress between.
    pub interruptions: u32,
    /// The process that works on it: the name of a lock file (`host/store`, `owner.rs`).
    pub owner: Option<Uuid>,
    /// When it was accepted.
    pub created_at: OffsetDateTime,
}

impl Order {
    /// A new order without callbacks and credentials.
    pub fn new(image_id: Uuid, kind: OrderKind) -> Order {
        Order {
            id: Uuid::new_v4(),
            image_id,
            kind,
            callbacks: Vec::new(),
            credentials: CredentialSource::None,
            local: false,
            deletion: DeletionDetails::default(),
            import_format: None,
            cancel_requested: false,
            interruptions: 0,
            owner: None,
            created_at: OffsetDateTime::now_utc(),
        }
    }
}

/// What a deletion was told beside the image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DeletionDetails {
    /// Instead of the target that the image was pushed to.
    pub target: Option<String>,
    /// Instead of the provider that it was pushed to.
    pub provider: Option<Value>,
    /// Drop the record; nobody asks the provider.
    pub forget: bool,
}

/// Where an order's credentials come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialSource {
    /// It has none.
    None,
    /// `@name`: looked up in the host's configuration when a stage asks.
    Named(String),
    /// Sent with the order; sealed in the vault under the order's id until it is final.
    Sealed,
}

/// Images and orders that are recorded together or not at all, before the answer is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// New images, parents before children; empty for a deletion.
    pub images: Vec<Image>,
    /// One order for each, or the deletion.
    pub orders: Vec<Order>,
    /// The client's `Idempotency-Key`, where it sent one.
    pub idempotency: Option<IdempotencyKey>,
}

/// The same key and body answer with the same image for 24 h.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Whose key it is: OAuth consumer key, or empty.
    pub client: String,
    /// The header's value.
    pub key: String,
    /// sha256 of method, path and body, lower-case hex.
    pub request_sha256: String,
}
