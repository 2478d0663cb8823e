//! Leftovers in SQLite.

use async_trait::async_trait;
use imagefactory_model::order::Order;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::images::insert_order;
use super::{Durability, EmbeddedStore, count_of, from_ms, json_of, json_text, to_ms, uuid_of};
use crate::StoreError;
use crate::leftovers::{Leftover, Leftovers};

#[async_trait]
impl Leftovers for EmbeddedStore {
    async fn leave(&self, leftover: Leftover, order: Order) -> Result<bool, StoreError> {
        self.database
            .write(Durability::Promised, move |connection| {
                Box::pin(async move {
                    let known = sqlx::query("SELECT 1 FROM leftovers WHERE stage_id = ?")
                        .bind(leftover.stage_id.to_string())
                        .fetch_optional(&mut *connection)
                        .await?;
                    if known.is_some() {
                        return Ok(false);
                    }
                    insert(connection, &leftover).await?;
                    insert_order(connection, &order).await?;
                    Ok(true)
                })
            })
            .await
    }

    async fn leftovers(&self) -> Result<Vec<Leftover>, StoreError> {
        let rows = sqlx::query("SELECT * FROM leftovers ORDER BY created_at, id")
            .fetch_all(self.database.readers())
            .await?;
        rows.iter().map(leftover_of).collect()
    }

    async fn leftover(&self, id: Uuid) -> Result<Option<Leftover>, StoreError> {
        let row = sqlx::query("SELECT * FROM leftovers WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(self.database.readers())
            .await?;
        row.map(|row| leftover_of(&row)).transpose()
    }

    async fn leftover_tried(&self, id: Uuid, due_at_ms: i64) -> Result<(), StoreError> {
        self.database
            .write(Durability::Promised, move |connection| {
                Box::pin(async move {
                    sqlx::query("UPDATE leftovers SET tries = tries + 1, due_at = ? WHERE id = ?")
                        .bind(due_at_ms)
                        .bind(id.to_string())
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn leftover_failed(
        &self,
        id: Uuid,
        error: &str,
        given_up: bool,
    ) -> Result<(), StoreError> {
        let error = error.to_owned();
        self.database
            .write(Durability::Promised, move |connection| {
                Box::pin(async move {
                    sqlx::query("UPDATE leftovers SET error = ?, given_up = ? WHERE id = ?")
                        .bind(error)
                        .bind(given_up)
                        .bind(id.to_string())
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn drop_leftover(&self, id: Uuid) -> Result<bool, StoreError> {
        self.database
            .write(Durability::Promised, move |connection| {
                Box::pin(async move {
                    let id = id.to_string();
                    sqlx::query("UPDATE orders SET cancel_requested = 1 WHERE id = ?")
                        .bind(&id)
                        .execute(&mut *connection)
                        .await?;
                    // The stage's record went with its image, and its journal stayed for this.
                    sqlx::query(
                        "DELETE FROM journal WHERE stage_id IN
                             (SELECT stage_id FROM leftovers WHERE id = ?)
                             AND stage_id NOT IN (SELECT id FROM stages)",
                    )
                    .bind(&id)
                    .execute(&mut *connection)
                    .await?;
                    let dropped = sqlx::query("DELETE FROM leftovers WHERE id = ?")
                        .bind(&id)
                        .execute(connection)
                        .await?;
                    Ok(dropped.rows_affected() > 0)
                })
            })
            .await
    }
}

async fn insert(connection: &mut SqliteConnection, leftover: &Leftover) -> Result<(), StoreError> {
    let provider = leftover.provider.as_ref().map(|p| json_text(p, "a provider")).transpose()?;
    let parameters =
        leftover.parameters.as_ref().map(|p| json_text(p, "parameters")).transpose()?;
    sqlx::query(
        "INSERT INTO leftovers (id, image_id, stage_id, step, plugin_id, target, provider,
             parameters, scratch, tries, due_at, error, given_up, created_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(leftover.id.to_string())
    .bind(leftover.image_id.to_string())
    .bind(leftover.stage_id.to_string())
    .bind(&leftover.step)
    .bind(&leftover.plugin_id)
    .bind(&leftover.target)
    .bind(provider)
    .bind(parameters)
    .bind(leftover.scratch)
    .bind(leftover.tries)
    .bind(leftover.due_at_ms)
    .bind(&leftover.error)
    .bind(leftover.given_up)
    .bind(to_ms(leftover.created_at))
    .execute(connection)
    .await?;
    Ok(())
}

fn leftover_of(row: &SqliteRow) -> Result<Leftover, StoreError> {
    let provider: Option<&str> = row.try_get("provider")?;
    let parameters: Option<&str> = row.try_get("parameters")?;
    Ok(Leftover {
        id: uuid_of(row, "id")?,
        image_id: uuid_of(row, "image_id")?,
        stage_id: uuid_of(row, "stage_id")?,
        step: row.try_get("step")?,
        plugin_id: row.try_get("plugin_id")?,
        target: row.try_get("target")?,
        provider: provider.map(|text| json_of(text, "a leftover's provider")).transpose()?,
        parameters: parameters.map(|text| json_of(text, "a leftover's parameters")).transpose()?,
        scratch: row.try_get("scratch")?,
        tries: count_of(row.try_get("tries")?, "a leftover's tries")?,
        due_at_ms: row.try_get("due_at")?,
        error: row.try_get("error")?,
        given_up: row.try_get("given_up")?,
        created_at: from_ms(row.try_get("created_at")?),
    })
}
