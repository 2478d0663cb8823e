//! The log of changes in SQLite.

use async_trait::async_trait;
use imagefactory_model::document;
use imagefactory_model::image::{Image, ImageKind};
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::images::kind_of;
use super::{EmbeddedStore, json_text, uuid_of, uuid_or_none};
use crate::StoreError;
use crate::changes::{ChangeLog, RecordedChange, Touched};

/// Changes that are kept: some minutes of a busy factory, at most some megabytes.
const CHANGES_KEPT: i64 = 8192;

/// Old ones are removed together, which costs less than one by one.
const REMOVED_TOGETHER: i64 = 256;

#[async_trait]
impl ChangeLog for EmbeddedStore {
    async fn last_change(&self) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT COALESCE(MAX(seq), 0) FROM changes")
            .fetch_one(self.database.readers())
            .await?;
        Ok(row.try_get(0)?)
    }

    async fn changes_after(&self, seq: i64, limit: u32) -> Result<Vec<RecordedChange>, StoreError> {
        let rows = sqlx::query("SELECT * FROM changes WHERE seq > ? ORDER BY seq LIMIT ?")
            .bind(seq)
            .bind(limit)
            .fetch_all(self.database.readers())
            .await?;
        rows.iter()
            .map(|row| {
                Ok(RecordedChange {
                    seq: row.try_get("seq")?,
                    image_id: uuid_of(row, "image_id")?,
                    kind: kind_of(row)?,
                    status_changed: row.try_get("status_changed")?,
                    document: row.try_get("document")?,
                })
            })
            .collect()
    }

    async fn touched_after(&self, seq: i64, limit: u32) -> Result<Vec<Touched>, StoreError> {
        let sql = "SELECT seq, image_id, parent FROM changes WHERE seq > ? ORDER BY seq LIMIT ?";
        let rows =
            sqlx::query(sql).bind(seq).bind(limit).fetch_all(self.database.readers()).await?;
        rows.iter()
            .map(|row| {
                Ok(Touched {
                    seq: row.try_get("seq")?,
                    image_id: uuid_of(row, "image_id")?,
                    parent: uuid_or_none(row, "parent")?,
                })
            })
            .collect()
    }
}

/// A change that somebody hears of.
pub(super) async fn tell(
    connection: &mut SqliteConnection,
    image: &Image,
    status_changed: bool,
) -> Result<(), StoreError> {
    let mut fields = document::fields(image);
    // Whoever wants a template of a megabyte asks for the image.
    fields.remove("template");
    fields.remove("icicle");
    let document = json_text(&fields, "a change")?;
    insert(connection, image.id, image.parent, (image.kind, status_changed, Some(document))).await
}

/// A change that only those notice who keep the image.
pub(super) async fn note(
    connection: &mut SqliteConnection,
    image: Uuid,
    parent: Option<Uuid>,
    kind: ImageKind,
) -> Result<(), StoreError> {
    insert(connection, image, parent, (kind, false, None)).await
}

async fn insert(
    connection: &mut SqliteConnection,
    image: Uuid,
    parent: Option<Uuid>,
    (kind, status_changed, document): (ImageKind, bool, Option<String>),
) -> Result<(), StoreError> {
    let inserted = sqlx::query(
        "INSERT INTO changes (image_id, parent, kind, status_changed, document)
         VALUES (?, ?, ?, ?, ?)",
    )
    .bind(image.to_string())
    .bind(parent.map(|id| id.to_string()))
    .bind(kind.name())
    .bind(status_changed)
    .bind(document)
    .execute(&mut *connection)
    .await?;
    let seq = inserted.last_insert_rowid();
    if seq % REMOVED_TOGETHER == 0 {
        sqlx::query("DELETE FROM changes WHERE seq <= ?")
            .bind(seq - CHANGES_KEPT)
            .execute(connection)
            .await?;
    }
    Ok(())
}
