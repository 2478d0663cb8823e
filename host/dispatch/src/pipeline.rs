//! Which stages an image goes through, in which order. All branching of a build is here.
//!
//! ```text
//! base image      resolve_inputs? ─▶ shared body | create_base_image ─▶ verify_image?
//! target image    should? ─ no ─▶ done (the cloud plugin made it all)
//!                    └ yes ─▶ will? ─▶ create_target_image ─▶ did? ─▶ verify_image?
//! provider image  push_image_to_provider | snapshot_image_on_provider
//! deletion        delete_from_provider
//! ```
//!
//! A stage that the plugin does not offer (`?`) is skipped, as the original did with missing
//! methods. Every function here can be run again after a crash: stages that succeeded answer from
//! their record.

mod provider_image;
mod target_image;

use std::sync::Arc;

use imagefactory_model::image::{Body, Image, ImageKind};
use imagefactory_model::order::OrderKind;
use imagefactory_model::stage::{FailureCode, Operation, StageFailure};
use imagefactory_plugin_sdk::payload::template::{Template, TemplateRules, TemplateSource};
use imagefactory_registry::Registry;
use imagefactory_store::images::ImageStep;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::attempts::{StageEnd, host_failure};
use crate::engine::Engine;
use crate::plugins::ChosenPlugin;
use crate::stage_work::{OrderContext, StageWork};
use crate::stages::content_key::{
    ContentInputs, content_key, is_about_the_proof, parameter_is_true,
};
use crate::stages::images::ImageRoles;
use crate::stages::outcome::{RecordedOutcome, RecordedOutput};
pub(crate) use provider_image::provider_text;

/// What a base image without a `<disk><size>` is reserved: a small system fits; a full disk says so
/// while it is written.
const BASE_RESERVE_BYTES: u64 = 256 << 20;

/// A template that was read, with the plugin that serves it.
struct Build {
    template: Template,
    xml: String,
    json: String,
    os_plugin: Arc<ChosenPlugin>,
}

impl Engine {
    /// Builds the image of the order; what comes back is recorded with COMPLETE.
    pub(crate) async fn build(&self, context: &OrderContext) -> Result<ImageStep, StageEnd> {
        match context.image.kind {
            _ if context.order.kind == OrderKind::Import => self.take_import(context).await,
            ImageKind::BaseImage => self.build_base_image(context).await,
            ImageKind::TargetImage => self.build_target_image(context).await,
            ImageKind::ProviderImage => self.build_provider_image(context).await,
        }
    }

    async fn build_base_image(&self, context: &OrderContext) -> Result<ImageStep, StageEnd> {
        let build = self.read_template(context)?;
        let parameters = parameters(&context.image);
        let verify = build.os_plugin.can(Operation::VerifyImage)
            && parameter_is_true(&parameters, "boot_test");
        let roles = ImageRoles::default().with("self", &context.image, None).into_json();
        let work = |operation: Operation, percent: std::ops::Range<u8>| StageWork {
            images: roles.clone(),
            ..build.work(operation, percent)
        };
        let mut key = None;
        if build.os_plugin.can(Operation::ResolveInputs) {
            let resolved = self.run_stage(context, &work(Operation::ResolveInputs, 0..2)).await?;
            key = self.content_key_of(&build, &parameters, &resolved);
            if let Some((mut shared, proven)) = self.shared_body(context, key.as_deref()).await? {
                if verify && !proven {
                    let file = self.bodies.path(context.image.id);
                    let verified = self.verify(context, &build, &file, 2..99).await?;
                    shared.properties.extend(verified);
                }
                return Ok(shared);
            }
        }
        let end = if verify { 75 } else { 99 };
        let mut create = work(Operation::CreateBaseImage, 2..end);
        create.reserve_bytes = build.reserve_bytes();
        let created = self.run_stage(context, &create).await?;
        let output = output_of(&created, &create)?;
        let verified = match verify {
            true => Some(self.verify(context, &build, &output.path, 75..99).await?),
            false => None,
        };
        let mut step = created.image_step();
        step.body = Some(self.take_body(context.image.id, output).await?);
        step.content_key = key;
        step.properties.extend(verified.unwrap_or_default());
        Ok(step)
    }

