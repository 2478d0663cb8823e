//! An image: base, target or provider image, as the store keeps it and everybody sees it.
//!
//! One struct for the three kinds, because the wire, the store and the original treat them as one
//! with a few fields of their own; the constructors take the kind's own fields, so that an image
//! cannot lack what its kind needs. Statuses change through `host/dispatch/src/progress.rs` only.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::status::Status;

/// What `status_detail.activity` says of an image that nobody has worked on (the document's text).
pub const ACTIVITY_NEW: &str = "Initializing image prior to Cloud/OS customization";

/// The three kinds of image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageKind {
    /// Built from a template by an OS plugin.
    BaseImage,
    /// A base image customised for a target (a kind of cloud).
    TargetImage,
    /// A target image on a provider (one cloud).
    ProviderImage,
}

impl ImageKind {
    /// All three, in the order of a cascade.
    pub const ALL: [ImageKind; 3] =
        [ImageKind::BaseImage, ImageKind::TargetImage, ImageKind::ProviderImage];

    /// `base_image`: the root key on the wire, and the store's word.
    pub fn name(self) -> &'static str {
        match self {
            ImageKind::BaseImage => "base_image",
            ImageKind::TargetImage => "target_image",
            ImageKind::ProviderImage => "provider_image",
        }
    }

    /// `base_images`: the collection on the wire.
    pub fn collection(self) -> &'static str {
        match self {
            ImageKind::BaseImage => "base_images",
            ImageKind::TargetImage => "target_images",
            ImageKind::ProviderImage => "provider_images",
        }
    }

    /// `BaseImage`: `_type` on the wire and `type` in `.meta` files.
    pub fn type_name(self) -> &'static str {
        match self {
            ImageKind::BaseImage => "BaseImage",
            ImageKind::TargetImage => "TargetImage",
            ImageKind::ProviderImage => "ProviderImage",
        }
    }

    /// `Base Image`: in the activities that a build ends with.
    pub fn title(self) -> &'static str {
        match self {
            ImageKind::BaseImage => "Base Image",
            ImageKind::TargetImage => "Target Image",
            ImageKind::ProviderImage => "Provider Image",
        }
    }

    /// The kind whose [`ImageKind::name`], `type_name` or collection this is.
    pub fn parse(text: &str) -> Option<ImageKind> {
        ImageKind::ALL.into_iter().find(|kind| {
            text == kind.name() || text == kind.type_name() || text == kind.collection()
        })
    }
}

/// What is being done, and what went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusDetail {
    /// What is being done now, or how it ended.
    pub activity: String,
    /// One sentence, the causes, the last lines of the log; `None` while nothing went wrong.
    pub error: Option<String>,
    /// `plugin-crash`, `cancelled`, …: [`crate::stage::FailureCode`].
    pub error_code: Option<String>,
}

/// The file with an image's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// Apparent size.
    pub bytes: u64,
    /// Lower-case hex of the content.
    pub sha256: String,
    /// `raw`, `qcow2`, `vmdk`, …
    pub format: String,
}

/// An image of any kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Its name for ever.
    pub id: Uuid,
    /// Base, target or provider image.
    pub kind: ImageKind,
    /// The image it is made from: base image of a target image, target image of a provider image.
    pub parent: Option<Uuid>,
    /// TDL as sent; derived images carry their base image's.
    pub template: Option<String>,
    /// `ec2`; target and provider images.
    pub target: Option<String>,
    /// The provider's definition as sent, text or object; provider images.
    pub provider: Option<Value>,
    /// The `@name` it was pushed with, where it was a name; provider images.
    pub credentials_name: Option<String>,
    /// As sent; `None` = none were sent.
    pub parameters: Option<Map<String, Value>>,
    /// What was really used, and what plugins found out.
    pub properties: Map<String, Value>,
    /// XML text.
    pub icicle: Option<String>,
    /// Where it stands.
    pub status: Status,
    /// In words.
    pub status_detail: StatusDetail,
    /// 0 to 100; 100 exactly at COMPLETE.
    pub percent_complete: u8,
    /// `ami-…`; provider images.
    pub identifier_on_provider: Option<String>,
    /// The account it is in; provider images.
    pub provider_account_identifier: Option<String>,
    /// Its file, once there is one.
    pub body: Option<Body>,
    /// When it was ordered.
    pub created_at: OffsetDateTime,
    /// When it became final.
    pub finished_at: Option<OffsetDateTime>,
    /// Which try at it this is: 0 before the first, then 1, 2, …
    pub attempt: u32,
}

impl Image {
    /// A base image as ordered: NEW, nothing done.
    pub fn new_base(template: String, parameters: Option<Map<String, Value>>) -> Image {
        Image::ordered(ImageKind::BaseImage, Some(template), parameters)
    }

    /// A target image as ordered.
    pub fn new_target(
        base: Option<Uuid>,
        template: Option<String>,
        target: String,
        parameters: Option<Map<String, Value>>,
    ) -> Image {
        Image {
            parent: base,
            target: Some(target),
            ..Image::ordered(ImageKind::TargetImage, template, parameters)
        }
    }

    /// A provider image as ordered. `target_image` is `None` for a snapshot build.
    pub fn new_provider(
        target_image: Option<Uuid>,
        template: Option<String>,
        destination: Destination,
        parameters: Option<Map<String, Value>>,
    ) -> Image {
        Image {
            parent: target_image,
            target: Some(destination.target),
            provider: Some(destination.provider),
            credentials_name: destination.credentials_name,
            ..Image::ordered(ImageKind::ProviderImage, template, parameters)
        }
    }

    fn ordered(
        kind: ImageKind,
        template: Option<String>,
        parameters: Option<Map<String, Value>>,
    ) -> Image {
        Image {
            id: Uuid::new_v4(),
            kind,
            parent: None,
            template,
            target: None,
            provider: None,
            credentials_name: None,
            parameters,
            properties: Map::new(),
            icicle: None,
            status: Status::New,
            status_detail: StatusDetail {
                activity: ACTIVITY_NEW.to_owned(),
                error: None,
                error_code: None,
            },
            percent_complete: 0,
            identifier_on_provider: None,
            provider_account_identifier: None,
            body: None,
            created_at: OffsetDateTime::now_utc(),
            finished_at: None,
            attempt: 0,
        }
    }

    /// Did the client ask for a snapshot build on the provider?
    pub fn wants_snapshot(&self) -> bool {
        let asked = self.parameters.as_ref().and_then(|parameters| parameters.get("snapshot"));
        match asked {
            Some(Value::Bool(yes)) => *yes,
            // Forms and XML bodies carry text only.
            Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
            _ => false,
        }
    }
}

/// Where a provider image goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Destination {
    /// `ec2`.
    pub target: String,
    /// The provider's definition, text or object.
    pub provider: Value,
    /// `@name`, where the credentials are named ones.
    pub credentials_name: Option<String>,
}
