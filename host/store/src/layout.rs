//! The folders of a store. Names are part of the contract where scripts read them: `<uuid>.body`
//! and `<uuid>.meta` stand directly in the storage path, as the original kept them.
//!
//! ```text
//! storage_path/
//!   <uuid>.body  <uuid>.meta      images
//!   imagefactory.sqlite           records
//!   artifacts/<uuid>/<name>       SBOM, serial log, screenshot, OVF
//!   logs/<uuid>/<stage>.log       logs of builds
//!   stages/<stage>/               what stages write before it is taken (dispatch makes these)
//!   staging/<uuid>.upload         files that arrive
//!   staging/<order>.import        imports that were accepted
//!   vault/  vault.key             sealed credentials of open orders
//!   owners/<uuid>.lock            one for each process that works here
//!   daemon.lock                   held by the one daemon
//!   opening.lock                  held while a process brings the store up to date
//! ```

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::StoreError;

/// The folders of one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreLayout {
    root: PathBuf,
}

impl StoreLayout {
    /// Makes what is missing below `root`. Folders are the daemon's own (0700), but for the root
    /// (0711), which stages of other uids must pass through.
    pub fn create(root: &Path) -> Result<StoreLayout, StoreError> {
        let root = std::path::absolute(root)
            .map_err(|cause| StoreError::file("find the folder", root, cause))?;
        let layout = StoreLayout { root };
        make_folder(&layout.root, 0o711)?;
        make_folder(&layout.staging(), 0o700)?;
        for folder in [layout.artifacts(), layout.logs(), layout.vault(), layout.owners()] {
            make_folder(&folder, 0o700)?;
        }
        Ok(layout)
    }

    /// The storage path itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The body of an image.
    pub fn body(&self, image: Uuid) -> PathBuf {
        self.root.join(format!("{image}.body"))
    }

    /// The metadata file of an image.
    pub fn meta(&self, image: Uuid) -> PathBuf {
        self.root.join(format!("{image}.meta"))
    }

    /// Imports in the making.
    pub fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    /// The file that an order imports, once it was taken.
    pub fn import(&self, order: Uuid) -> PathBuf {
        self.staging().join(format!("{order}.import"))
    }

    /// Artefacts of all images.
    pub fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    /// Logs of all images.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Sealed credentials.
    pub fn vault(&self) -> PathBuf {
        self.root.join("vault")
    }

    /// Lock files of processes.
    pub fn owners(&self) -> PathBuf {
        self.root.join("owners")
    }
}

fn make_folder(folder: &Path, mode: u32) -> Result<(), StoreError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(mode);
    builder.create(folder).map_err(|cause| StoreError::file("make the folder", folder, cause))?;
    let metadata =
        folder.metadata().map_err(|cause| StoreError::file("look at the folder", folder, cause))?;
    // An operator's wider mode on the root is his choice; a group bit there lets scripts read
    // bodies.
    if metadata.permissions().mode() & mode != mode {
        let permissions = Permissions::from_mode(metadata.permissions().mode() | mode);
        std::fs::set_permissions(folder, permissions)
            .map_err(|cause| StoreError::file("open the folder", folder, cause))?;
    }
    Ok(())
}

/// Makes a rename in `folder` survive a power cut.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|cause| StoreError::file("sync the folder", folder, cause))
}

/// Writes a small file whole or not at all: temporary name, fsync, rename, fsync of the folder.
pub(crate) fn write_whole(path: &Path, content: &[u8], mode: u32) -> Result<(), StoreError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", Uuid::new_v4().simple()));
    let temporary = folder.join(name);
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&temporary, path));
    if let Err(cause) = written {
        // The first error is the one that matters; the leftover is swept at the next start.
        std::fs::remove_file(&temporary).ok();
        return Err(StoreError::file("write", path, cause));
    }
    sync_folder(folder)
}
