//! Documents as types instead of text, for plugins with the `payload` feature.

use serde::de::DeserializeOwned;
use serde::Serialize;

use super::error::{ErrorCode, PluginError, Result};
use super::host::Host;
use super::stage::Stage;
use crate::payload::template::Template;

impl Stage<'_> {
    /// The template, as the host parsed it.
    pub fn template(&self) -> Result<Template> {
        let json = self.template_json().ok_or_else(|| {
            PluginError::new(ErrorCode::InvalidArgument, "this stage has no template")
        })?;
        Template::from_json(json).map_err(|error| host_sent("template_json", &error))
    }

    /// All parameters as a type of the plugin's own. What does not fit it is the user's fault.
    pub fn parameters<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(self.parameters_json().unwrap_or("{}"))
            .map_err(|error| PluginError::user_fault(format!("the parameters: {error}")))
    }
}

impl Host {
    /// Sets a result; the last write of a key wins.
    pub fn set_result<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<()> {
        self.set_result_json(key, &written(key, value)?)
    }

    /// One value of the configuration; `None` = not configured.
    pub fn config<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let json = self.config_json(key)?;
        json.map(|json| serde_json::from_str(&json)).transpose().map_err(|error| {
            let message = format!("the configuration's {key}: {error}");
            PluginError::new(ErrorCode::InvalidArgument, message)
        })
    }

    /// Keeps a value for later attempts of this stage; durable before it returns.
    pub fn put_checkpoint<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<()> {
        self.put_checkpoint_json(key, &written(key, value)?)
    }

    /// What this or an earlier attempt kept under the key; `None` = nothing.
    pub fn checkpoint<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let json = self.checkpoint_json(key)?;
        json.map(|json| serde_json::from_str(&json))
            .transpose()
            .map_err(|error| host_sent(&format!("checkpoint {key}"), &error))
    }

    /// In `builder_will_create_target_image`: what the OS plugin is to add.
    pub fn add_cloud_plugin_content<T: Serialize + ?Sized>(&self, content: &T) -> Result<()> {
        self.add_cloud_plugin_content_json(&written("TargetContent", content)?)
    }
}

fn written<T: Serialize + ?Sized>(what: &str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| {
        PluginError::new(ErrorCode::Internal, format!("{what} cannot be written as JSON: {error}"))
    })
}

fn host_sent(what: &str, error: &serde_json::Error) -> PluginError {
    PluginError::new(ErrorCode::InvalidArgument, format!("the host's {what}: {error}"))
}
