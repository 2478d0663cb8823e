//! Leftovers: what a plugin's cleanup could not remove from outside. They cost money, so they are
//! tried again, for days and over restarts, and stay to be seen until they are gone or dropped.
//!
//! Each has an order of its own, which carries the credentials and whose owner works on it; what it
//! is about stands in the journal of the stage that made it, which stays as long.

use async_trait::async_trait;
use imagefactory_model::order::Order;
use imagefactory_model::stage::JournalEntry;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::StoreError;

/// What one stage left outside.
#[derive(Debug, Clone, PartialEq)]
pub struct Leftover {
    /// Its name, and that of its order.
    pub id: Uuid,
    /// For whom it was made. That image may be gone.
    pub image_id: Uuid,
    /// Whose journal names it; the token at the provider.
    pub stage_id: Uuid,
    /// What that stage did: `push_image_to_provider`.
    pub step: String,
    /// Who made it, and is to remove it.
    pub plugin_id: String,
    /// Kind of cloud.
    pub target: Option<String>,
    /// The provider's definition, as sent.
    pub provider: Option<Value>,
    /// The image's parameters, as sent.
    pub parameters: Option<Map<String, Value>>,
    /// Helpers only: the stage's product is somebody's and stays.
    pub scratch: bool,
    /// Tries so far.
    pub tries: u32,
    /// Not before this time, milliseconds since 1970.
    pub due_at_ms: i64,
    /// Why the last try failed.
    pub error: String,
    /// Nobody tries any more.
    pub given_up: bool,
    /// When the first cleanup failed.
    pub created_at: OffsetDateTime,
}

impl Leftover {
    /// As JSON, with what of the stage's journal is still outside.
    pub fn document(&self, outstanding: &[JournalEntry]) -> Value {
        let resources: Vec<Value> = outstanding
            .iter()
            .filter(|entry| entry.scratch || !self.scratch)
            .map(|entry| {
                json!({
                    "kind": entry.kind, "token": entry.token, "resource_id": entry.resource_id,
                })
            })
            .collect();
        let due = i128::from(self.due_at_ms) * 1_000_000;
        let due = OffsetDateTime::from_unix_timestamp_nanos(due).ok();
        let due = due.filter(|_| !self.given_up).and_then(|due| due.format(&Rfc3339).ok());
        json!({
            "_type": "leftover",
            "id": self.id,
            "image_id": self.image_id,
            "plugin": self.plugin_id,
            "target": self.target,
            "stage": self.step,
            "token": self.stage_id,
            "resources": resources,
            "tries": self.tries,
            "next_try_at": due,
            "given_up": self.given_up,
            "error": self.error,
            "created_at": self.created_at.format(&Rfc3339).ok(),
        })
    }
}

/// The records of leftovers.
#[async_trait]
pub trait Leftovers {
    /// Records a leftover with its order, durably. `false`: the stage has one already, as after a
    /// crash between this and the end of the order that it came from; nothing was recorded then.
    async fn leave(&self, leftover: Leftover, order: Order) -> Result<bool, StoreError>;

    /// All, oldest first.
    async fn leftovers(&self) -> Result<Vec<Leftover>, StoreError>;

    /// One of them; `None` = it is gone.
    async fn leftover(&self, id: Uuid) -> Result<Option<Leftover>, StoreError>;

    /// A try begins; the next one is not before that time. Counted first, so that a cleanup that
    /// takes its factory with it is given up as well.
    async fn leftover_tried(&self, id: Uuid, due_at_ms: i64) -> Result<(), StoreError>;

    /// The try failed.
    async fn leftover_failed(
        &self,
        id: Uuid,
        error: &str,
        given_up: bool,
    ) -> Result<(), StoreError>;

    /// It is removed, or an operator no longer cares: the record goes, durably, and its order is
    /// told to end. `false`: there is none.
    async fn drop_leftover(&self, id: Uuid) -> Result<bool, StoreError>;
}
