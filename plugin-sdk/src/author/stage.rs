//! One stage as the plugin sees it: everything that the call was given, except secrets.
//!
//! It borrows from the host and cannot be kept beyond the call; the compiler sees to that. Text
//! that is absent is `None`, text that is empty is `Some("")`. A host that is older or newer than
//! this SDK sends a shorter or longer struct: what is missing reads as absent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::{ErrorCode, PluginError, Result};
use super::json::Json;
use crate::abi::{imgf_stage, imgf_str, read_growing};

/// What one call of the plugin is about.
#[derive(Debug, Clone, Copy)]
pub struct Stage<'a> {
    deadline_unix_ms: u64,
    attempt: u32,
    stage_id: &'a str,
    image_id: &'a str,
    target: Option<&'a str>,
    provider: Option<&'a str>,
    template_xml: Option<&'a str>,
    template_json: Option<&'a str>,
    parameters_json: Option<&'a str>,
    images_json: Option<&'a str>,
    resources_json: Option<&'a str>,
    credential_name: Option<&'a str>,
}

impl<'a> Stage<'a> {
    /// Reads the host's struct. [`ErrorCode::InvalidArgument`]: the host broke stage.h.
    ///
    /// # Safety
    /// `from` is NULL or points to a stage whose texts are readable for `'a`.
    pub(super) unsafe fn read(from: *const imgf_stage) -> Result<Stage<'a>> {
        // SAFETY: the caller's promise.
        let raw = unsafe { read_growing(from) }
            .ok_or_else(|| refused("is NULL, misaligned or without its size"))?;
        let text = |name: &str, value: imgf_str| {
            // SAFETY: the caller's promise; absent where the host's struct did not reach.
            unsafe { value.text() }.map_err(|_| refused(&format!("has a {name} that is not UTF-8")))
        };
        let required = |name: &str, value: imgf_str| {
            text(name, value)?.ok_or_else(|| refused(&format!("has no {name}")))
        };
        Ok(Stage {
            deadline_unix_ms: raw.deadline_unix_ms,
            attempt: raw.attempt,
            stage_id: required("stage_id", raw.stage_id)?,
            image_id: required("image_id", raw.image_id)?,
            target: text("target", raw.target)?,
            provider: text("provider", raw.provider)?,
            template_xml: text("template_xml", raw.template_xml)?,
            template_json: text("template_json", raw.template_json)?,
            parameters_json: text("parameters_json", raw.parameters_json)?,
            images_json: text("images_json", raw.images_json)?,
            resources_json: text("resources_json", raw.resources_json)?,
            credential_name: text("credential_name", raw.credential_name)?,
        })
    }

    /// When the host ends the stage; `None` = never.
    pub fn deadline(&self) -> Option<SystemTime> {
        match self.deadline_unix_ms {
            0 => None,
            ms => UNIX_EPOCH.checked_add(Duration::from_millis(ms)),
        }
    }

    /// 1, 2, … A later attempt takes over what an earlier one left.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// UUID of this stage, the same in every attempt: the idempotency token at the provider.
    pub fn stage_id(&self) -> &'a str {
        self.stage_id
    }

    /// UUID of the image that this stage fills or deletes.
    pub fn image_id(&self) -> &'a str {
        self.image_id
    }

    /// `ec2`; `None` for a base image.
    pub fn target(&self) -> Option<&'a str> {
        self.target
    }

    /// The provider's definition as the client sent it.
    pub fn provider(&self) -> Option<&'a str> {
        self.provider
    }

    /// The template as the client sent it.
    pub fn template_xml(&self) -> Option<&'a str> {
        self.template_xml
    }

    /// The template as the host parsed it, for authors without an XML parser.
    pub fn template_json(&self) -> Option<&'a str> {
        self.template_json
    }

    /// The parameters as a JSON object.
    pub fn parameters_json(&self) -> Option<&'a str> {
        self.parameters_json
    }

    /// The images of the lineage as a JSON object: `self`, `base`, `target`, `provider`, `jeos`.
    pub fn images_json(&self) -> Option<&'a str> {
        self.images_json
    }

    /// What this stage may use, as a JSON object: `cpus`, `memory_bytes`, `work_bytes`, …
    pub fn resources_json(&self) -> Option<&'a str> {
        self.resources_json
    }

    /// The name for [`super::Host::secret`]; `None` = no credentials.
    pub fn credential_name(&self) -> Option<&'a str> {
        self.credential_name
    }

    /// One parameter; `None` if it is not there or null.
    pub fn parameter(&self, name: &str) -> Result<Option<Json<'a>>> {
        let parameters = object("parameters", self.parameters_json)?;
        Ok(parameters.and_then(|all| all.member(name)).filter(|value| !value.is_null()))
    }

    /// A parameter that is a text.
    pub fn text_parameter(&self, name: &str) -> Result<Option<String>> {
        self.parameter_as(name, "a text", Json::as_text)
    }

    /// A parameter that is a whole number from 0 on.
    pub fn number_parameter(&self, name: &str) -> Result<Option<u64>> {
        self.parameter_as(name, "a whole number", Json::as_u64)
    }

    /// A parameter that is true or false.
    pub fn bool_parameter(&self, name: &str) -> Result<Option<bool>> {
        self.parameter_as(name, "true or false", Json::as_bool)
    }

    /// One image of the lineage (`self`, `base`, `target`, `provider`, `jeos`) as a JSON object.
    pub fn image(&self, role: &str) -> Result<Option<Json<'a>>> {
        let images = object("images", self.images_json)?;
        Ok(images.and_then(|all| all.member(role)).filter(Json::is_object))
    }

    fn parameter_as<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&Json<'a>) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.parameter(name)? {
            None => Ok(None),
            Some(value) => read(&value).map(Some).ok_or_else(|| {
                let message = format!("parameter {name} is {}, not {expected}", value.raw());
                PluginError::user_fault(message)
            }),
        }
    }
}

/// The object that `text` is; `None` = absent.
fn object<'a>(what: &str, text: Option<&'a str>) -> Result<Option<Json<'a>>> {
    let text = match text {
        Some(text) => text,
        None => return Ok(None),
    };
    match Json::parse(text) {
        Ok(json) if json.is_object() => Ok(Some(json)),
        Ok(_) => Err(refused(&format!("has {what} that are no JSON object"))),
        Err(error) => Err(refused(&format!("has broken {what}: {error}"))),
    }
}

fn refused(what: &str) -> PluginError {
    PluginError::new(ErrorCode::InvalidArgument, format!("the host's stage {what}"))
}
