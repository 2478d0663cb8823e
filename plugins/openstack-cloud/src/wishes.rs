//! What is asked for: the parameters of a push, with their defaults, as Glance wants to be told.

use imagefactory_plugin_sdk::author::{PluginError, Result, Stage};
use imagefactory_toolkit_disk::{DiskFormat, ImageFacts};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::glance::STAGE_PROPERTY;

/// A flavour's disk is counted in these.
const GIB: u64 = 1 << 30;

/// Names that Glance itself fills, or that this plugin needs.
const RESERVED: [&str; 12] = [
    "id",
    "name",
    "status",
    "owner",
    "size",
    "checksum",
    "disk_format",
    "container_format",
    "visibility",
    "protected",
    "tags",
    STAGE_PROPERTY,
];

/// The parameters of a provider image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Wishes {
    openstack_image_name: Option<String>,
    openstack_min_disk: Option<u64>,
    openstack_min_ram: Option<u64>,
    openstack_visibility: Option<String>,
    openstack_tags: Option<Vec<String>>,
    openstack_properties: Option<Map<String, Value>>,
    openstack_protected: Option<bool>,
    /// Where Glance is to fetch the same content from.
    pub(crate) openstack_import_uri: Option<String>,
    /// Of an existing server, for a snapshot.
    pub(crate) openstack_server_id: Option<String>,
}

impl Wishes {
    /// Reads them.
    pub(crate) fn of(stage: &Stage<'_>) -> Result<Wishes> {
        let wishes: Wishes = stage.parameters()?;
        let properties = wishes.openstack_properties.iter().flat_map(Map::keys);
        for name in properties {
            if RESERVED.contains(&name.as_str()) || name.starts_with("os_hash") {
                let message = format!("openstack_properties may not set {name:?}");
                return Err(PluginError::user_fault(message)
                    .hint("there are parameters for name, visibility, tags and protection"));
            }
        }
        Ok(wishes)
    }

    /// The image's name: as asked, else the template's, else the factory's id.
    pub(crate) fn name(&self, stage: &Stage<'_>) -> String {
        let of_template = || stage.template().ok().map(|template| template.name);
        let name = self.openstack_image_name.clone().or_else(of_template);
        let name = name.filter(|name| !name.trim().is_empty());
        name.unwrap_or_else(|| stage.image_id().to_owned())
    }

    /// Is it to be protected against deletion, once it is complete?
    pub(crate) fn protected(&self) -> bool {
        self.openstack_protected.unwrap_or(false)
    }

    /// What Glance is told of a new image. It is never born protected: a failure could not be
    /// cleaned up.
    pub(crate) fn image(
        &self,
        stage: &Stage<'_>,
        id: &str,
        facts: &ImageFacts,
    ) -> Map<String, Value> {
        let mut image = Map::new();
        for (name, value) in self.template_properties(stage) {
            image.insert(name.to_owned(), json!(value));
        }
        for (name, value) in self.openstack_properties.iter().flatten() {
            // All of Glance's properties are text.
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            image.insert(name.clone(), json!(text));
        }
        image.insert("id".to_owned(), json!(id));
        image.insert("name".to_owned(), json!(self.name(stage)));
        image.insert("disk_format".to_owned(), json!(disk_format(facts.format)));
        image.insert("container_format".to_owned(), json!("bare"));
        image.insert("min_disk".to_owned(), json!(self.min_disk(facts)));
        image.insert("min_ram".to_owned(), json!(self.openstack_min_ram.unwrap_or(0)));
        image.insert("visibility".to_owned(), json!(self.visibility()));
        image.insert("tags".to_owned(), json!(self.openstack_tags.clone().unwrap_or_default()));
        image.insert(STAGE_PROPERTY.to_owned(), json!(stage.stage_id()));
        image.insert("imagefactory_image_id".to_owned(), json!(stage.image_id()));
        image
    }

    /// What was used, for the image's properties.
    pub(crate) fn used(&self, stage: &Stage<'_>, facts: &ImageFacts) -> Value {
        json!({
            "openstack_image_name": self.name(stage),
            "openstack_min_disk": self.min_disk(facts),
            "openstack_min_ram": self.openstack_min_ram.unwrap_or(0),
            "openstack_visibility": self.visibility(),
            "openstack_tags": self.openstack_tags.clone().unwrap_or_default(),
            "openstack_protected": self.protected(),
        })
    }

    fn visibility(&self) -> &str {
        self.openstack_visibility.as_deref().unwrap_or("private")
    }

    fn min_disk(&self, facts: &ImageFacts) -> u64 {
        self.openstack_min_disk.unwrap_or_else(|| facts.virtual_bytes.div_ceil(GIB))
    }

    /// Nova's scheduler and users read these names.
    fn template_properties(&self, stage: &Stage<'_>) -> Vec<(&'static str, String)> {
        let Ok(template) = stage.template() else { return Vec::new() };
        vec![
            ("architecture", template.os.arch.name().to_owned()),
            ("os_distro", template.os.name.to_lowercase()),
            ("os_version", template.os.version.clone()),
        ]
    }
}

/// As Glance calls it.
pub(crate) fn disk_format(format: DiskFormat) -> &'static str {
    format.name()
}
