//! The plugin object that clients see: the original's keys, and the new ones.
//!
//! Where it is fetched from (`href`) is the caller's; so is the list around it. A plugin that is
//! not used stays in the list with the original's own key, `ERROR`. No path of this machine is in
//! it.

use imagefactory_plugin_sdk::payload::manifest::{
    Maintainer, Manifest, PluginKind, Sandbox, Target,
};
use serde::Serialize;
use serde_json::Value;

use crate::entry::{Entry, EntryState, TargetFate};
use crate::registry::Registry;
use crate::versions::ABI_TEXT;

/// One plugin, ready to be written as JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PluginObject {
    /// Always `plugin`.
    pub _type: &'static str,
    /// The plugin's id.
    pub id: String,
    /// As the caller gave it.
    pub href: String,
    /// Absent where there is no readable manifest; so for all that comes from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// SPDX expression or free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Who answers for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintainer: Option<Maintainer>,
    /// All rows of the manifest, served or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<Target>>,
    /// `os` or `cloud`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<PluginKind>,
    /// The plugin's own version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// true: loads and serves; false: see `ERROR`; null: not loaded yet.
    pub active: Option<bool>,
    /// What it asks for, what was agreed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abi: Option<AbiObject>,
    /// The operations it implements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
    /// JSON Schema of its parameters, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters_schema: Option<Value>,
    /// The confinement it asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<Sandbox>,
    /// Rows of `targets` that another plugin serves, or that no lookup finds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets_not_served: Vec<TargetNotServed>,
    /// Why it is not used: the original's key.
    #[serde(rename = "ERROR", skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What is odd about its manifest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Other manifests of the same id, and why they do not count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shadowed: Vec<String>,
}

/// The ABI of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AbiObject {
    /// The manifest's requirement.
    pub req: String,
    /// This factory's.
    pub host: &'static str,
    /// The one that both speak; null until it was loaded once.
    pub chosen: Option<String>,
}

/// A target that does not come to the plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TargetNotServed {
    /// As in the manifest.
    pub target: Target,
    /// A sentence.
    pub reason: String,
}

/// Each plugin once, in the order of ids. `href` makes the address of an id.
pub fn plugin_objects(registry: &Registry, href: impl Fn(&str) -> String) -> Vec<PluginObject> {
    let mut objects: Vec<PluginObject> = Vec::new();
    for entry in registry.entries() {
        match objects.last_mut().filter(|object| object.id == entry.id()) {
            Some(object) => object.shadowed.extend(error_of(entry)),
            None => objects.push(object_of(entry, href(entry.id()))),
        }
    }
    objects
}

/// The plugin of this id. None: there is none.
pub fn plugin_object(registry: &Registry, id: &str, href: String) -> Option<PluginObject> {
    let mut object = object_of(registry.entry(id)?, href);
    let others = registry.entries().iter().filter(|entry| entry.id() == id).skip(1);
    object.shadowed.extend(others.filter_map(error_of));
    Some(object)
}

fn object_of(entry: &Entry, href: String) -> PluginObject {
    let of_manifest = |part: fn(&Manifest) -> String| entry.manifest().map(part);
    let abi = entry.manifest().map(|manifest| AbiObject {
        req: manifest.abi.req.clone(),
        host: ABI_TEXT,
        chosen: entry.facts.as_ref().map(|facts| facts.abi_chosen.clone()),
    });
    PluginObject {
        _type: "plugin",
        id: entry.id().to_owned(),
        href,
        description: of_manifest(|manifest| manifest.description.clone()),
        license: of_manifest(|manifest| manifest.license.clone()),
        maintainer: entry.manifest().map(|manifest| manifest.maintainer.clone()),
        targets: entry.manifest().map(|manifest| manifest.targets.clone()),
        kind: entry.manifest().map(|manifest| manifest.kind),
        version: of_manifest(|manifest| manifest.version.clone()),
        active: match entry.state {
            EntryState::Active => Some(true),
            EntryState::Undescribed => None,
            _ => Some(false),
        },
        abi,
        capabilities: entry.manifest().map(|manifest| manifest.capabilities.clone()),
        parameters_schema: entry.manifest().and_then(|manifest| manifest.parameters_schema.clone()),
        sandbox: entry.manifest().map(|manifest| manifest.sandbox.clone()),
        targets_not_served: not_served(entry),
        error: error_of(entry),
        warnings: entry.warnings().iter().map(ToString::to_string).collect(),
        shadowed: Vec::new(),
    }
}

fn error_of(entry: &Entry) -> Option<String> {
    entry.state.reason().map(|reason| reason.message.clone())
}

fn not_served(entry: &Entry) -> Vec<TargetNotServed> {
    let reason = |fate: &TargetFate| match fate {
        TargetFate::Outbid(reason) => Some(reason.message.clone()),
        TargetFate::NeverFound => Some("no lookup arrives at it".to_owned()),
        TargetFate::Served | TargetFate::PluginUnused => None,
    };
    let rows = entry.targets.iter().filter_map(|row| Some((row, reason(&row.fate)?)));
    rows.map(|(row, reason)| TargetNotServed { target: row.target.clone(), reason }).collect()
}
