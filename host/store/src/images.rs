//! The records of images: submitted with their orders, changed one step at a time, found, listed.

use async_trait::async_trait;
use imagefactory_model::change::Change;
use imagefactory_model::image::{Body, Image, ImageKind, StatusDetail};
use imagefactory_model::order::Submission;
use imagefactory_model::status::Status;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::StoreError;

/// How a submission was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// Recorded, durably.
    Accepted,
    /// The same request was accepted before under its `Idempotency-Key`, or another deletion of the
    /// image is open: this is the image.
    Replayed(Uuid),
}

/// An entry of a list: enough to name the image and to go on from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageEntry {
    /// The image.
    pub id: Uuid,
    /// Its kind.
    pub kind: ImageKind,
    /// Its place by age, to go on from (`ImageQuery::beyond`).
    pub place: i64,
}

/// Which images to list; oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageQuery {
    /// Only of this kind.
    pub kind: Option<ImageKind>,
    /// Only children of this image.
    pub parent: Option<Uuid>,
    /// Only in this status.
    pub status: Option<Status>,
    /// Only younger than this image (an unknown one: nothing).
    pub after: Option<Uuid>,
    /// Only beyond this place: holds even where the image that had it is deleted meanwhile.
    pub beyond: Option<i64>,
    /// At most so many.
    pub limit: Option<u32>,
}

/// One step in an image's life. `None` leaves a value as it is.
///
/// Built by `host/dispatch/src/progress.rs` alone, which publishes what was recorded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImageStep {
    /// The next status; the table in `model::status` must allow it.
    pub status: Option<Status>,
    /// What is being done.
    pub activity: Option<String>,
    /// What went wrong; recorded together with `error_code`.
    pub error: Option<String>,
    /// Its code.
    pub error_code: Option<String>,
    /// 0 to 100.
    pub percent_complete: Option<u8>,
    /// XML text.
    pub icicle: Option<String>,
    /// Merged into the image's properties.
    pub properties: Map<String, Value>,
    /// `ami-…`.
    pub identifier_on_provider: Option<String>,
    /// The account.
    pub provider_account_identifier: Option<String>,
    /// The file that is now in place.
    pub body: Option<Body>,
    /// Its content key.
    pub content_key: Option<String>,
    /// The template of a derived image, once its parent is known.
    pub template: Option<String>,
    /// Which try begins.
    pub attempt: Option<u32>,
}

impl ImageStep {
    /// A step to a status.
    pub fn to(status: Status) -> ImageStep {
        ImageStep { status: Some(status), ..ImageStep::default() }
    }

    /// The image after this step. Pure; the status is checked by the caller, in the transaction.
    pub fn applied_to(self, mut image: Image) -> Image {
        if let Some(status) = self.status {
            image.status = status;
            if status.is_final() {
                image.finished_at = Some(time::OffsetDateTime::now_utc());
            }
        }
        let StatusDetail { activity, error, error_code } = image.status_detail;
        image.status_detail = StatusDetail {
            activity: self.activity.unwrap_or(activity),
            error: self.error.or(error),
            error_code: self.error_code.or(error_code),
        };
        image.percent_complete = self.percent_complete.unwrap_or(image.percent_complete);
        image.icicle = self.icicle.or(image.icicle);
        image.properties.extend(self.properties);
        image.identifier_on_provider = self.identifier_on_provider.or(image.identifier_on_provider);
        image.provider_account_identifier =
            self.provider_account_identifier.or(image.provider_account_identifier);
        image.body = self.body.or(image.body);
        image.template = self.template.or(image.template);
        image.attempt = self.attempt.unwrap_or(image.attempt);
        image
    }
}

/// A state of all records: equal revisions mean that nothing was committed in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision(pub(crate) [u8; 48]);

/// The records of images.
#[async_trait]
pub trait Images {
    /// The state that a read which begins now sees at least, for caches: whoever took it before he
    /// read may serve what he read for as long as it stays the same. Costs one system call; `None`
    /// = this store cannot tell.
    fn revision(&self) -> Option<Revision> {
        None
    }

    /// Records images and orders, all or none, durably. Callbacks for NEW are not sent: the client
    /// has the answer. Errors: a full disk, or an `Idempotency-Key` used for another request.
    async fn submit(&self, submission: Submission) -> Result<Submitted, StoreError>;

    /// The image, or `None`.
    async fn image(&self, id: Uuid) -> Result<Option<Image>, StoreError>;

    /// Entries that match, oldest first.
    async fn list(&self, query: ImageQuery) -> Result<Vec<ImageEntry>, StoreError>;

    /// A complete image with this content key whose body can be shared, the youngest first.
    async fn image_with_content(&self, content_key: &str) -> Result<Option<Image>, StoreError>;

    /// Records one step and, when the status changes, queues the callbacks of the image's open
    /// orders in the same transaction. Promised to survive a power cut when the status changes.
    /// Errors: no such image, or a step that the status table forbids.
    async fn step(&self, id: Uuid, step: ImageStep) -> Result<Change, StoreError>;

    /// Removes the record of a DELETED image, with its stages, journal and artefact records; its
    /// children stay and lose their parent. Queued callbacks stay until they are delivered.
    async fn forget(&self, id: Uuid) -> Result<(), StoreError>;

    /// How many images there are of each kind and status, for metrics.
    async fn census(&self) -> Result<Vec<(ImageKind, Status, u64)>, StoreError>;
}
