//! The log of changes: what was recorded about images, by any process, in order.
//!
//! Events and answers that are kept rendered follow it. It is bounded: whoever is too far behind is
//! told what he missed and reads the images again. Written in the transaction of each change.

use async_trait::async_trait;
use imagefactory_model::image::ImageKind;
use uuid::Uuid;

use crate::StoreError;

/// One recorded change of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedChange {
    /// Its place: 1, 2, … without gaps.
    pub seq: i64,
    /// Which image.
    pub image_id: Uuid,
    /// Its kind.
    pub kind: ImageKind,
    /// Did its status change, or only activity and percent?
    pub status_changed: bool,
    /// The image's fields after it as JSON text, without template and ICICLE. `None`: the record
    /// was removed, or lost its parent; no event tells that.
    pub document: Option<String>,
}

/// Which images a change touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touched {
    /// Its place.
    pub seq: i64,
    /// The image.
    pub image_id: Uuid,
    /// What it was made from then.
    pub parent: Option<Uuid>,
}

/// The log of changes.
#[async_trait]
pub trait ChangeLog {
    /// The place of the last change; 0 where there never was one.
    async fn last_change(&self) -> Result<i64, StoreError>;

    /// At most `limit` changes beyond that place, in order. Where the first one is not the next
    /// place, those between are not kept any more.
    async fn changes_after(&self, seq: i64, limit: u32) -> Result<Vec<RecordedChange>, StoreError>;

    /// The same, without what is only told.
    async fn touched_after(&self, seq: i64, limit: u32) -> Result<Vec<Touched>, StoreError>;
}
