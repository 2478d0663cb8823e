//! Provider images: pushed to their provider or snapshot there, and deleted from it.

use imagefactory_model::stage::{FailureCode, Operation, StageFailure};
use imagefactory_store::images::ImageStep;
use serde_json::Value;

use crate::attempts::StageEnd;
use crate::engine::Engine;
use crate::plugins::ChosenPlugin;
use crate::stage_work::{OrderContext, StageWork};
use crate::stages::images::ImageRoles;

impl Engine {
    pub(super) async fn build_provider_image(
        &self,
        context: &OrderContext,
    ) -> Result<ImageStep, StageEnd> {
        let cloud = self.cloud_plugin(context)?;
        let snapshot = context.image.wants_snapshot();
        let operation = match snapshot {
            true => Operation::SnapshotImageOnProvider,
            false => Operation::PushImageToProvider,
        };
        if !cloud.can(operation) {
            return Err(unsupported(&cloud, operation));
        }
        let mut roles = ImageRoles::default().with("self", &context.image, None);
        let mut input_image = None;
        let mut template = context.image.template.clone();
        if !snapshot {
            let parent = self.parent_of(context).await?;
            let body = self.bodies.path(parent.id);
            roles = roles.with("target", &parent, Some(&body));
            input_image = Some(body);
            template = template.or(parent.template);
        }
        let parsed = match &template {
            Some(xml) => Some((xml.clone(), self.parse_template(context, xml)?.1)),
            None => None,
        };
        let work = StageWork {
            step: operation.name().to_owned(),
            operation,
            plugin: cloud,
            percent: 0..99,
            input_image,
            reserve_bytes: 0,
            template: parsed,
            images: roles.into_json(),
            target: context.image.target.clone(),
            provider: context.image.provider.as_ref().map(provider_text),
            target_contents: Vec::new(),
            credentials: true,
        };
        let pushed = self.run_stage(context, &work).await?;
        Ok(ImageStep { template, ..pushed.image_step() })
    }

    /// Removes a provider image from its provider.
    pub(crate) async fn delete_from_provider(
        &self,
        context: &OrderContext,
        target: String,
        provider: Option<String>,
    ) -> Result<(), StageEnd> {
        let cloud = self.cloud_plugin(context)?;
        if !cloud.can(Operation::DeleteFromProvider) {
            return Err(unsupported(&cloud, Operation::DeleteFromProvider));
        }
        let roles = ImageRoles::default().with("provider", &context.image, None);
        let roles = roles.with("self", &context.image, None);
        let work = StageWork {
            step: Operation::DeleteFromProvider.name().to_owned(),
            operation: Operation::DeleteFromProvider,
            plugin: cloud,
            percent: 0..99,
            input_image: None,
            reserve_bytes: 0,
            template: None,
            images: roles.into_json(),
            target: Some(target),
            provider,
            target_contents: Vec::new(),
            credentials: true,
        };
        self.run_stage(context, &work).await.map(|_| ())
    }
}

fn unsupported(plugin: &ChosenPlugin, operation: Operation) -> StageEnd {
    let message = format!("{} does not offer {operation}", plugin.id);
    StageEnd::Failed(StageFailure::new(FailureCode::UserRequest, message))
}

/// A provider as text: as it was sent, or its JSON.
pub(crate) fn provider_text(provider: &Value) -> String {
    match provider {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
