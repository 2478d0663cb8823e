//! The `.meta` file beside a body: metadata in the original's format, which scripts read.
//!
//! SQL is the truth; this file is written when an image becomes final, whole or not at all.

use imagefactory_model::document;
use imagefactory_model::image::Image;

use crate::StoreError;
use crate::layout::{StoreLayout, write_whole};

/// Writes the image's `.meta` file. Blocks.
pub fn write(layout: &StoreLayout, image: &Image) -> Result<(), StoreError> {
    let body = image.body.as_ref().map(|_| layout.body(image.id));
    let meta = document::meta(image, body.as_deref());
    let text = serde_json::to_vec_pretty(&meta)
        .map_err(|cause| StoreError::damaged(format!("the metadata of {}", image.id), cause))?;
    write_whole(&layout.meta(image.id), &text, 0o640)
}