    /// The image's template, read, and the OS plugin that serves it.
    fn read_template(&self, context: &OrderContext) -> Result<Build, StageEnd> {
        let xml = context.image.template.clone().unwrap_or_default();
        let (template, json) = self.parse_template(context, &xml)?;
        let registry = self.registry.load();
        let os_plugin = self.os_plugin(&registry, &template)?;
        Ok(Build { template, xml, json, os_plugin })
    }

    fn parse_template(
        &self,
        context: &OrderContext,
        xml: &str,
    ) -> Result<(Template, String), StageEnd> {
        let source = match context.order.local {
            true => TemplateSource::CommandLine,
            false => TemplateSource::Rest,
        };
        let rules = TemplateRules {
            source,
            require_root_password: self.configuration.tdl_require_root_pw,
            ..TemplateRules::rest()
        };
        let template = Template::parse(xml, &rules).map_err(|error| {
            StageEnd::Failed(StageFailure::new(FailureCode::UserTemplate, error.to_string()))
        })?;
        let json = template.to_json().map_err(|error| StageEnd::Failed(host_failure(error)))?;
        Ok((template, json))
    }

    fn os_plugin(
        &self,
        registry: &Registry,
        template: &Template,
    ) -> Result<Arc<ChosenPlugin>, StageEnd> {
        let os = &template.os;
        let entry =
            registry.os_plugin(&os.name, &os.version, os.arch.name()).map_err(|missing| {
                StageEnd::Failed(StageFailure::new(FailureCode::UserTemplate, missing.to_string()))
            })?;
        ChosenPlugin::choose(registry, entry, &self.configuration)
            .map(Arc::new)
            .map_err(StageEnd::Failed)
    }

    fn cloud_plugin(&self, context: &OrderContext) -> Result<Arc<ChosenPlugin>, StageEnd> {
        let registry = self.registry.load();
        let target = context.image.target.as_deref().unwrap_or_default();
        let entry = registry.cloud_plugin(target).map_err(|missing| {
            StageEnd::Failed(StageFailure::new(FailureCode::UserRequest, missing.to_string()))
        })?;
        ChosenPlugin::choose(&registry, entry, &self.configuration)
            .map(Arc::new)
            .map_err(StageEnd::Failed)
    }

    /// The finished image that this one is made from.
    async fn parent_of(&self, context: &OrderContext) -> Result<Image, StageEnd> {
        let parent = match context.image.parent {
            Some(id) => self.store.image(id).await?,
            None => None,
        };
        parent.ok_or_else(|| {
            let message = "the image that it was to be made from is gone";
            StageEnd::Failed(StageFailure::new(FailureCode::UserRequest, message))
        })
    }

    fn content_key_of(
        &self,
        build: &Build,
        parameters: &Map<String, Value>,
        resolved: &RecordedOutcome,
    ) -> Option<String> {
        let plugin = &build.os_plugin;
        let settings = self.configuration.plugin_settings.get(&plugin.id).cloned();
        let inputs = ContentInputs {
            template_xml: &build.xml,
            parameters,
            plugin: (&plugin.id, &plugin.version, plugin.sha256.as_deref()?),
            settings: &settings.unwrap_or_default(),
            public_settings: &self.configuration.public_settings,
            input_digest: &resolved.text("input_digest")?,
        };
        content_key(&inputs, &build.template)
    }

    /// A finished image with the same key: its body is linked, its papers are copied. With it: was
    /// it proven to work, in the way that this order asks for?
    async fn shared_body(
        &self,
        context: &OrderContext,
        key: Option<&str>,
    ) -> Result<Option<(ImageStep, bool)>, StageEnd> {
        let Some(key) = key else { return Ok(None) };
        let Some(same) = self.store.image_with_content(key).await? else { return Ok(None) };
        let Some(body) = same.body.clone().filter(|_| self.bodies.exists(same.id)) else {
            return Ok(None);
        };
        if self.share_body(&same, context.image.id).await.is_err() {
            return Ok(None); // deleted at this very moment: built anew
        }
        self.share_artifacts(same.id, context.image.id).await?;
        context.log.note(&format!("nothing changed since {}: its content is shared", same.id));
        let proven = same.properties.get("verified").is_some_and(|proof| proof["ok"] == true)
            && boot_parameters(&same) == boot_parameters(&context.image);
        let mut properties = same.properties;
        properties.insert("shared_with".to_owned(), same.id.to_string().into());
        let step = ImageStep {
            icicle: same.icicle,
            properties,
            body: Some(body),
            content_key: Some(key.to_owned()),
            ..ImageStep::default()
        };
        Ok(Some((step, proven)))
    }

