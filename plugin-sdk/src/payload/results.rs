//! What each operation may report with `set_result`, as types: one struct for each row of the
//! table of results. Unknown keys are refused, missing required ones too, so that a host (and a
//! plugin's own test) can read a finished stage's results in one go.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Of create_base_image, create_target_image, builder_should_create_target_image (when it answers
/// no) and builder_did_create_target_image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageResults {
    /// `raw`, `qcow2`, `vmdk`, …: of the file at OUTPUT_IMAGE; required where one was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// ICICLE, as XML text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icicle: Option<String>,
    /// Merged into the image's properties.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub properties: Map<String, Value>,
    /// The parameters that were used, defaults included.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub effective_parameters: Map<String, Value>,
}

/// Of push_image_to_provider and snapshot_image_on_provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderResults {
    /// `ami-…`.
    pub identifier_on_provider: String,
    /// The account that the image lies in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_account_identifier: Option<String>,
    /// ICICLE, as XML text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icicle: Option<String>,
    /// Merged into the image's properties.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub properties: Map<String, Value>,
    /// The parameters that were used, defaults included.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub effective_parameters: Map<String, Value>,
}

/// Of resolve_inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputResults {
    /// Changes whenever the same template would give another image.
    pub input_digest: String,
    /// Merged into the image's properties.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub properties: Map<String, Value>,
    /// The parameters that were used, defaults included.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub effective_parameters: Map<String, Value>,
}

/// Of verify_image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyResults {
    /// The verdict.
    pub verified: Verified,
    /// Merged into the image's properties.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub properties: Map<String, Value>,
    /// The parameters that were used, defaults included.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub effective_parameters: Map<String, Value>,
}

/// Did the image prove itself?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verified {
    /// Yes or no; no is a finding about the image, not a failure of the stage.
    pub ok: bool,
    /// How that was found out, for people: `booted to the login prompt in 14 s`.
    pub how: String,
}

/// Of builder_will_create_target_image, delete_from_provider and cleanup.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainResults {
    /// Merged into the image's properties.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub properties: Map<String, Value>,
    /// The parameters that were used, defaults included.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub effective_parameters: Map<String, Value>,
}

/// A finished stage's results, key by key, as the type of its operation. The error names the key.
pub fn read_results<Results: DeserializeOwned>(
    results: Map<String, Value>,
) -> Result<Results, serde_json::Error> {
    serde_json::from_value(Value::Object(results))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(json: &str) -> Map<String, Value> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn each_operation_has_its_own_keys() {
        let image: ImageResults = read_results(results(r#"{"format":"raw"}"#)).unwrap();
        assert_eq!(image.format.as_deref(), Some("raw"));
        let provider: ProviderResults =
            read_results(results(r#"{"identifier_on_provider":"ami-1"}"#)).unwrap();
        assert_eq!(provider.identifier_on_provider, "ami-1");
        let verify: VerifyResults =
            read_results(results(r#"{"verified":{"ok":false,"how":"no login prompt"}}"#)).unwrap();
        assert!(!verify.verified.ok);
        let plain: PlainResults = read_results(results(r#"{"properties":{"a":1}}"#)).unwrap();
        assert_eq!(plain.properties["a"], 1);
        let input: InputResults = read_results(results(r#"{"input_digest":"x"}"#)).unwrap();
        assert_eq!(serde_json::to_string(&input).unwrap(), r#"{"input_digest":"x"}"#);
    }

    #[test]
    fn foreign_missing_and_mistyped_keys_are_refused_by_name() {
        let error = read_results::<PlainResults>(results(r#"{"icicle":""}"#)).unwrap_err();
        assert!(error.to_string().contains("icicle"), "{error}");
        let error = read_results::<ProviderResults>(Map::new()).unwrap_err();
        assert!(error.to_string().contains("identifier_on_provider"), "{error}");
        assert!(read_results::<ImageResults>(results(r#"{"format":1}"#)).is_err());
        assert!(read_results::<VerifyResults>(results(r#"{"verified":true}"#)).is_err());
    }
}
