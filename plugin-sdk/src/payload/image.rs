//! Images as a stage sees them (`images_json`): the one that it fills or deletes, and those that it
//! is made from. The host writes these documents; a plugin reads them and reports changes as
//! results, never by writing here.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What kind of image it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageKind {
    /// An operating system, for no cloud yet.
    BaseImage,
    /// Made ready for one target.
    TargetImage,
    /// Lies at a provider.
    ProviderImage,
    /// A provider's own minimal image (just enough operating system) that a snapshot build starts
    /// from.
    Jeos,
}

/// One image. Keys that a newer host adds are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageDocument {
    /// UUID; for a JEOS image the provider's own id.
    pub id: String,
    /// What kind of image it is.
    pub kind: ImageKind,
    /// `raw`, `qcow2`, …; `None` while there is no body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Apparent size of the body in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Lower-case hex of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Where the body can be read in this stage; absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// ICICLE, as XML text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icicle: Option<String>,
    /// What the client asked for.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// What was used and found, by plugins and host.
    #[serde(default)]
    pub properties: Map<String, Value>,
    /// `ami-…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier_on_provider: Option<String>,
    /// The account that it lies in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_account_identifier: Option<String>,
}

impl ImageDocument {
    /// An image of which nothing is known but its id.
    pub fn new(id: impl Into<String>, kind: ImageKind) -> Self {
        ImageDocument {
            id: id.into(),
            kind,
            format: None,
            size: None,
            sha256: None,
            path: None,
            icicle: None,
            parameters: Map::new(),
            properties: Map::new(),
            identifier_on_provider: None,
            provider_account_identifier: None,
        }
    }
}

/// The images of one stage, those that exist.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageImages {
    /// The one that this stage fills or deletes.
    #[serde(default, rename = "self", skip_serializing_if = "Option::is_none")]
    pub own: Option<ImageDocument>,
    /// The base image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<ImageDocument>,
    /// The target image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ImageDocument>,
    /// The provider image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ImageDocument>,
    /// What a snapshot build starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jeos: Option<ImageDocument>,
}

impl StageImages {
    /// Reads `images_json`.
    pub fn from_json(json: &str) -> Result<StageImages, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// The document for `images_json`.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_images_of_a_stage_are_read_by_role() {
        let json = r#"{"self":{"id":"1","kind":"target_image","parameters":{"a":1},"new":true},
                       "base":{"id":"2","kind":"base_image","format":"raw","size":10,
                               "sha256":"00","path":"/in"}}"#;
        let images = StageImages::from_json(json).unwrap();
        assert_eq!(images.own.as_ref().unwrap().parameters["a"], 1);
        let base = images.base.as_ref().unwrap();
        assert_eq!((base.kind, base.size), (ImageKind::BaseImage, Some(10)));
        assert!(images.target.is_none() && images.provider.is_none() && images.jeos.is_none());
        let again = StageImages::from_json(&images.to_json().unwrap()).unwrap();
        assert_eq!(again, images);
    }

    #[test]
    fn an_image_without_id_or_of_no_known_kind_is_refused() {
        assert!(StageImages::from_json(r#"{"self":{"kind":"base_image"}}"#).is_err());
        assert!(StageImages::from_json(r#"{"self":{"id":"1","kind":"floppy"}}"#).is_err());
    }

    #[test]
    fn what_does_not_exist_is_not_written() {
        let own = Some(ImageDocument::new("1", ImageKind::BaseImage));
        let json = StageImages { own, ..StageImages::default() }.to_json().unwrap();
        assert_eq!(
            json,
            r#"{"self":{"id":"1","kind":"base_image","parameters":{},"properties":{}}}"#
        );
    }
}
