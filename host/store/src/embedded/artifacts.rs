//! Artefact records in SQLite.

use async_trait::async_trait;
use sqlx::Row;
use uuid::Uuid;

use super::{Durability, EmbeddedStore};
use crate::StoreError;
use crate::artifacts::{ArtifactRecord, ArtifactRecords};

#[async_trait]
impl ArtifactRecords for EmbeddedStore {
    async fn put_artifact(&self, image: Uuid, artifact: ArtifactRecord) -> Result<(), StoreError> {
        self.database
            .write(Durability::Promised, move |connection| {
                Box::pin(async move {
                    sqlx::query("INSERT OR REPLACE INTO artifacts VALUES (?, ?, ?, ?, ?)")
                        .bind(image.to_string())
                        .bind(&artifact.name)
                        .bind(&artifact.media_type)
                        .bind(i64::try_from(artifact.bytes).unwrap_or(i64::MAX))
                        .bind(&artifact.sha256)
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn artifacts(&self, image: Uuid) -> Result<Vec<ArtifactRecord>, StoreError> {
        let rows = sqlx::query("SELECT * FROM artifacts WHERE image_id = ? ORDER BY name")
            .bind(image.to_string())
            .fetch_all(self.database.readers())
            .await?;
        rows.iter()
            .map(|row| {
                let bytes: i64 = row.try_get("bytes")?;
                Ok(ArtifactRecord {
                    name: row.try_get("name")?,
                    media_type: row.try_get("media_type")?,
                    bytes: bytes.unsigned_abs(),
                    sha256: row.try_get("sha256")?,
                })
            })
            .collect()
    }
}
