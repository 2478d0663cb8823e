//! Files that a killed process left half written: temporary names, uploads in the making, and
//! sealed credentials of orders that were never recorded.
//!
//! A living process has such files too, for moments. So they are listed first and judged
//! afterwards: whoever lists them before he begins to work himself, and then finds that nobody else
//! works here, knows that all of them are of the dead. Where others live, only old ones go. Called
//! by recovery.

use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use crate::StoreError;
use crate::layout::StoreLayout;

/// How the registry's descriptions of plugins are named until they are whole.
const NEW_DESCRIPTIONS: &str = "plugins.described.new-";

/// What may be half written.
#[derive(Debug, Clone, Default)]
pub struct HalfWritten {
    files: Vec<PathBuf>,
}

impl HalfWritten {
    /// Lists the files of this moment. Blocks.
    pub fn list(layout: &StoreLayout) -> Result<HalfWritten, StoreError> {
        let mut files = Vec::new();
        // The root also holds what is finished; temporary names begin with a dot (`write_whole`).
        for path in entries(layout.root())? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_temporary = name.starts_with('.') || name.starts_with(NEW_DESCRIPTIONS);
            if is_temporary && path.is_file() {
                files.push(path);
            }
        }
        files.extend(entries(&layout.staging())?);
        files.extend(entries(&layout.vault())?);
        Ok(HalfWritten { files })
    }

    /// Removes those that are older than `age` and are neither the sealed credentials nor the
    /// import of an open order; `open` must have been read after the files were listed. Blocks.
    pub fn remove(&self, open: &[Uuid], age: Duration) -> Result<(), StoreError> {
        for path in &self.files {
            let name = path.file_stem().and_then(|name| name.to_str());
            let is_open = name
                .and_then(|name| Uuid::parse_str(name).ok())
                .is_some_and(|order| open.contains(&order));
            if !is_open && is_older(path, age) {
                remove(path)?;
            }
        }
        Ok(())
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let failed = |cause| StoreError::file("list", folder, cause);
    std::fs::read_dir(folder)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
        .collect()
}

/// A file whose age cannot be told is young: it stays.
fn is_older(path: &Path, age: Duration) -> bool {
    let modified = std::fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified.elapsed().unwrap_or_default() >= age)
}

fn remove(path: &Path) -> Result<(), StoreError> {
    let removed = match path.is_dir() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    };
    match removed {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::file("remove", path, cause))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_half_written_goes_and_what_is_finished_or_of_an_open_order_stays() {
        let folder = tempfile::tempdir().unwrap();
        let layout = StoreLayout::create(folder.path()).unwrap();
        let (open, never_recorded, image) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
        let kept = [
            layout.vault().join(open.to_string()),
            layout.import(open),
            layout.body(image),
            layout.meta(image),
            layout.root().join("vault.key"),
        ];
        let gone = [
            layout.vault().join(never_recorded.to_string()),
            layout.vault().join(format!(".{open}.0123")),
            layout.import(never_recorded),
            layout.staging().join(format!("{image}.upload")),
            layout.root().join(format!(".{image}.meta.0123")),
            layout.root().join("plugins.described.new-17-0"),
        ];
        for path in kept.iter().chain(&gone) {
            std::fs::write(path, "").unwrap();
        }
        let listed = HalfWritten::list(&layout).unwrap();
        let later = layout.vault().join(Uuid::new_v4().to_string());
        std::fs::write(&later, "").unwrap();
        listed.remove(&[open], Duration::from_secs(60)).unwrap();
        assert!(gone.iter().all(|path| path.exists()), "young files may be somebody's");
        listed.remove(&[open], Duration::ZERO).unwrap();
        assert!(!gone.iter().any(|path| path.exists()));
        assert!(kept.iter().all(|path| path.exists()) && later.exists());
    }
}
