//! The fetch specification of `images`: a JSON object whose keys must have these values in an
//! image's metadata. The original compared with its `.meta` files, key by key; so does this.

use imagefactory_model::image::ImageKind;
use imagefactory_model::status::Status;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::CommandError;

/// Which images are wanted.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct FetchSpec {
    wanted: Map<String, Value>,
}

impl FetchSpec {
    /// Reads the argument.
    pub(crate) fn parse(text: &str) -> Result<FetchSpec, CommandError> {
        match serde_json::from_str(text) {
            Ok(Value::Object(wanted)) => Ok(FetchSpec { wanted }),
            Ok(_) | Err(_) => Err(CommandError::Usage(format!(
                "the fetch specification is a JSON object such as '{{\"type\": \"BaseImage\"}}', \
                 and not {text:?}"
            ))),
        }
    }

    /// Does the image with this metadata fit? A key that it lacks fits nothing.
    pub(crate) fn fits(&self, meta: &Value) -> bool {
        self.wanted.iter().all(|(key, value)| meta.get(key) == Some(value))
    }

    /// The one image that can fit, where it is named.
    pub(crate) fn id(&self) -> Option<Uuid> {
        self.text("identifier").and_then(|id| id.parse().ok())
    }

    /// The one kind that can fit, where it is named.
    pub(crate) fn kind(&self) -> Option<ImageKind> {
        self.text("type").and_then(ImageKind::parse)
    }

    /// The one status that can fit, where it is named.
    pub(crate) fn status(&self) -> Option<Status> {
        self.text("status").and_then(|status| status.parse().ok())
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.wanted.get(key).and_then(Value::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check_fits(spec: &str, fits: bool) {
        let meta = json!({"type": "TargetImage", "status": "COMPLETE", "percent_complete": 100,
            "base_image_id": null});
        assert_eq!(FetchSpec::parse(spec).unwrap().fits(&meta), fits, "{spec}");
    }

    #[test]
    fn every_key_must_have_its_value() {
        check_fits("{}", true);
        check_fits(r#"{"type": "TargetImage"}"#, true);
        check_fits(r#"{"type": "TargetImage", "status": "FAILED"}"#, false);
        check_fits(r#"{"percent_complete": 100, "base_image_id": null}"#, true);
        check_fits(r#"{"percent_complete": "100"}"#, false);
        check_fits(r#"{"nonsense": null}"#, false);
    }

    #[test]
    fn what_is_no_object_is_refused_with_an_example() {
        for text in ["", "[]", "{", "BaseImage"] {
            let refused = FetchSpec::parse(text).unwrap_err();
            assert!(refused.to_string().contains(r#"{"type": "BaseImage"}"#), "{refused}");
            assert_eq!(refused.exit_status(), crate::error::USAGE);
        }
    }
}
