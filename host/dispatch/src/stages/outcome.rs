//! The outcome of a stage as it is recorded, so that a stage that succeeded is never run again, and
//! what it means for the image.

use std::collections::BTreeMap;
use std::path::PathBuf;

use imagefactory_model::stage::{OutputFile, StageOutcome};
use imagefactory_store::images::ImageStep;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a stage brought back, ready for the record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecordedOutcome {
    /// Checked by the supervisor: keys and types.
    pub(crate) results: BTreeMap<String, Value>,
    /// The answer of should.
    pub(crate) should: Option<bool>,
    /// For the OS plugin.
    pub(crate) target_contents: Vec<Value>,
    /// The file, in the attempt's folder until the image is finished.
    pub(crate) output: Option<RecordedOutput>,
}

/// The file that a stage wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordedOutput {
    /// In the attempt's output folder.
    pub(crate) path: PathBuf,
    /// As declared and probed.
    pub(crate) format: String,
}

impl From<StageOutcome> for RecordedOutcome {
    fn from(outcome: StageOutcome) -> Self {
        RecordedOutcome {
            results: outcome.results,
            should: outcome.should_create_target_image,
            target_contents: outcome.target_contents,
            output: outcome
                .output
                .map(|OutputFile { path, format, .. }| RecordedOutput { path, format }),
        }
    }
}

impl RecordedOutcome {
    /// A result that is text.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.results.get(key).and_then(Value::as_str).map(str::to_owned)
    }

    /// What the results say about the image: ICICLE, identifiers, properties. No status.
    pub(crate) fn image_step(&self) -> ImageStep {
        let mut properties = Map::new();
        for key in ["effective_parameters", "properties"] {
            if let Some(Value::Object(found)) = self.results.get(key) {
                properties.extend(found.clone());
            }
        }
        ImageStep {
            icicle: self.text("icicle"),
            identifier_on_provider: self.text("identifier_on_provider"),
            provider_account_identifier: self.text("provider_account_identifier"),
            properties,
            ..ImageStep::default()
        }
    }
}
