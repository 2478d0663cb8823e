//! Reads a target image again: where its blobs lie, and what its documents say.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use imagefactory_plugin_sdk::author::{ErrorCode, PluginError, Result};
use serde::de::DeserializeOwned;

use crate::documents::{Descriptor, Index, Manifest, blob_path};
use crate::reference::is_digest;

/// Our documents have some KiB; a manifest of a hundred layers has twenty.
const DOCUMENT_BYTES_MAX: u64 = 4 << 20;

/// An open target image.
pub(crate) struct TargetImage {
    /// Blobs are sent out of it.
    pub(crate) file: Arc<File>,
    /// By name: first byte and length.
    files: BTreeMap<String, (u64, u64)>,
    /// What is tagged.
    pub(crate) main: Descriptor,
    /// What is attached to it.
    pub(crate) referrers: Vec<Descriptor>,
}

impl TargetImage {
    /// Reads the archive's table of contents and its documents.
    pub(crate) fn open(path: &Path) -> Result<TargetImage> {
        let file = File::open(path).map_err(|error| unreadable(&error.to_string()))?;
        let mut files = BTreeMap::new();
        let mut archive = tar::Archive::new(&file);
        let entries =
            archive.entries_with_seek().map_err(|error| unreadable(&error.to_string()))?;
        for entry in entries {
            let entry = entry.map_err(|_| not_ours())?;
            let name = entry.path().ok().and_then(|path| path.to_str().map(str::to_owned));
            if let Some(name) = name {
                files.insert(name, (entry.raw_file_position(), entry.size()));
            }
        }
        let mut image = TargetImage {
            file: Arc::new(file),
            files,
            main: Descriptor::default(),
            referrers: Vec::new(),
        };
        let index: Index = image.document("index.json")?.ok_or_else(not_ours)?;
        let [main] = <[Descriptor; 1]>::try_from(index.manifests).map_err(|_| not_ours())?;
        image.main = main;
        let referrers: Option<Index> = image.document("referrers.json")?;
        image.referrers = referrers.map(|index| index.manifests).unwrap_or_default();
        for descriptor in image.referrers.iter().chain([&image.main]) {
            if !is_digest(&descriptor.digest) {
                return Err(not_ours());
            }
        }
        Ok(image)
    }

    /// The text of a manifest.
    pub(crate) fn manifest_text(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.text(&blob_path(&descriptor.digest))?.ok_or_else(not_ours)
    }

    /// A manifest's blobs, its configuration first.
    pub(crate) fn blobs_of(&self, descriptor: &Descriptor) -> Result<Vec<Descriptor>> {
        let manifest: Manifest =
            self.document(&blob_path(&descriptor.digest))?.ok_or_else(not_ours)?;
        let blobs: Vec<Descriptor> =
            std::iter::once(manifest.config).chain(manifest.layers).collect();
        for blob in &blobs {
            let there = is_digest(&blob.digest) && self.place_of(blob)?.1 == blob.size;
            if !there {
                return Err(not_ours());
            }
        }
        Ok(blobs)
    }

    /// First byte and length of a blob.
    pub(crate) fn place_of(&self, blob: &Descriptor) -> Result<(u64, u64)> {
        self.files.get(&blob_path(&blob.digest)).copied().ok_or_else(not_ours)
    }

    fn document<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(|_| not_ours())
    }

    fn text(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some((at, bytes)) = self.files.get(name).copied() else { return Ok(None) };
        if bytes > DOCUMENT_BYTES_MAX {
            return Err(not_ours());
        }
        let mut text = Vec::new();
        let mut file = &*self.file;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(at))?;
        file.take(bytes).read_to_end(&mut text)?;
        Ok(Some(text))
    }
}

fn unreadable(why: &str) -> PluginError {
    PluginError::new(ErrorCode::Io, format!("the target image cannot be read: {why}"))
}

fn not_ours() -> PluginError {
    let message = "the target image is no image layout that DockerCloud made";
    PluginError::new(ErrorCode::InvalidArgument, message)
        .by_user()
        .hint("build it for the target docker, without create_docker_metadata = false")
}
