//! What the commands ask of a factory, be it in this process ([`crate::local`]) or behind a daemon
//! ([`crate::remote`]). Commands know this trait only.

use std::path::PathBuf;

use async_trait::async_trait;
use imagefactory_dispatch::requests::{CredentialsGiven, MadeFrom};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::CommandError;
use crate::fetch_spec::FetchSpec;
use crate::image_view::ImageView;

/// An image to build.
#[derive(Debug, Clone)]
pub(crate) struct BuildOrder {
    /// What to build.
    pub(crate) product: Product,
    /// As they are sent; `None` = none were given.
    pub(crate) parameters: Option<Map<String, Value>>,
}

/// What to build.
#[derive(Debug, Clone)]
pub(crate) enum Product {
    /// A base image from a template.
    Base {
        /// TDL.
        template: String,
    },
    /// A target image.
    Target {
        /// Kind of cloud.
        target: String,
        /// Image or template.
        from: MadeFrom,
    },
    /// A provider image.
    Provider {
        /// Kind of cloud.
        target: String,
        /// Its definition.
        provider: Value,
        /// With what to log in there.
        credentials: CredentialsGiven,
        /// Image or template.
        from: MadeFrom,
    },
}

/// A disk image to import.
#[derive(Debug, Clone)]
pub(crate) struct Import {
    /// The file.
    pub(crate) file: PathBuf,
    /// `None`: what its first bytes say.
    pub(crate) format: Option<String>,
    /// TDL that describes it.
    pub(crate) template: Option<String>,
    /// For later stages.
    pub(crate) parameters: Option<Map<String, Value>>,
}

/// An image to delete.
#[derive(Debug, Clone)]
pub(crate) struct Removal {
    /// Which image.
    pub(crate) id: Uuid,
    /// Overrides where it was pushed to.
    pub(crate) target: Option<String>,
    /// Overrides the provider that it was pushed to.
    pub(crate) provider: Option<Value>,
    /// With what to log in there.
    pub(crate) credentials: CredentialsGiven,
    /// Drop the record even though nobody can remove the image.
    pub(crate) forget: bool,
    /// `callbacks` is what counts.
    pub(crate) parameters: Option<Map<String, Value>>,
}

/// An order that was taken.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    /// The image that was asked for.
    pub(crate) image: ImageView,
    /// Odd, but taken.
    pub(crate) warnings: Vec<String>,
}

/// How far a log was read.
#[derive(Debug, Default)]
pub(crate) struct LogPosition {
    /// Is it read again and again until the image is final?
    pub(crate) follows: bool,
    /// Bytes of the log that were read, over all its files as they stand.
    pub(crate) bytes_read: u64,
    /// The file that is being read: a rotated log goes on in another.
    pub(crate) inode: Option<u64>,
}

impl LogPosition {
    /// The beginning of a log that is read once.
    pub(crate) fn start() -> LogPosition {
        LogPosition::default()
    }

    /// The beginning of a log that is followed.
    pub(crate) fn followed() -> LogPosition {
        LogPosition { follows: true, ..LogPosition::default() }
    }
}

/// A factory.
#[async_trait]
pub(crate) trait Factory: Send + Sync {
    /// Orders a build; durable when this returns.
    async fn order(&self, order: BuildOrder) -> Result<Taken, CommandError>;

    /// Takes a finished disk image as a base image.
    async fn import(&self, import: Import) -> Result<Taken, CommandError>;

    /// What failed cleanups left at providers, oldest first, in the words of REST.
    async fn leftovers(&self) -> Result<Vec<Value>, CommandError>;

    /// Nobody tries to remove it any more.
    async fn drop_leftover(&self, id: Uuid) -> Result<(), CommandError>;

    /// The image, or `None`.
    async fn image(&self, id: Uuid) -> Result<Option<ImageView>, CommandError>;

    /// All images that fit, oldest first.
    async fn images(&self, spec: &FetchSpec) -> Result<Vec<ImageView>, CommandError>;

    /// Orders a deletion.
    async fn delete(&self, removal: Removal) -> Result<ImageView, CommandError>;

    /// Asks for the work on an image to end.
    async fn cancel(&self, id: Uuid) -> Result<(), CommandError>;

    /// The plugins as objects, in the order of ids.
    async fn plugins(&self) -> Result<Vec<Value>, CommandError>;

    /// What the log says beyond `position`, which moves on. Nothing new is empty.
    async fn log(&self, id: Uuid, position: &mut LogPosition) -> Result<Vec<u8>, CommandError>;

    /// Returns when something may have changed: with the image as it was then, or with nothing when
    /// it is only time to look.
    async fn next_change(&self) -> Option<ImageView>;

    /// Ends what runs in this process, in order.
    async fn close(&self);
}
