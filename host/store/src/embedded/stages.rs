//! Stage records, journal and checkpoints in SQLite.

use std::collections::BTreeMap;

use async_trait::async_trait;
use imagefactory_model::stage::{JournalEntry, JournalEvent};
use serde_json::Value;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::{Durability, EmbeddedStore, count_of, json_of, json_text, now_ms, uuid_of};
use crate::StoreError;
use crate::stages::{AttemptEnd, StageRecord, StageState, Stages};

#[async_trait]
impl Stages for EmbeddedStore {
    async fn begin_attempt(
        &self,
        order: Uuid,
        image: Uuid,
        step: &str,
        plugin: &str,
    ) -> Result<StageRecord, StoreError> {
        let (step, plugin) = (step.to_owned(), plugin.to_owned());
        self.database
            .write(Durability::Promised, move |connection| {
                Box::pin(async move {
                    sqlx::query(
                        "INSERT INTO stages
                             (id, order_id, image_id, step, plugin_id, attempt, state, started_at)
                         VALUES (?, ?, ?, ?, ?, 1, 'running', ?)
                         ON CONFLICT (order_id, step) DO UPDATE SET
                             attempt = attempt + 1, state = 'running', process = NULL,
                             plugin_id = excluded.plugin_id
                         WHERE state <> 'succeeded'",
                    )
                    .bind(Uuid::new_v4().to_string())
                    .bind(order.to_string())
                    .bind(image.to_string())
                    .bind(&step)
                    .bind(&plugin)
                    .bind(now_ms())
                    .execute(&mut *connection)
                    .await?;
                    let row = sqlx::query("SELECT * FROM stages WHERE order_id = ? AND step = ?")
                        .bind(order.to_string())
                        .bind(&step)
                        .fetch_one(connection)
                        .await?;
                    stage_of(&row)
                })
            })
            .await
    }

