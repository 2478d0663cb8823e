//! Image bodies: taken from a stage's output, shared between images, imported, removed.
//!
//! A body appears under its final name whole or not at all: it is finished under a staging name,
//! fsynced, made read-only, renamed, and the folder is fsynced. Whoever sees `<uuid>.body` may read
//! it to its end.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use imagefactory_model::image::Body;
use uuid::Uuid;

use crate::StoreError;
use crate::layout::{StoreLayout, sync_folder};
use crate::sparse;

/// Finished bodies are nobody's to change. The group may read: stages of another uid run in it.
const BODY_MODE: u32 = 0o440;

/// The bodies of a store. Every function blocks (file work): call it from `spawn_blocking`.
#[derive(Debug, Clone)]
pub struct Bodies {
    layout: StoreLayout,
    /// The group that stages run in, where the daemon is root; it may read bodies.
    stage_group: Option<u32>,
}

impl Bodies {
    /// Over the folders of a store.
    pub fn new(layout: StoreLayout, stage_group: Option<u32>) -> Bodies {
        Bodies { layout, stage_group }
    }

    /// Where the body of an image lies, or would.
    pub fn path(&self, image: Uuid) -> PathBuf {
        self.layout.body(image)
    }

    /// Is there a body?
    pub fn exists(&self, image: Uuid) -> bool {
        self.path(image).is_file()
    }

    /// Takes the file that a stage wrote (already checked: regular, one link, opened without
    /// following links) as the body of `image`. `output` must be on the store's file system; it is
    /// gone afterwards. Calling it again after a crash, when the file was moved but nobody knew, is
    /// answered from the body that stands there.
    pub fn take(&self, image: Uuid, output: &Path, format: &str) -> Result<Body, StoreError> {
        let body = self.path(image);
        if !output.exists() && body.is_file() {
            return self.describe(image, format);
        }
        let file = open_file(output)?;
        let taken = self.finish(&file, output, format)?;
        std::fs::rename(output, &body)
            .map_err(|cause| StoreError::file("rename to", &body, cause))?;
        sync_folder(self.layout.root())?;
        Ok(taken)
    }

    /// Gives `image` the same content as `from`: a hard link, since both are read-only for ever.
    pub fn share(&self, from: Uuid, image: Uuid) -> Result<(), StoreError> {
        let (source, body) = (self.path(from), self.path(image));
        match std::fs::hard_link(&source, &body) {
            Ok(()) => sync_folder(self.layout.root()),
            Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(_) => self.copy_in(&source, image),
        }
    }

    /// Copies a file of this machine into the staging folder; holes stay holes.
    pub fn stage_copy(&self, source: &Path) -> Result<PathBuf, StoreError> {
        let staged = self.layout.staging().join(format!("{}.upload", Uuid::new_v4()));
        match self.copy_to(source, &staged) {
            Ok(()) => Ok(staged),
            Err(failure) => {
                // The first error is the one that matters; staging is swept at the next start.
                std::fs::remove_file(&staged).ok();
                Err(failure)
            }
        }
    }

    /// Gives a file of the staging folder to an order that is about to be recorded: durable there
    /// before this returns, and nobody sweeps it while that order is open.
    pub fn keep_staged(&self, staged: &Path, order: Uuid) -> Result<PathBuf, StoreError> {
        let kept = self.layout.import(order);
        open_file(staged)?.sync_all().map_err(|cause| StoreError::file("sync", staged, cause))?;
        std::fs::rename(staged, &kept)
            .map_err(|cause| StoreError::file("rename to", &kept, cause))?;
        sync_folder(&self.layout.staging())?;
        Ok(kept)
    }

    /// The file of an order becomes the body of its image. Can be repeated after a crash.
    pub fn take_staged(&self, image: Uuid, order: Uuid, format: &str) -> Result<Body, StoreError> {
        self.take(image, &self.layout.import(order), format)
    }

    /// Removes the file of an order that ended without taking it.
    pub fn forget_staged(&self, order: Uuid) -> Result<(), StoreError> {
        let kept = self.layout.import(order);
        match std::fs::remove_file(&kept) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::file("remove", &kept, cause))
            }
            _ => Ok(()),
        }
    }

    fn copy_in(&self, source: &Path, image: Uuid) -> Result<(), StoreError> {
        let staged = self.layout.staging().join(format!("{image}.import"));
        let copied = self.copy_to(source, &staged);
        if let Err(failure) = copied {
            // The first error is the one that matters; staging is swept at the next start.
            std::fs::remove_file(&staged).ok();
            return Err(failure);
        }
        let body = self.path(image);
        std::fs::rename(&staged, &body)
            .map_err(|cause| StoreError::file("rename to", &body, cause))?;
        sync_folder(self.layout.root())
    }

    fn copy_to(&self, source: &Path, staged: &Path) -> Result<(), StoreError> {
        let from = open_file(source)?;
        let to = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(staged)
            .map_err(|cause| StoreError::file("write", staged, cause))?;
        sparse::copy(&from, &to).map_err(|cause| StoreError::file("copy to", staged, cause))?;
        self.seal(&to, staged)
    }

    /// What stands under the image's name: size and checksum read anew.
    pub fn describe(&self, image: Uuid, format: &str) -> Result<Body, StoreError> {
        let path = self.path(image);
        let file = open_file(&path)?;
        body_of(&file, &path, format)
    }

    /// Removes the body; one that is not there is no error.
    pub fn remove(&self, image: Uuid) -> Result<(), StoreError> {
        for path in [self.path(image), self.layout.meta(image)] {
            match std::fs::remove_file(&path) {
                Ok(()) => {}
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
                Err(cause) => return Err(StoreError::file("remove", &path, cause)),
            }
        }
        sync_folder(self.layout.root())
    }

    fn finish(&self, file: &File, path: &Path, format: &str) -> Result<Body, StoreError> {
        let body = body_of(file, path, format)?;
        self.seal(file, path)?;
        Ok(body)
    }

    /// Owner, mode, fsync: the last things before the name.
    fn seal(&self, file: &File, path: &Path) -> Result<(), StoreError> {
        if rustix::process::geteuid().is_root() {
            let group = self.stage_group.unwrap_or(0);
            std::os::unix::fs::fchown(file, Some(0), Some(group))
                .map_err(|cause| StoreError::file("own", path, cause))?;
        }
        file.set_permissions(Permissions::from_mode(BODY_MODE))
            .map_err(|cause| StoreError::file("make read-only", path, cause))?;
        file.sync_all().map_err(|cause| StoreError::file("sync", path, cause))
    }
}

fn open_file(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(|cause| StoreError::file("read", path, cause))
}

fn body_of(file: &File, path: &Path, format: &str) -> Result<Body, StoreError> {
    let failed = |cause| StoreError::file("read", path, cause);
    Ok(Body {
        bytes: file.metadata().map_err(failed)?.len(),
        sha256: sparse::sha256(file).map_err(failed)?,
        format: format.to_owned(),
    })
}
