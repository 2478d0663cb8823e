//! Image records in SQLite.

use async_trait::async_trait;
use imagefactory_model::change::Change;
use imagefactory_model::document;
use imagefactory_model::image::{Body, Image, ImageKind, StatusDetail};
use imagefactory_model::order::{IdempotencyKey, Order, OrderKind, Submission};
use imagefactory_model::status::Status;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};
use uuid::Uuid;

use super::{
    Durability, EmbeddedStore, changes, count_of, from_ms, json_of, json_text, now_ms, to_ms,
    uuid_of, uuid_or_none,
};
use crate::StoreError;
use crate::images::{ImageEntry, ImageQuery, ImageStep, Images, Revision, Submitted};

/// How long an `Idempotency-Key` is remembered (rest-contract.md: 24 h).
const IDEMPOTENCY_MS: i64 = 24 * 60 * 60 * 1000;

#[async_trait]
impl Images for EmbeddedStore {
    fn revision(&self) -> Option<Revision> {
        self.wal_index.revision()
    }

    async fn submit(&self, submission: Submission) -> Result<Submitted, StoreError> {
        self.database
            .write(Durability::Promised, move |connection| {
                Box::pin(async move {
                    let answered_with =
                        submission.orders.last().map(|order| order.image_id).ok_or_else(|| {
                            StoreError::damaged("a submission", "it has no order")
                        })?;
                    if let Some(key) = &submission.idempotency
                        && let Some(earlier) = replayed(connection, key, answered_with).await?
                    {
                        return Ok(Submitted::Replayed(earlier));
                    }
                    if let Some(deleted) = deleted_already(connection, &submission.orders).await? {
                        return Ok(Submitted::Replayed(deleted));
                    }
                    for image in &submission.images {
                        insert_image(connection, image).await?;
                        changes::tell(connection, image, true).await?;
                    }
                    for order in &submission.orders {
                        insert_order(connection, order).await?;
                    }
                    Ok(Submitted::Accepted)
                })
            })
            .await
    }

