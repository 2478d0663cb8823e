//! Order records in SQLite.

use async_trait::async_trait;
use imagefactory_model::order::{Order, OrderKind};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::{Durability, EmbeddedStore, count_of, from_ms, json_of, uuid_of, uuid_or_none};
use crate::StoreError;
use crate::orders::Orders;

#[async_trait]
impl Orders for EmbeddedStore {
    async fn open_orders(&self) -> Result<Vec<Order>, StoreError> {
        let rows = sqlx::query("SELECT * FROM orders WHERE open = 1 ORDER BY seq")
            .fetch_all(self.database.readers())
            .await?;
        rows.iter().map(order_of).collect()
    }

    async fn open_orders_of(&self, image: Uuid) -> Result<Vec<Order>, StoreError> {
        let rows = sqlx::query("SELECT * FROM orders WHERE image_id = ? AND open = 1 ORDER BY seq")
            .bind(image.to_string())
            .fetch_all(self.database.readers())
            .await?;
        rows.iter().map(order_of).collect()
    }

    async fn own(&self, order: Uuid, owner: Uuid) -> Result<(), StoreError> {
        self.database
            .write(Durability::Promised, move |connection| {
                Box::pin(async move {
                    sqlx::query("UPDATE orders SET owner = ? WHERE id = ?")
                        .bind(owner.to_string())
                        .bind(order.to_string())
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn request_cancel(&self, image: Uuid) -> Result<bool, StoreError> {
        self.database
            .write(Durability::Promised, move |connection| {
                Box::pin(async move {
                    let done = sqlx::query(
                        "UPDATE orders SET cancel_requested = 1
                         WHERE image_id = ? AND open = 1 AND kind NOT IN ('delete', 'cleanup')",
                    )
                    .bind(image.to_string())
                    .execute(connection)
                    .await?;
                    Ok(done.rows_affected() > 0)
                })
            })
            .await
    }

    async fn cancels_requested(&self) -> Result<Vec<Uuid>, StoreError> {
        let sql = "SELECT id FROM orders WHERE open = 1 AND cancel_requested = 1";
        let rows = sqlx::query(sql).fetch_all(self.database.readers()).await?;
        rows.iter().map(|row| uuid_of(row, "id")).collect()
    }

    async fn count_interruption(&self, order: Uuid, more: Option<u32>) -> Result<u32, StoreError> {
        self.database
            .write(Durability::Progress, move |connection| {
                Box::pin(async move {
                    let row = sqlx::query(
                        "UPDATE orders SET interruptions =
                             CASE WHEN ?1 IS NULL THEN 0 ELSE interruptions + ?1 END
                         WHERE id = ?2 RETURNING interruptions",
                    )
                    .bind(more)
                    .bind(order.to_string())
                    .fetch_optional(connection)
                    .await?;
                    row.map_or(Ok(0), |row| count_of(row.try_get(0)?, "an order's interruptions"))
                })
            })
            .await
    }

    async fn close(&self, order: Uuid) -> Result<(), StoreError> {
        self.database
            .write(Durability::Promised, move |connection| {
                Box::pin(async move {
                    sqlx::query("UPDATE orders SET open = 0 WHERE id = ?")
                        .bind(order.to_string())
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .await
    }
}

fn order_of(row: &SqliteRow) -> Result<Order, StoreError> {
    let kind: &str = row.try_get("kind")?;
    Ok(Order {
        id: uuid_of(row, "id")?,
        image_id: uuid_of(row, "image_id")?,
        kind: OrderKind::parse(kind)
            .ok_or_else(|| StoreError::damaged("an order", format!("kind '{kind}'")))?,
        callbacks: json_of(row.try_get("callbacks")?, "callbacks of an order")?,
        credentials: json_of(row.try_get("credentials")?, "an order's credential source")?,
        local: row.try_get("local")?,
        deletion: json_of(row.try_get("deletion")?, "a deletion")?,
        import_format: row.try_get("import_format")?,
        cancel_requested: row.try_get("cancel_requested")?,
        interruptions: count_of(row.try_get("interruptions")?, "an order's interruptions")?,
        owner: uuid_or_none(row, "owner")?,
        created_at: from_ms(row.try_get("created_at")?),
    })
}
