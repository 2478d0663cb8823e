//! The queue of callbacks in SQLite.

use async_trait::async_trait;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Durability, EmbeddedStore, count_of, uuid_of};
use crate::StoreError;
use crate::callbacks::{Callback, Callbacks};

#[async_trait]
impl Callbacks for EmbeddedStore {
    async fn next_callbacks(&self, limit: u32) -> Result<Vec<Callback>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM callbacks AS first
             WHERE seq = (SELECT MIN(seq) FROM callbacks
                          WHERE image_id = first.image_id AND url = first.url)
             ORDER BY due_at, seq LIMIT ?",
        )
        .bind(i64::from(limit))
        .fetch_all(self.database.readers())
        .await?;
        rows.iter().map(callback_of).collect()
    }

    async fn callback_done(&self, seq: i64) -> Result<(), StoreError> {
        self.database
            .write(Durability::Progress, move |connection| {
                Box::pin(async move {
                    sqlx::query("DELETE FROM callbacks WHERE seq = ?")
                        .bind(seq)
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn callback_later(&self, seq: i64, due_at_ms: i64) -> Result<(), StoreError> {
        self.database
            .write(Durability::Progress, move |connection| {
                Box::pin(async move {
                    sqlx::query(
                        "UPDATE callbacks SET attempts = attempts + 1, due_at = ? WHERE seq = ?",
                    )
                    .bind(due_at_ms)
                    .bind(seq)
                    .execute(connection)
                    .await?;
                    Ok(())
                })
            })
            .await
    }
}

fn callback_of(row: &SqliteRow) -> Result<Callback, StoreError> {
    Ok(Callback {
        seq: row.try_get("seq")?,
        image_id: uuid_of(row, "image_id")?,
        url: row.try_get("url")?,
        document: row.try_get("document")?,
        attempts: count_of(row.try_get("attempts")?, "a callback's attempts")?,
        due_at_ms: row.try_get("due_at")?,
    })
}
