//! Target images: the cloud plugin's three hooks around the OS plugin's work.

use std::path::Path;
use std::sync::Arc;

use imagefactory_model::image::{Image, ImageKind};
use imagefactory_model::stage::{FailureCode, Operation, StageFailure};
use imagefactory_plugin_sdk::payload::target_content::{TargetContentFile, TargetContentPlace};
use imagefactory_plugin_sdk::payload::xml::XmlLimits;
use imagefactory_store::images::ImageStep;
use serde_json::Value;

use super::{Build, output_of, parameters};
use crate::attempts::StageEnd;
use crate::engine::Engine;
use crate::stage_work::{OrderContext, StageWork};
use crate::stages::content_key::parameter_is_true;
use crate::stages::images::ImageRoles;
use crate::stages::outcome::RecordedOutput;

/// A derived image may grow by so much (packages of an agent) beyond its parent.
const GROWTH_BYTES: u64 = 64 << 20;

/// Formats of what a machine can start. A target may make something else of an image: a tar of a
/// container.
const DISKS: [&str; 7] = ["raw", "qcow2", "vmdk", "vhd", "vpc", "vhdx", "vdi"];

impl Engine {
    pub(super) async fn build_target_image(
        &self,
        context: &OrderContext,
    ) -> Result<ImageStep, StageEnd> {
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
        if build.os_plugin.can(Operation::VerifyImage)
            && parameter_is_true(&parameters, "boot_test")
        {
            let of_parent = parent.body.as_ref().map_or("raw", |body| body.format.as_str());
            let (file, format) = match &current {
                Some(output) => (&output.path, output.format.as_str()),
                None => (&parent_body, of_parent),
            };
            if DISKS.contains(&format) {
                let verified = self.verify(context, &build, file, 85..99).await?;
                step.properties.extend(verified);
            } else {
                context.log.note(&format!("no boot test: {format} is no disk that could boot"));
            }
        }
        step.body = Some(match &current {
            Some(output) => self.take_body(context.image.id, output).await?,
            None => self.share_body(&parent, context.image.id).await?,
        });
        Ok(step)
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
}

/// Later results win over earlier ones.
fn merge(step: &mut ImageStep, later: ImageStep) {
    step.icicle = later.icicle.or(step.icicle.take());
    step.properties.extend(later.properties);
}

/// Bytes on disk, not the apparent size: images are sparse.
fn allocated_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map_or(0, |metadata| metadata.blocks() * 512)
}
