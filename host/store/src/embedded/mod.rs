//! The embedded store: SQLite behind the traits of this crate, one file for each.

mod artifacts;
mod callbacks;
mod changes;
mod database;
mod images;
mod leftovers;
mod nonces;
mod orders;
mod revision;
mod space;
mod stages;

use std::path::Path;
use std::sync::Arc;

use database::Database;
pub use database::Durability;
use revision::WalIndex;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::StoreError;

/// The records of one factory in one SQLite file. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EmbeddedStore {
    database: Database,
    wal_index: Arc<WalIndex>,
}

impl EmbeddedStore {
    /// Opens (or makes) the records in `dir`. Errors: a newer schema, a folder that cannot be
    /// written.
    pub async fn open(dir: &Path) -> Result<EmbeddedStore, StoreError> {
        let database = Database::open(dir).await?;
        Ok(EmbeddedStore { database, wal_index: Arc::new(WalIndex::open(dir)) })
    }

    /// Ends the readers. Writes that were accepted are committed; later ones are refused.
    pub async fn close(&self) {
        self.database.close().await;
    }
}

fn now_ms() -> i64 {
    to_ms(OffsetDateTime::now_utc())
}

fn to_ms(time: OffsetDateTime) -> i64 {
    // Milliseconds of any year that matters fit; a clock beyond that is clamped, not wrapped.
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

fn from_ms(ms: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn uuid_of(row: &SqliteRow, column: &str) -> Result<Uuid, StoreError> {
    let text: &str = row.try_get(column)?;
    Uuid::parse_str(text).map_err(|cause| StoreError::damaged(format!("{column} '{text}'"), cause))
}

fn uuid_or_none(row: &SqliteRow, column: &str) -> Result<Option<Uuid>, StoreError> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(|text| {
        Uuid::parse_str(text)
            .map_err(|cause| StoreError::damaged(format!("{column} '{text}'"), cause))
    })
    .transpose()
}

fn json_of<T: serde::de::DeserializeOwned>(text: &str, what: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|cause| StoreError::damaged(what, cause))
}

fn json_text<T: serde::Serialize>(value: &T, what: &str) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|cause| StoreError::damaged(what, cause))
}

fn count_of(value: i64, what: &str) -> Result<u32, StoreError> {
    u32::try_from(value).map_err(|cause| StoreError::damaged(what, cause))
}
