//! The description that lies beside an image: what it is, and whose.
//!
//! It is made first, without `image`, and claims the file's name for one stage: who finds his own
//! token in it owns the files of that name, everybody else keeps away. It is completed last, so a
//! description with `image` stands beside a whole image.

use imagefactory_plugin_sdk::author::{ErrorCode, PluginError, Result};
use serde::{Deserialize, Serialize};

use crate::directory::ImageDirectory;
use crate::wishes::Compression;

/// One is written in less than a KiB; what is longer is not ours.
const DESCRIPTION_BYTES_MAX: u64 = 64 << 10;

/// `NAME.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    /// The stage that makes it.
    pub(crate) token: String,
    /// The factory's id of the provider image.
    pub(crate) image_id: String,
    /// Name of the image's file, in the same folder.
    pub(crate) file: String,
    /// What was made; `None` while it is being made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<FinishedImage>,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FinishedImage {
    /// `qcow2`, …
    pub(crate) format: String,
    /// Of its content.
    pub(crate) compression: Compression,
    /// What a guest sees.
    pub(crate) virtual_bytes: u64,
    /// Size of the file.
    pub(crate) file_bytes: u64,
    /// What it occupies.
    pub(crate) allocated_bytes: u64,
    /// Of the file, lower-case hex.
    pub(crate) sha256: String,
    /// `x86_64`, …
    pub(crate) architecture: String,
    /// The target image that it was made from.
    pub(crate) source: SourceImage,
    /// A command that starts it.
    pub(crate) start_command: String,
}

/// What it was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceImage {
    /// The factory's id, where it has one.
    pub(crate) image_id: Option<String>,
    /// Its format.
    pub(crate) format: String,
    /// Of its file, as the factory recorded it.
    pub(crate) sha256: Option<String>,
}

impl Description {
    /// Reads one; `None` = there is none.
    pub(crate) fn read(directory: &ImageDirectory, name: &str) -> Result<Option<Description>> {
        let Some(text) = directory.read(name, DESCRIPTION_BYTES_MAX)? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            let path = directory.path_of(name);
            let message = format!("{} is no description of LocalCloud's: {error}", path.display());
            PluginError::new(ErrorCode::AlreadyExists, message)
                .by_user()
                .hint("give the image another name, or remove the file")
        })
    }

    /// As it stands in the file.
    pub(crate) fn to_text(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n").map_err(|error| {
            PluginError::new(ErrorCode::Internal, format!("the description: {error}"))
        })
    }
}