    /// Boots it, or whatever the plugin calls a proof; the proof goes to the properties.
    async fn verify(
        &self,
        context: &OrderContext,
        build: &Build,
        image_file: &std::path::Path,
        percent: std::ops::Range<u8>,
    ) -> Result<Map<String, Value>, StageEnd> {
        let roles = ImageRoles::default().with("self", &context.image, Some(image_file));
        let work = StageWork {
            images: roles.into_json(),
            target: context.image.target.clone(),
            input_image: Some(image_file.to_owned()),
            ..build.work(Operation::VerifyImage, percent)
        };
        let verified = self.run_stage(context, &work).await?;
        let proof = verified.results.get("verified").cloned().unwrap_or_default();
        if proof.get("ok").and_then(Value::as_bool) != Some(true) {
            let how = proof.get("how").and_then(Value::as_str).unwrap_or("no reason given");
            let message =
                format!("{} found that the image does not work: {how}", build.os_plugin.id);
            return Err(StageEnd::Failed(StageFailure::new(FailureCode::PluginOutput, message)));
        }
        let mut properties = verified.image_step().properties;
        properties.insert("verified".to_owned(), proof);
        Ok(properties)
    }

    async fn take_body(&self, image: Uuid, output: &RecordedOutput) -> Result<Body, StageEnd> {
        let (bodies, output) = (self.bodies.clone(), output.clone());
        let taken =
            tokio::task::spawn_blocking(move || bodies.take(image, &output.path, &output.format));
        Ok(taken.await.map_err(|_| StageEnd::Stopped)??)
    }

    async fn share_body(&self, from: &Image, image: Uuid) -> Result<Body, StageEnd> {
        let missing = || {
            let message = format!("image {} has no body to make this one from", from.id);
            StageEnd::Failed(StageFailure::new(FailureCode::UserRequest, message))
        };
        let body = from.body.clone().ok_or_else(missing)?;
        let (bodies, from) = (self.bodies.clone(), from.id);
        let shared = tokio::task::spawn_blocking(move || bodies.share(from, image));
        shared.await.map_err(|_| StageEnd::Stopped)??;
        Ok(body)
    }
}

impl Build {
    /// A stage of the OS plugin; the caller adds what the stage is about.
    fn work(&self, operation: Operation, percent: std::ops::Range<u8>) -> StageWork {
        StageWork {
            step: operation.name().to_owned(),
            operation,
            plugin: Arc::clone(&self.os_plugin),
            percent,
            input_image: None,
            reserve_bytes: 0,
            template: Some((self.xml.clone(), self.json.clone())),
            images: Map::new(),
            target: None,
            provider: None,
            target_contents: Vec::new(),
            credentials: false,
        }
    }

    /// Images are sparse: a large disk does not mean many bytes, a small one means few.
    fn reserve_bytes(&self) -> u64 {
        let asked = self.template.disk_size.as_ref().and_then(|size| size.bytes());
        let asked = asked.and_then(|bytes| u64::try_from(bytes).ok());
        asked.unwrap_or(BASE_RESERVE_BYTES).min(BASE_RESERVE_BYTES)
    }
}

/// The parameters, empty where none were sent.
fn parameters(image: &Image) -> Map<String, Value> {
    image.parameters.clone().unwrap_or_default()
}

/// How an image is to be proven: `boot_firmware` and whatever else a plugin names so. `boot_test`
/// itself says only whether.
fn boot_parameters(image: &Image) -> Map<String, Value> {
    let about = |(name, _): &(String, Value)| is_about_the_proof(name) && name != "boot_test";
    parameters(image).into_iter().filter(about).collect()
}

/// The file that a stage had to write.
fn output_of<'a>(
    outcome: &'a RecordedOutcome,
    work: &StageWork,
) -> Result<&'a RecordedOutput, StageEnd> {
    outcome.output.as_ref().ok_or_else(|| {
        let message =
            format!("{} said that {} succeeded and wrote no image", work.plugin.id, work.step);
        StageEnd::Failed(StageFailure::new(FailureCode::PluginOutput, message))
    })
}