    async fn record_process(&self, stage: Uuid, process: Value) -> Result<(), StoreError> {
        self.database
            .write(Durability::Promised, move |connection| {
                Box::pin(async move {
                    sqlx::query("UPDATE stages SET process = ? WHERE id = ?")
                        .bind(json_text(&process, "a stage's process")?)
                        .bind(stage.to_string())
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn end_attempt(&self, stage: Uuid, end: AttemptEnd) -> Result<(), StoreError> {
        let (state, outcome, failures) = match end {
            AttemptEnd::Succeeded(outcome) => {
                (StageState::Succeeded, Some(json_text(&outcome, "a stage's outcome")?), 0)
            }
            AttemptEnd::Retryable => (StageState::Interrupted, None, 1),
            AttemptEnd::Interrupted => (StageState::Interrupted, None, 0),
            AttemptEnd::Failed => (StageState::Failed, None, 0),
        };
        self.database
            .write(Durability::Promised, move |connection| {
                Box::pin(async move {
                    sqlx::query(
                        "UPDATE stages SET state = ?, outcome = ?, failures = failures + ?,
                             process = NULL, ended_at = ?
                         WHERE id = ?",
                    )
                    .bind(state.name())
                    .bind(outcome)
                    .bind(failures)
                    .bind(now_ms())
                    .bind(stage.to_string())
                    .execute(connection)
                    .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn stages_of(&self, order: Uuid) -> Result<Vec<StageRecord>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM stages WHERE order_id = ? ORDER BY started_at, rowid")
                .bind(order.to_string())
                .fetch_all(self.database.readers())
                .await?;
        rows.iter().map(stage_of).collect()
    }

    async fn is_of_open_order(&self, stage: Uuid) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT 1 FROM stages JOIN orders ON orders.id = stages.order_id
             WHERE stages.id = ? AND orders.open = 1",
        )
        .bind(stage.to_string())
        .fetch_optional(self.database.readers())
        .await?;
        Ok(row.is_some())
    }

    async fn stages_of_image(&self, image: Uuid) -> Result<Vec<StageRecord>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM stages WHERE image_id = ? ORDER BY started_at, rowid")
                .bind(image.to_string())
                .fetch_all(self.database.readers())
                .await?;
        rows.iter().map(stage_of).collect()
    }

    async fn journal(&self, stage: Uuid, entry: JournalEntry) -> Result<(), StoreError> {
        self.database
            .write(Durability::Promised, move |connection| {
                Box::pin(async move {
                    let details = entry
                        .details
                        .as_ref()
                        .map(|d| json_text(d, "journal details"))
                        .transpose()?;
                    sqlx::query(
                        "INSERT INTO journal
                             (stage_id, token, kind, event, scratch, resource_id, details)
                         VALUES (?, ?, ?, ?, ?, ?, ?)",
                    )
                    .bind(stage.to_string())
                    .bind(&entry.token)
                    .bind(&entry.kind)
                    .bind(event_name(entry.event))
                    .bind(entry.scratch)
                    .bind(&entry.resource_id)
                    .bind(details)
                    .execute(connection)
                    .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn outstanding(&self, stage: Uuid) -> Result<Vec<JournalEntry>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM journal AS entry WHERE stage_id = ?1 AND event <> 'removed'
                 AND seq = (SELECT MAX(seq) FROM journal
                            WHERE stage_id = ?1 AND token = entry.token AND kind = entry.kind)
             ORDER BY seq",
        )
        .bind(stage.to_string())
        .fetch_all(self.database.readers())
        .await?;
        rows.iter().map(entry_of).collect()
    }

    async fn put_checkpoint(&self, stage: Uuid, key: &str, value: &str) -> Result<(), StoreError> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.database
            .write(Durability::Promised, move |connection| {
                Box::pin(async move {
                    sqlx::query(
                        "INSERT INTO checkpoints VALUES (?, ?, ?)
                         ON CONFLICT (stage_id, key) DO UPDATE SET value = excluded.value",
                    )
                    .bind(stage.to_string())
                    .bind(&key)
                    .bind(&value)
                    .execute(connection)
                    .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn checkpoints(&self, stage: Uuid) -> Result<BTreeMap<String, String>, StoreError> {
        let rows = sqlx::query("SELECT key, value FROM checkpoints WHERE stage_id = ?")
            .bind(stage.to_string())
            .fetch_all(self.database.readers())
            .await?;
        rows.iter().map(|row| Ok((row.try_get("key")?, row.try_get("value")?))).collect()
    }
}

fn event_name(event: JournalEvent) -> &'static str {
    match event {
        JournalEvent::WillCreate => "will_create",
        JournalEvent::Created => "created",
        JournalEvent::Removed => "removed",
    }
}

fn stage_of(row: &SqliteRow) -> Result<StageRecord, StoreError> {
    let state: &str = row.try_get("state")?;
    let process: Option<&str> = row.try_get("process")?;
    let outcome: Option<&str> = row.try_get("outcome")?;
    Ok(StageRecord {
        id: uuid_of(row, "id")?,
        order_id: uuid_of(row, "order_id")?,
        image_id: uuid_of(row, "image_id")?,
        step: row.try_get("step")?,
        plugin_id: row.try_get("plugin_id")?,
        attempt: count_of(row.try_get("attempt")?, "a stage's attempt")?,
        failures: count_of(row.try_get("failures")?, "a stage's failures")?,
        state: StageState::parse(state)
            .ok_or_else(|| StoreError::damaged("a stage", format!("state '{state}'")))?,
        process: process.map(|text| json_of(text, "a stage's process")).transpose()?,
        outcome: outcome.map(|text| json_of(text, "a stage's outcome")).transpose()?,
    })
}

fn entry_of(row: &SqliteRow) -> Result<JournalEntry, StoreError> {
    let event: &str = row.try_get("event")?;
    let event = [JournalEvent::WillCreate, JournalEvent::Created, JournalEvent::Removed]
        .into_iter()
        .find(|candidate| event_name(*candidate) == event)
        .ok_or_else(|| StoreError::damaged("a journal entry", format!("event '{event}'")))?;
    let details: Option<&str> = row.try_get("details")?;
    Ok(JournalEntry {
        event,
        scratch: row.try_get("scratch")?,
        token: row.try_get("token")?,
        kind: row.try_get("kind")?,
        resource_id: row.try_get("resource_id")?,
        details: details.map(|text| json_of(text, "journal details")).transpose()?,
    })
}
