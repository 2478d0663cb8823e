//! `images_json` of a stage: the images that it is about, as plugins see them (stage.h).

use std::path::Path;

use imagefactory_model::image::Image;
use serde_json::{Map, Value, json};

/// The images of a stage by their role.
#[derive(Debug, Clone, Default)]
pub(crate) struct ImageRoles {
    roles: Map<String, Value>,
}

impl ImageRoles {
    /// Adds an image under `self`, `base`, `target`, `provider` or `jeos`. `body` is where its file
    /// lies, when the stage may read it.
    pub(crate) fn with(mut self, role: &str, image: &Image, body: Option<&Path>) -> ImageRoles {
        self.roles.insert(role.to_owned(), document(image, body));
        self
    }

    /// For the stage order.
    pub(crate) fn into_json(self) -> Map<String, Value> {
        self.roles
    }
}

/// One image as a plugin sees it. Holds no secret: parameters and properties never do.
pub(crate) fn document(image: &Image, body: Option<&Path>) -> Value {
    json!({
        "id": image.id,
        "kind": image.kind.name(),
        "target": image.target,
        "format": image.body.as_ref().map(|body| &body.format),
        "size": image.body.as_ref().map(|body| body.bytes),
        "sha256": image.body.as_ref().map(|body| &body.sha256),
        "path": body.map(|path| path.to_string_lossy()),
        "icicle": image.icicle,
        "parameters": image.parameters,
        "properties": image.properties,
        "identifier_on_provider": image.identifier_on_provider,
        "provider_account_identifier": image.provider_account_identifier,
    })
}
