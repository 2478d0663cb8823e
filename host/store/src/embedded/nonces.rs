//! OAuth nonces in SQLite.

use async_trait::async_trait;
use sqlx::Row;

use super::{Durability, EmbeddedStore};
use crate::StoreError;
use crate::nonces::Nonces;

#[async_trait]
impl Nonces for EmbeddedStore {
    async fn take_nonce(
        &self,
        consumer: &str,
        timestamp: i64,
        nonce: &str,
    ) -> Result<bool, StoreError> {
        let (consumer, nonce) = (consumer.to_owned(), nonce.to_owned());
        self.database
            .write(Durability::Progress, move |connection| {
                Box::pin(async move {
                    let done = sqlx::query("INSERT OR IGNORE INTO nonces VALUES (?, ?, ?)")
                        .bind(&consumer)
                        .bind(timestamp)
                        .bind(&nonce)
                        .execute(connection)
                        .await?;
                    Ok(done.rows_affected() == 1)
                })
            })
            .await
    }

    async fn forget_nonces_before(&self, timestamp: i64) -> Result<(), StoreError> {
        self.database
            .write(Durability::Progress, move |connection| {
                Box::pin(async move {
                    sqlx::query("DELETE FROM nonces WHERE timestamp < ?")
                        .bind(timestamp)
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn newest_nonce(&self) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT COALESCE(MAX(timestamp), 0) FROM nonces")
            .fetch_one(self.database.readers())
            .await?;
        Ok(row.try_get(0)?)
    }
}
