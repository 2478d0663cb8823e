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

use std::path::PathBuf;
use std::sync::Arc;

use imagefactory_model::image::{Body, Image, ImageKind};
use imagefactory_model::stage::{FailureCode, Operation, StageFailure};
use imagefactory_plugin_sdk::payload::target_content::{TargetContentFile, TargetContentPlace};
use imagefactory_plugin_sdk::payload::template::{Template, TemplateRules, TemplateSource};
use imagefactory_plugin_sdk::payload::xml::XmlLimits;
use imagefactory_registry::Registry;
use imagefactory_store::images::ImageStep;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::attempts::{OrderContext, StageEnd, StageWork, host_failure};
use crate::engine::Engine;
use crate::plugins::ChosenPlugin;
use crate::stages::content_key::{ContentInputs, content_key, parameter_is_true};
use crate::stages::images::ImageRoles;
use crate::stages::outcome::{RecordedOutcome, RecordedOutput};

/// What a base image without a `<disk><size>` is reserved: a small system fits; a full disk says so
/// while it is written.
const BASE_RESERVE_BYTES: u64 = 256 << 20;

/// A derived image may grow by so much (packages of an agent) beyond its parent.
const GROWTH_BYTES: u64 = 64 << 20;

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
            if let Some(shared) = self.shared_body(context, key.as_deref()).await? {
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

    async fn build_target_image(&self, context: &OrderContext) -> Result<ImageStep, StageEnd> {
        let parent = self.parent_of(context).await?;
        let context = &OrderContext {
            image: Image {
                template: context.image.template.clone().or_else(|| parent.template.clone()),
                ..context.image.clone()
            },
            ..context.clone()
        };
        let cloud = self.cloud_plugin(context)?;
        let build = self.read_template(context)?;
        let parent_body = self.bodies.path(parent.id);
        let role = if parent.kind == ImageKind::BaseImage { "base" } else { "target" };
        let images = ImageRoles::default()
            .with("self", &context.image, None)
            .with(role, &parent, Some(&parent_body))
            .into_json();
        let reserve =
            parent.body.as_ref().map_or(0, |_| allocated_bytes(&parent_body)) + GROWTH_BYTES;
        let cloud_work = |operation: Operation, percent: std::ops::Range<u8>| StageWork {
            plugin: Arc::clone(&cloud),
            images: images.clone(),
            target: context.image.target.clone(),
            input_image: Some(parent_body.clone()),
            ..build.work(operation, percent)
        };
        let mut step =
            ImageStep { template: context.image.template.clone(), ..ImageStep::default() };

        if cloud.can(Operation::BuilderShouldCreateTargetImage) {
            let mut should = cloud_work(Operation::BuilderShouldCreateTargetImage, 0..30);
            should.reserve_bytes = reserve;
            let answered = self.run_stage(context, &should).await?;
            merge(&mut step, answered.image_step());
            if answered.should == Some(false) {
                // It did all the work itself; without a file the target is the base image as it is.
                step.body = Some(match &answered.output {
                    Some(output) => self.take_body(context.image.id, output).await?,
                    None => self.share_body(&parent, context.image.id).await?,
                });
                return Ok(step);
            }
        }
        let mut contents = self.target_content(&build, context)?;
        if cloud.can(Operation::BuilderWillCreateTargetImage) {
            let will = cloud_work(Operation::BuilderWillCreateTargetImage, 30..35);
            let asked = self.run_stage(context, &will).await?;
            merge(&mut step, asked.image_step());
            contents.extend(asked.target_contents);
        }
        let mut current: Option<RecordedOutput> = None;
        if build.os_plugin.can(Operation::CreateTargetImage) {
            let create = StageWork {
                images: images.clone(),
                target: context.image.target.clone(),
                input_image: Some(parent_body.clone()),
                target_contents: contents,
                reserve_bytes: reserve,
                ..build.work(Operation::CreateTargetImage, 35..70)
            };
            let created = self.run_stage(context, &create).await?;
            merge(&mut step, created.image_step());
            current = Some(output_of(&created, &create)?.clone());
        } else if !contents.is_empty() {
            return Err(StageEnd::Failed(StageFailure::new(
                FailureCode::UserRequest,
                format!(
                    "{} cannot customise images, and '{}' asks for additions to this one",
                    build.os_plugin.id,
                    context.image.target.as_deref().unwrap_or_default()
                ),
            )));
        }
        if cloud.can(Operation::BuilderDidCreateTargetImage) {
            let mut did = cloud_work(Operation::BuilderDidCreateTargetImage, 70..85);
            did.reserve_bytes = reserve;
            did.input_image =
                Some(current.as_ref().map_or_else(|| parent_body.clone(), |o| o.path.clone()));
            let transformed = self.run_stage(context, &did).await?;
            merge(&mut step, transformed.image_step());
            // Nothing written = unchanged.
            current = transformed.output.or(current);
        }
        let parameters = parameters(&context.image);
        let bootable = current.as_ref().map_or(&parent_body, |output| &output.path);
        if build.os_plugin.can(Operation::VerifyImage)
            && parameter_is_true(&parameters, "boot_test")
        {
            let verified = self.verify(context, &build, bootable, 85..99).await?;
            step.properties.extend(verified);
        }
        step.body = Some(match &current {
            Some(output) => self.take_body(context.image.id, output).await?,
            None => self.share_body(&parent, context.image.id).await?,
        });
        Ok(step)
    }

    async fn build_provider_image(&self, context: &OrderContext) -> Result<ImageStep, StageEnd> {
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

    /// A finished image with the same key: its body is linked, its papers are copied.
    async fn shared_body(
        &self,
        context: &OrderContext,
        key: Option<&str>,
    ) -> Result<Option<ImageStep>, StageEnd> {
        let Some(key) = key else { return Ok(None) };
        let Some(same) = self.store.image_with_content(key).await? else { return Ok(None) };
        let Some(body) = same.body.clone().filter(|_| self.bodies.exists(same.id)) else {
            return Ok(None);
        };
        self.share_body(&same, context.image.id).await?;
        self.share_artifacts(same.id, context.image.id).await?;
        context.log.note(&format!("nothing changed since {}: its content is shared", same.id));
        let mut properties = same.properties;
        properties.insert("shared_with".to_owned(), same.id.to_string().into());
        Ok(Some(ImageStep {
            icicle: same.icicle,
            properties,
            body: Some(body),
            content_key: Some(key.to_owned()),
            ..ImageStep::default()
        }))
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

    /// What `target_content.xml` adds for this target and operating system; the file need not
    /// exist.
    fn target_content(
        &self,
        build: &Build,
        context: &OrderContext,
    ) -> Result<Vec<Value>, StageEnd> {
        let path = &self.configuration.target_content;
        let failed = |why: String| {
            let message = format!("{} cannot be used: {why}", path.display());
            StageEnd::Failed(StageFailure::new(FailureCode::Host, message))
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error.to_string())),
        };
        let file = TargetContentFile::parse(&text, &XmlLimits::default())
            .map_err(|error| failed(error.to_string()))?;
        let os = &build.template.os;
        let place = TargetContentPlace {
            target: context.image.target.as_deref().unwrap_or_default(),
            os: &os.name,
            version: &os.version,
            arch: os.arch.name(),
        };
        let content = file.content_for(&place).map(serde_json::to_value).transpose();
        Ok(content.map_err(|error| failed(error.to_string()))?.into_iter().collect())
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

/// Later results win over earlier ones.
fn merge(step: &mut ImageStep, later: ImageStep) {
    step.icicle = later.icicle.or(step.icicle.take());
    step.properties.extend(later.properties);
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

/// Bytes on disk, not the apparent size: images are sparse.
fn allocated_bytes(path: &PathBuf) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map_or(0, |metadata| metadata.blocks() * 512)
}