    async fn image(&self, id: Uuid) -> Result<Option<Image>, StoreError> {
        let row = sqlx::query("SELECT * FROM images WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(self.database.readers())
            .await?;
        row.map(|row| image_of(&row)).transpose()
    }

    async fn list(&self, query: ImageQuery) -> Result<Vec<ImageEntry>, StoreError> {
        let mut sql = QueryBuilder::<Sqlite>::new("SELECT seq, id, kind FROM images WHERE 1 = 1");
        if let Some(kind) = query.kind {
            sql.push(" AND kind = ").push_bind(kind.name());
        }
        if let Some(parent) = query.parent {
            sql.push(" AND parent = ").push_bind(parent.to_string());
        }
        if let Some(status) = query.status {
            sql.push(" AND status = ").push_bind(status.name());
        }
        if let Some(after) = query.after {
            sql.push(" AND seq > (SELECT seq FROM images WHERE id = ")
                .push_bind(after.to_string())
                .push(")");
        }
        if let Some(place) = query.beyond {
            sql.push(" AND seq > ").push_bind(place);
        }
        sql.push(" ORDER BY seq");
        if let Some(limit) = query.limit {
            sql.push(" LIMIT ").push_bind(i64::from(limit));
        }
        let rows = sql.build().fetch_all(self.database.readers()).await?;
        rows.iter()
            .map(|row| {
                let place = row.try_get("seq")?;
                Ok(ImageEntry { id: uuid_of(row, "id")?, kind: kind_of(row)?, place })
            })
            .collect()
    }

    async fn image_with_content(&self, content_key: &str) -> Result<Option<Image>, StoreError> {
        let row = sqlx::query(
            "SELECT * FROM images WHERE content_key = ? AND status = 'COMPLETE'
             ORDER BY seq DESC LIMIT 1",
        )
        .bind(content_key)
        .fetch_optional(self.database.readers())
        .await?;
        row.map(|row| image_of(&row)).transpose()
    }

    async fn step(&self, id: Uuid, step: ImageStep) -> Result<Change, StoreError> {
        let durability = match step.status {
            Some(_) => Durability::Promised,
            None => Durability::Progress,
        };
        self.database
            .write(durability, move |connection| {
                Box::pin(async move { record_step(connection, id, step).await })
            })
            .await
    }

    async fn forget(&self, id: Uuid) -> Result<(), StoreError> {
        self.database
            .write(Durability::Promised, move |connection| {
                Box::pin(async move {
                    note_removal(connection, id).await?;
                    let id = id.to_string();
                    for statement in [
                        // The journal of what a cleanup could not remove stays until it is gone.
                        "DELETE FROM journal WHERE stage_id IN
                             (SELECT id FROM stages WHERE image_id = ?1)
                             AND stage_id NOT IN (SELECT stage_id FROM leftovers)",
                        "DELETE FROM checkpoints WHERE stage_id IN
                             (SELECT id FROM stages WHERE image_id = ?1)
                             AND stage_id NOT IN (SELECT stage_id FROM leftovers)",
                        "DELETE FROM stages WHERE image_id = ?1",
                        "DELETE FROM artifacts WHERE image_id = ?1",
                        "DELETE FROM orders WHERE image_id = ?1",
                        "UPDATE images SET parent = NULL WHERE parent = ?1",
                        "DELETE FROM images WHERE id = ?1",
                    ] {
                        sqlx::query(statement).bind(&id).execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    async fn census(&self) -> Result<Vec<(ImageKind, Status, u64)>, StoreError> {
        let rows = sqlx::query(
            "SELECT kind, status, COUNT(*) AS images FROM images GROUP BY kind, status",
        )
        .fetch_all(self.database.readers())
        .await?;
        rows.iter()
            .map(|row| {
                let images: i64 = row.try_get("images")?;
                Ok((kind_of(row)?, status_of(row)?, u64::try_from(images).unwrap_or(0)))
            })
            .collect()
    }
}

/// The image of a deletion, where another one of it is open: one is enough. Errors: the image is
/// gone by now.
async fn deleted_already(
    connection: &mut SqliteConnection,
    orders: &[Order],
) -> Result<Option<Uuid>, StoreError> {
    let deletion = orders.iter().find(|order| order.kind == OrderKind::Delete);
    let Some(image) = deletion.map(|order| order.image_id) else { return Ok(None) };
    let open = sqlx::query(
        "SELECT EXISTS (SELECT 1 FROM images WHERE id = ?1) AS is_there,
             EXISTS (SELECT 1 FROM orders WHERE image_id = ?1 AND open = 1 AND kind = 'delete')
                 AS is_deleted",
    )
    .bind(image.to_string())
    .fetch_one(connection)
    .await?;
    match (open.try_get("is_there")?, open.try_get("is_deleted")?) {
        (false, _) => Err(StoreError::NoSuchImage(image)),
        (true, is_deleted) => Ok(Some(image).filter(|_| is_deleted)),
    }
}

/// The image that an earlier request with this key was answered with; records the key otherwise.
async fn replayed(
    connection: &mut SqliteConnection,
    key: &IdempotencyKey,
    answered_with: Uuid,
) -> Result<Option<Uuid>, StoreError> {
    sqlx::query("DELETE FROM idempotency WHERE created_at < ?")
        .bind(now_ms() - IDEMPOTENCY_MS)
        .execute(&mut *connection)
        .await?;
    let earlier = sqlx::query(
        "SELECT request_sha256, image_id FROM idempotency WHERE client = ? AND key = ?",
    )
    .bind(&key.client)
    .bind(&key.key)
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(row) = earlier {
        let request: &str = row.try_get("request_sha256")?;
        if request != key.request_sha256 {
            return Err(StoreError::IdempotencyMismatch(key.key.clone()));
        }
        return uuid_of(&row, "image_id").map(Some);
    }
    sqlx::query("INSERT INTO idempotency VALUES (?, ?, ?, ?, ?)")
        .bind(&key.client)
        .bind(&key.key)
        .bind(&key.request_sha256)
        .bind(answered_with.to_string())
        .bind(now_ms())
        .execute(connection)
        .await?;
    Ok(None)
}

async fn insert_image(connection: &mut SqliteConnection, image: &Image) -> Result<(), StoreError> {
    let provider = image.provider.as_ref().map(|p| json_text(p, "a provider")).transpose()?;
    let parameters = image.parameters.as_ref().map(|p| json_text(p, "parameters")).transpose()?;
    sqlx::query(
        "INSERT INTO images (id, kind, parent, template, target, provider, credentials_name,
             parameters, properties, icicle, status, activity, error, error_code, percent_complete,
             identifier_on_provider, provider_account_identifier, body_bytes, body_sha256,
             body_format, created_at, finished_at, attempt)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(image.id.to_string())
    .bind(image.kind.name())
    .bind(image.parent.map(|id| id.to_string()))
    .bind(&image.template)
    .bind(&image.target)
    .bind(provider)
    .bind(&image.credentials_name)
    .bind(parameters)
    .bind(json_text(&image.properties, "properties")?)
    .bind(&image.icicle)
    .bind(image.status.name())
    .bind(&image.status_detail.activity)
    .bind(&image.status_detail.error)
    .bind(&image.status_detail.error_code)
    .bind(image.percent_complete)
    .bind(&image.identifier_on_provider)
    .bind(&image.provider_account_identifier)
    .bind(image.body.as_ref().map(|body| clamped(body.bytes)))
    .bind(image.body.as_ref().map(|body| &body.sha256))
    .bind(image.body.as_ref().map(|body| &body.format))
    .bind(to_ms(image.created_at))
    .bind(image.finished_at.map(to_ms))
    .bind(image.attempt)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn insert_order(
    connection: &mut SqliteConnection,
    order: &Order,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO orders (id, image_id, kind, callbacks, credentials, local, deletion,
             import_format, owner, created_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(order.id.to_string())
    .bind(order.image_id.to_string())
    .bind(order.kind.name())
    .bind(json_text(&order.callbacks, "callbacks")?)
    .bind(json_text(&order.credentials, "a credential source")?)
    .bind(order.local)
    .bind(json_text(&order.deletion, "a deletion")?)
    .bind(&order.import_format)
    .bind(order.owner.map(|owner| owner.to_string()))
    .bind(to_ms(order.created_at))
    .execute(connection)
    .await?;
    Ok(())
}

async fn record_step(
    connection: &mut SqliteConnection,
    id: Uuid,
    step: ImageStep,
) -> Result<Change, StoreError> {
    let row = sqlx::query("SELECT * FROM images WHERE id = ?")
        .bind(id.to_string())
        .fetch_optional(&mut *connection)
        .await?
        .ok_or(StoreError::NoSuchImage(id))?;
    let before = image_of(&row)?;
    let from = before.status;
    let status_changed = step.status.is_some_and(|to| to != from);
    if let Some(to) = step.status
        && status_changed
        && !from.can_become(to)
    {
        return Err(StoreError::Transition { id, from, to });
    }
    let content_key = step.content_key.clone();
    let image = step.applied_to(before);
    update_image(connection, &image, content_key).await?;
    changes::tell(connection, &image, status_changed).await?;
    if status_changed {
        queue_callbacks(connection, &image).await?;
    }
    Ok(Change { image, status_changed })
}

/// The image goes, and its children lose their parent: who keeps them notices.
async fn note_removal(connection: &mut SqliteConnection, id: Uuid) -> Result<(), StoreError> {
    let rows = sqlx::query("SELECT id, kind, parent FROM images WHERE id = ?1 OR parent = ?1")
        .bind(id.to_string())
        .fetch_all(&mut *connection)
        .await?;
    for row in &rows {
        let (image, parent) = (uuid_of(row, "id")?, uuid_or_none(row, "parent")?);
        changes::note(connection, image, parent, kind_of(row)?).await?;
    }
    Ok(())
}

async fn update_image(
    connection: &mut SqliteConnection,
    image: &Image,
    content_key: Option<String>,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE images SET template = ?, properties = ?, icicle = ?, status = ?, activity = ?,
             error = ?, error_code = ?, percent_complete = ?, identifier_on_provider = ?,
             provider_account_identifier = ?, body_bytes = ?, body_sha256 = ?, body_format = ?,
             content_key = COALESCE(?, content_key), finished_at = ?, attempt = ?
         WHERE id = ?",
    )
    .bind(&image.template)
    .bind(json_text(&image.properties, "properties")?)
    .bind(&image.icicle)
    .bind(image.status.name())
    .bind(&image.status_detail.activity)
    .bind(&image.status_detail.error)
    .bind(&image.status_detail.error_code)
    .bind(image.percent_complete)
    .bind(&image.identifier_on_provider)
    .bind(&image.provider_account_identifier)
    .bind(image.body.as_ref().map(|body| clamped(body.bytes)))
    .bind(image.body.as_ref().map(|body| &body.sha256))
    .bind(image.body.as_ref().map(|body| &body.format))
    .bind(content_key)
    .bind(image.finished_at.map(to_ms))
    .bind(image.attempt)
    .bind(image.id.to_string())
    .execute(connection)
    .await?;
    Ok(())
}

/// Every open order of the image has its own listeners; one that stands in several is told once.
async fn queue_callbacks(
    connection: &mut SqliteConnection,
    image: &Image,
) -> Result<(), StoreError> {
    let orders = sqlx::query(
        "SELECT callbacks FROM orders WHERE image_id = ? AND open = 1 AND callbacks <> '[]'
         ORDER BY seq",
    )
    .bind(image.id.to_string())
    .fetch_all(&mut *connection)
    .await?;
    if orders.is_empty() {
        return Ok(());
    }
    let document = json_text(&document::rooted(image), "a callback")?;
    let mut told: Vec<String> = Vec::new();
    for order in &orders {
        let urls: Vec<String> = json_of(order.try_get("callbacks")?, "callbacks of an order")?;
        for url in urls {
            if told.contains(&url) {
                continue;
            }
            sqlx::query(
                "INSERT INTO callbacks (image_id, url, document, due_at) VALUES (?, ?, ?, ?)",
            )
            .bind(image.id.to_string())
            .bind(&url)
            .bind(&document)
            .bind(now_ms())
            .execute(&mut *connection)
            .await?;
            told.push(url);
        }
    }
    Ok(())
}

pub(super) fn kind_of(row: &SqliteRow) -> Result<ImageKind, StoreError> {
    let text: &str = row.try_get("kind")?;
    ImageKind::parse(text).ok_or_else(|| StoreError::damaged("an image", format!("kind '{text}'")))
}

fn status_of(row: &SqliteRow) -> Result<Status, StoreError> {
    let text: &str = row.try_get("status")?;
    text.parse().map_err(|cause| StoreError::damaged("an image", cause))
}

/// SQLite's integers are signed; no file is that large.
fn clamped(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn image_of(row: &SqliteRow) -> Result<Image, StoreError> {
    let provider: Option<&str> = row.try_get("provider")?;
    let parameters: Option<&str> = row.try_get("parameters")?;
    let body_bytes: Option<i64> = row.try_get("body_bytes")?;
    let body = match body_bytes {
        None => None,
        Some(bytes) => Some(Body {
            bytes: u64::try_from(bytes).unwrap_or(0),
            sha256: row.try_get("body_sha256")?,
            format: row.try_get("body_format")?,
        }),
    };
    let percent: i64 = row.try_get("percent_complete")?;
    let finished_at: Option<i64> = row.try_get("finished_at")?;
    Ok(Image {
        id: uuid_of(row, "id")?,
        kind: kind_of(row)?,
        parent: uuid_or_none(row, "parent")?,
        template: row.try_get("template")?,
        target: row.try_get("target")?,
        provider: provider.map(|text| json_of(text, "an image's provider")).transpose()?,
        credentials_name: row.try_get("credentials_name")?,
        parameters: parameters.map(|text| json_of(text, "an image's parameters")).transpose()?,
        properties: json_of(row.try_get("properties")?, "an image's properties")?,
        icicle: row.try_get("icicle")?,
        status: status_of(row)?,
        status_detail: StatusDetail {
            activity: row.try_get("activity")?,
            error: row.try_get("error")?,
            error_code: row.try_get("error_code")?,
        },
        percent_complete: u8::try_from(percent).unwrap_or(100),
        identifier_on_provider: row.try_get("identifier_on_provider")?,
        provider_account_identifier: row.try_get("provider_account_identifier")?,
        body,
        created_at: from_ms(row.try_get("created_at")?),
        finished_at: finished_at.map(from_ms),
        attempt: count_of(row.try_get("attempt")?, "an image's attempt")?,
    })
}
