//! Reservations of disk space in SQLite.

use std::path::Path;

use async_trait::async_trait;
use sqlx::Row;
use uuid::Uuid;

use super::{Durability, EmbeddedStore};
use crate::StoreError;
use crate::space::{Reservations, free_bytes};

#[async_trait]
impl Reservations for EmbeddedStore {
    async fn reserve(
        &self,
        dir: &Path,
        stage: Uuid,
        owner: Uuid,
        bytes: u64,
    ) -> Result<(), StoreError> {
        let dir = dir.to_owned();
        self.database
            .write(Durability::Progress, move |connection| {
                Box::pin(async move {
                    let row = sqlx::query(
                        "SELECT COALESCE(SUM(bytes), 0) FROM reservations WHERE stage_id <> ?",
                    )
                    .bind(stage.to_string())
                    .fetch_one(&mut *connection)
                    .await?;
                    let promised: i64 = row.try_get(0)?;
                    let free = free_bytes(&dir)?.saturating_sub(promised.unsigned_abs());
                    if bytes > free {
                        return Err(StoreError::NoSpace { dir, needed: bytes, free });
                    }
                    sqlx::query("INSERT OR REPLACE INTO reservations VALUES (?, ?, ?)")
                        .bind(stage.to_string())
                        .bind(owner.to_string())
                        .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn release(&self, stage: Uuid) -> Result<(), StoreError> {
        self.database
            .write(Durability::Progress, move |connection| {
                Box::pin(async move {
                    sqlx::query("DELETE FROM reservations WHERE stage_id = ?")
                        .bind(stage.to_string())
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn release_all_but(&self, owners: &[Uuid]) -> Result<(), StoreError> {
        let owners: Vec<String> = owners.iter().map(Uuid::to_string).collect();
        self.database
            .write(Durability::Progress, move |connection| {
                Box::pin(async move {
                    let held = sqlx::query("SELECT DISTINCT owner FROM reservations")
                        .fetch_all(&mut *connection)
                        .await?;
                    for row in held {
                        let owner: String = row.try_get(0)?;
                        if !owners.contains(&owner) {
                            sqlx::query("DELETE FROM reservations WHERE owner = ?")
                                .bind(&owner)
                                .execute(&mut *connection)
                                .await?;
                        }
                    }
                    Ok(())
                })
            })
            .await
    }
}
