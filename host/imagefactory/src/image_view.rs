//! An image as commands show it, whether it comes from the store or from a daemon.

use std::path::Path;

use imagefactory_model::document;
use imagefactory_model::image::{Image, ImageKind};
use imagefactory_model::status::Status;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// An image at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ImageView {
    /// Which image.
    pub(crate) id: Uuid,
    /// Base, target or provider image.
    pub(crate) kind: ImageKind,
    /// The image that it is made from.
    pub(crate) parent: Option<Uuid>,
    /// Where it stands.
    pub(crate) status: Status,
    /// What is being done.
    pub(crate) activity: String,
    /// What went wrong.
    pub(crate) error: Option<String>,
    /// Its code.
    pub(crate) error_code: Option<String>,
    /// 0 to 100.
    pub(crate) percent: u8,
    /// Kind of cloud.
    pub(crate) target: Option<String>,
    /// `ami-…`.
    pub(crate) identifier_on_provider: Option<String>,
    /// Where its body is or would be: a path, or an address of the daemon.
    pub(crate) file: String,
    /// All of it, with the keys of `.meta` files.
    pub(crate) document: Value,
}

impl ImageView {
    /// From the store; `body` is where its body lies or would.
    pub(crate) fn of(image: &Image, body: &Path) -> ImageView {
        ImageView {
            id: image.id,
            kind: image.kind,
            parent: image.parent,
            status: image.status,
            activity: image.status_detail.activity.clone(),
            error: image.status_detail.error.clone(),
            error_code: image.status_detail.error_code.clone(),
            percent: image.percent_complete,
            target: image.target.clone(),
            identifier_on_provider: image.identifier_on_provider.clone(),
            file: body.to_string_lossy().into_owned(),
            document: document::meta(image, image.body.is_some().then_some(body)),
        }
    }

    /// From a daemon's answer (`{"base_image": {…}}`, or what is in it). `None`: it is no image.
    pub(crate) fn from_wire(answer: &Value) -> Option<ImageView> {
        let fields = ImageKind::ALL
            .iter()
            .find_map(|kind| answer.get(kind.name()))
            .unwrap_or(answer)
            .as_object()?;
        let kind = ImageKind::parse(fields.get("_type")?.as_str()?)?;
        let text = |key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
        let detail = fields.get("status_detail");
        let of_detail =
            |key: &str| detail.and_then(|detail| detail[key].as_str()).map(str::to_owned);
        let id = fields.get("id").and_then(Value::as_str)?.parse().ok()?;
        Some(ImageView {
            id,
            kind,
            parent: parent_of(fields, kind),
            status: fields.get("status")?.as_str()?.parse().ok()?,
            activity: of_detail("activity").unwrap_or_default(),
            error: of_detail("error"),
            error_code: of_detail("error_code"),
            percent: fields
                .get("percent_complete")
                .and_then(Value::as_u64)
                .and_then(|percent| u8::try_from(percent).ok())
                .unwrap_or(0),
            target: text("target"),
            identifier_on_provider: text("identifier_on_provider"),
            file: text("href").map(|href| format!("{href}/raw_image")).unwrap_or_default(),
            document: meta_of(fields, kind, id),
        })
    }

    /// `base_image 2b08…: BUILDING 5% Installing packages`: one line of progress.
    pub(crate) fn line(&self) -> String {
        let mut line = format!("{} {}: {}", self.kind.name(), self.id, self.status);
        if !self.status.is_final() && self.percent > 0 {
            line.push_str(&format!(" {}%", self.percent));
        }
        let text = match (&self.error, self.status) {
            // The first line is the sentence; the others are causes and log.
            (Some(error), Status::Failed | Status::DeleteFailed) => {
                error.lines().next().unwrap_or_default()
            }
            _ => &self.activity,
        };
        if !text.is_empty() {
            line.push(' ');
            line.push_str(text);
        }
        line
    }

    /// Has a person something new to see?
    pub(crate) fn tells_more_than(&self, before: &ImageView) -> bool {
        self.status != before.status || self.activity != before.activity
    }
}

/// GET nests the parent and gives its id under the old key too; POST gives the id alone.
fn parent_of(fields: &Map<String, Value>, kind: ImageKind) -> Option<Uuid> {
    let (old_key, nested) = match kind {
        ImageKind::BaseImage => return None,
        ImageKind::TargetImage => ("base_image_id", "base_image"),
        ImageKind::ProviderImage => ("target_image_id", "target_image"),
    };
    let id = fields.get(old_key).and_then(Value::as_str);
    let id = id.or_else(|| fields.get(nested).and_then(|parent| parent["id"].as_str()));
    id.and_then(|id| id.parse().ok())
}

/// The wire's fields under the keys of `.meta` files; nested images and addresses are the wire's
/// own.
fn meta_of(fields: &Map<String, Value>, kind: ImageKind, id: Uuid) -> Value {
    let mut meta = fields.clone();
    for key in
        ["_type", "id", "href", "base_image", "target_image", "target_images", "provider_images"]
    {
        meta.remove(key);
    }
    meta.insert("type".to_owned(), kind.type_name().into());
    meta.insert("identifier".to_owned(), id.to_string().into());
    meta.insert("data".to_owned(), Value::Null);
    let parent = json!(parent_of(fields, kind).map(|id| id.to_string()));
    match kind {
        ImageKind::BaseImage => {}
        ImageKind::TargetImage => {
            meta.insert("base_image_id".to_owned(), parent);
        }
        ImageKind::ProviderImage => {
            meta.insert("target_image_id".to_owned(), parent);
        }
    }
    Value::Object(meta)
}
