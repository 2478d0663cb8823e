//! Artefacts: what a stage hands over beside the image (SBOM, serial log, screenshot, OVF).
//!
//! The file comes first, the record after it: a record always has its file. An artefact of the same
//! name replaces the earlier one, so that a stage that runs again does not pile them up.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use uuid::Uuid;

use crate::StoreError;
use crate::layout::{StoreLayout, sync_folder};
use crate::sparse;

/// An artefact's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactRecord {
    /// `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`.
    pub name: String,
    /// `application/spdx+json`.
    pub media_type: String,
    /// Size.
    pub bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
}

/// The records of artefacts.
#[async_trait]
pub trait ArtifactRecords {
    /// Records an artefact whose file is in place.
    async fn put_artifact(&self, image: Uuid, artifact: ArtifactRecord) -> Result<(), StoreError>;

    /// The artefacts of an image, by name.
    async fn artifacts(&self, image: Uuid) -> Result<Vec<ArtifactRecord>, StoreError>;
}

/// The files of artefacts. Every function blocks.
#[derive(Debug, Clone)]
pub struct ArtifactFiles {
    layout: StoreLayout,
}

impl ArtifactFiles {
    /// Over the folders of a store.
    pub fn new(layout: StoreLayout) -> ArtifactFiles {
        ArtifactFiles { layout }
    }

    /// Where an artefact lies. `name` was checked by [`is_artifact_name`].
    pub fn path(&self, image: Uuid, name: &str) -> PathBuf {
        self.layout.artifacts().join(image.to_string()).join(name)
    }

    /// Copies a file in. `source` was checked by the supervisor and is opened without following
    /// links.
    pub fn take(
        &self,
        image: Uuid,
        artifact: &imagefactory_model::stage::Artifact,
    ) -> Result<ArtifactRecord, StoreError> {
        let source = &artifact.path;
        let folder = self.layout.artifacts().join(image.to_string());
        std::fs::create_dir_all(&folder)
            .map_err(|cause| StoreError::file("make the folder", &folder, cause))?;
        let path = folder.join(&artifact.name);
        let staged = folder.join(format!(".{}", Uuid::new_v4().simple()));
        let record = copy_file(source, &staged, artifact).and_then(|record| {
            std::fs::rename(&staged, &path)
                .map_err(|cause| StoreError::file("rename to", &path, cause))?;
            sync_folder(&folder)?;
            Ok(record)
        });
        if record.is_err() {
            // The first error is the one that matters; the folder goes with the image.
            std::fs::remove_file(&staged).ok();
        }
        record
    }

    /// Removes all artefacts of an image; none is no error.
    pub fn remove_all(&self, image: Uuid) -> Result<(), StoreError> {
        let folder = self.layout.artifacts().join(image.to_string());
        match std::fs::remove_dir_all(&folder) {
            Ok(()) => Ok(()),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(cause) => Err(StoreError::file("remove", &folder, cause)),
        }
    }
}

/// Is this a name that may stand in a path and a URL?
pub fn is_artifact_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 128
        && bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn copy_file(
    source: &Path,
    staged: &Path,
    artifact: &imagefactory_model::stage::Artifact,
) -> Result<ArtifactRecord, StoreError> {
    let from = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(source)
        .map_err(|cause| StoreError::file("read", source, cause))?;
    let to = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(staged)
        .map_err(|cause| StoreError::file("write", staged, cause))?;
    let failed = |cause| StoreError::file("copy to", staged, cause);
    sparse::copy(&from, &to).map_err(failed)?;
    to.sync_all().map_err(failed)?;
    Ok(ArtifactRecord {
        name: artifact.name.clone(),
        media_type: artifact.media_type.clone(),
        bytes: to.metadata().map_err(failed)?.len(),
        sha256: sparse::sha256(&to).map_err(failed)?,
    })
}
