//! `imgf_stage` from a StageOrder: owns the texts that the struct lends to the plugin.

use imagefactory_model::stage::StageOrder;
use imagefactory_plugin_sdk::abi::{imgf_stage, imgf_str};
use serde_json::{Map, Value};

use crate::texts::{HostText, InnerNul};

/// The order in the ABI's form; lives until the operation has returned.
pub struct StageInput {
    stage: imgf_stage,
    contents: Vec<HostText>,
    journal: HostText,
    /// What `stage` points to; never touched again.
    _texts: Vec<HostText>,
}

/// A text of the order that cannot cross the boundary.
#[derive(Debug, thiserror::Error)]
#[error("{field} of the order {source}")]
pub struct BadText {
    field: &'static str,
    #[source]
    source: InnerNul,
}

impl StageInput {
    /// Copies everything that the plugin may read.
    pub fn new(order: &StageOrder) -> Result<Self, BadText> {
        let mut texts = Vec::new();
        let mut lend = |field, text: Option<&str>| match text {
            Some(text) => {
                let text = HostText::new(text).map_err(|source| BadText { field, source })?;
                let lent = text.lend();
                texts.push(text);
                Ok(lent)
            }
            None => Ok(imgf_str::ABSENT),
        };
        let stage = imgf_stage {
            struct_size: imgf_stage::SIZE,
            flags: 0,
            deadline_unix_ms: order.deadline_unix_ms,
            attempt: order.attempt,
            reserved0: 0,
            stage_id: lend("stage_id", Some(&order.stage_id.to_string()))?,
            image_id: lend("image_id", Some(&order.image_id.to_string()))?,
            target: lend("target", order.target.as_deref())?,
            provider: lend("provider", order.provider.as_deref())?,
            template_xml: lend("template_xml", order.template_xml.as_deref())?,
            template_json: lend("template_json", order.template_json.as_deref())?,
            parameters_json: lend("parameters", Some(&object_text(&order.parameters)))?,
            images_json: lend("images", Some(&object_text(&order.images)))?,
            resources_json: lend("resources", Some(&object_text(&order.resources)))?,
            credential_name: lend("credential_name", order.credential_name.as_deref())?,
        };
        let contents = order.target_contents.iter().map(|content| {
            HostText::new(&content.to_string())
                .map_err(|source| BadText { field: "target_contents", source })
        });
        let contents: Result<Vec<HostText>, BadText> = contents.collect();
        let journal = serde_json::json!(order.journal).to_string();
        let journal =
            HostText::new(&journal).map_err(|source| BadText { field: "journal", source })?;
        Ok(StageInput { stage, contents: contents?, journal, _texts: texts })
    }

    /// For the operation; borrowed until it returns.
    pub fn stage(&self) -> *const imgf_stage {
        &self.stage
    }

    /// What cloud plugins asked for, in order.
    pub fn contents(&self) -> impl Iterator<Item = imgf_str> {
        self.contents.iter().map(HostText::lend)
    }

    /// For `cleanup`.
    pub fn journal(&self) -> imgf_str {
        self.journal.lend()
    }
}

fn object_text(object: &Map<String, Value>) -> String {
    // Display of a Value is its JSON text; it has no way to fail.
    Value::Object(object.clone()).to_string()
}
