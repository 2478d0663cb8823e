//! What can be checked of an order at once, before anything is recorded: a refused order leaves
//! nothing behind. What only the build can know (is the template sound?) fails the image later.

use imagefactory_registry::{Entry, Registry};
use imagefactory_store::images::ImageQuery;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::dispatcher::Dispatcher;
use crate::error::DispatchError;
use crate::requests::{CredentialsGiven, NewProviderImage, OrderOptions};

impl Dispatcher {
    pub(crate) async fn check_children(&self, id: Uuid) -> Result<(), DispatchError> {
        let query = ImageQuery { parent: Some(id), ..ImageQuery::default() };
        for entry in self.engine().store.list(query).await? {
            let Some(child) = self.engine().store.image(entry.id).await? else { continue };
            if !child.status.is_final() {
                let status = child.status;
                return Err(DispatchError::InUse { id, child: entry.id, status });
            }
        }
        Ok(())
    }

    pub(crate) fn check_deletable(
        &self,
        id: Uuid,
        target: &str,
        credentials: &CredentialsGiven,
    ) -> Result<(), DispatchError> {
        let registry = self.registry();
        let Ok(cloud) = registry.cloud_plugin(target) else {
            return Err(DispatchError::PluginGone { id, target: target.to_owned() });
        };
        let needs = cloud.manifest().is_some_and(|manifest| manifest.needs_credentials);
        if needs && *credentials == CredentialsGiven::Absent {
            let plugin = cloud.id().to_owned();
            return Err(DispatchError::CredentialsMissing { plugin, target: target.to_owned() });
        }
        Ok(())
    }

    pub(crate) fn check_provider(
        &self,
        cloud: &Entry,
        new: &NewProviderImage,
    ) -> Result<(), DispatchError> {
        let unfit = |what: &'static str, findings: Vec<String>| match findings.is_empty() {
            true => Ok(()),
            false => Err(DispatchError::Unfit { what, plugin: cloud.id().to_owned(), findings }),
        };
        let findings = cloud.schemas().check_provider(&new.provider);
        unfit("provider", findings.iter().map(ToString::to_string).collect())?;
        // XML credentials are the plugin's to read; JSON ones are checked against its schema.
        if let CredentialsGiven::Inline(text) = &new.credentials
            && let Ok(document @ Value::Object(_)) = serde_json::from_str::<Value>(text)
        {
            let findings = cloud.schemas().check_credentials(&document);
            // Only where and not what: a finding may quote a secret.
            unfit("credentials", findings.into_iter().map(|finding| finding.pointer).collect())?;
        }
        Ok(())
    }

    /// Parameters that no plugin of this order declares; the OS plugin is not known before the
    /// template is read, so all OS plugins count.
    pub(crate) fn undeclared(&self, options: &OrderOptions, cloud: Option<&Entry>) -> Vec<String> {
        /// Read by the factory itself.
        const OURS: [&str; 4] = ["callbacks", "fresh", "boot_test", "snapshot"];
        let Some(parameters) = &options.parameters else { return Vec::new() };
        let registry = self.registry();
        let os: Vec<&Entry> = registry.os_targets().map(|(_, entry)| entry).collect();
        parameters
            .keys()
            .filter(|name| !OURS.contains(&name.as_str()))
            .filter(|name| {
                !os.iter().copied().chain(cloud).any(|entry| entry.schemas().declares(name))
            })
            .map(|name| format!("nobody reads the parameter '{name}'"))
            .collect()
    }
}

/// The plugin that serves a target.
pub(crate) fn cloud_plugin<'a>(
    registry: &'a Registry,
    target: &str,
) -> Result<&'a Entry, DispatchError> {
    registry.cloud_plugin(target).map_err(|missing| DispatchError::UnknownTarget {
        target: target.to_owned(),
        known: missing.to_string(),
    })
}

/// Do the parameters fit what the plugin declares?
pub(crate) fn check_parameters(
    plugin: &Entry,
    parameters: Option<&Map<String, Value>>,
) -> Result<(), DispatchError> {
    let Some(parameters) = parameters else { return Ok(()) };
    let findings = plugin.schemas().check_parameters(parameters);
    if findings.is_empty() {
        return Ok(());
    }
    Err(DispatchError::Unfit {
        what: "parameters",
        plugin: plugin.id().to_owned(),
        findings: findings.iter().map(ToString::to_string).collect(),
    })
}
