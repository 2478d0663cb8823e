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

    async fn set_nonce_mark(&self, mark: i64, boot_id: &str) -> Result<(), StoreError> {
        let boot_id = boot_id.to_owned();
        self.database
            .write(Durability::Promised, move |connection| {
                Box::pin(async move {
                    sqlx::query("INSERT OR REPLACE INTO nonce_mark VALUES (1, ?, ?)")
                        .bind(mark)
                        .bind(&boot_id)
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn nonce_mark(&self) -> Result<Option<(i64, String)>, StoreError> {
        let row = sqlx::query("SELECT mark, boot_id FROM nonce_mark")
            .fetch_optional(self.database.readers())
            .await?;
        row.map(|row| Ok((row.try_get("mark")?, row.try_get("boot_id")?))).transpose()
    }
}
