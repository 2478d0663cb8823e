//! Finds and reads the files of one plugin folder, within bounds and without judging their content.
//!
//! Names in order (a directory's own order is random), depth one, regular files only, never through
//! a symbolic link, never waiting on a FIFO. What cannot be read becomes a reason instead of bytes,
//! so that one bad file never hides the others. Called by `scan.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use imagefactory_plugin_sdk::payload::manifest::MANIFEST_BYTES_MAX;
use rustix::fs::OFlags;

use crate::reason::Reason;
use crate::search_path::PluginFolder;
use crate::trust::{Trust, last_name};

/// Manifests read per folder, first by name. A thousand plugins are a misplaced folder.
pub(crate) const FILES_MAX: usize = 1000;

/// Drop-ins read per plugin, first by name.
pub(crate) const DROP_INS_MAX: usize = 100;

/// The original's extension; its files are listed, and used once they name a library.
pub(crate) const LEGACY_EXTENSION: &str = "info";

/// One file that is, or should be, a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManifestFile {
    /// The file's name without its extension.
    pub(crate) stem: String,
    /// `EC2.info` instead of `EC2.json`.
    pub(crate) is_legacy: bool,
    pub(crate) path: PathBuf,
    pub(crate) folder: PluginFolder,
    /// The folder's place in the search path; 0 is the strongest.
    pub(crate) rank: usize,
    pub(crate) content: Content,
}

/// What reading it gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Text(Vec<u8>),
    /// Empty, or a link to /dev/null: hides the id in this and weaker folders.
    Mask,
    Refused(Reason),
}

/// A drop-in: its path and its text.
pub(crate) type DropInFile = (PathBuf, Result<Vec<u8>, Reason>);

/// Everything that one folder holds.
#[derive(Debug, Default)]
pub(crate) struct FolderContent {
    pub(crate) manifests: Vec<ManifestFile>,
    /// By plugin id, each list in the order of names.
    pub(crate) drop_ins: BTreeMap<String, Vec<DropInFile>>,
    /// What an operator should hear of the folder itself.
    pub(crate) notices: Vec<Reason>,
}

/// Reads a folder. A missing one is empty.
pub(crate) fn read_folder(folder: &PluginFolder, rank: usize, trust: Trust) -> FolderContent {
    let mut content = FolderContent::default();
    let names = match first_names(&folder.path, FILES_MAX, is_wanted) {
        Ok((names, left_out)) => {
            if left_out {
                let message = format!("holds more than {FILES_MAX} manifests; the rest is ignored");
                content.notices.push(Reason::new(message).at(&folder.path));
            }
            names
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return content,
        Err(error) => {
            let message = format!("the plugin folder cannot be read: {error}");
            content.notices.push(Reason::new(message).at(&folder.path));
            return content;
        }
    };
    let folder_trusted = trust.check_folder(&folder.path);
    if let Err(reason) = &folder_trusted {
        content.notices.push(reason.clone());
    }
    for name in names {
        let path = folder.path.join(&name);
        if let Some(id) = name.strip_suffix(".d") {
            if folder.is_override {
                let files = read_drop_ins(&path, &folder_trusted, trust, &mut content.notices);
                content.drop_ins.insert(id.to_owned(), files);
            }
            continue;
        }
        let Some((stem, extension)) = name.rsplit_once('.') else { continue };
        let text = match &folder_trusted {
            Ok(()) => read_manifest(&path, trust),
            Err(reason) => Content::Refused(reason.clone()),
        };
        content.manifests.push(ManifestFile {
            stem: stem.to_owned(),
            is_legacy: extension == LEGACY_EXTENSION,
            path,
            folder: folder.clone(),
            rank,
            content: text,
        });
    }
    content
}

/// Manifests and drop-in folders; not hidden files, libraries, or editors' backups.
fn is_wanted(name: &str) -> bool {
    let wanted = [".json", ".info", ".d"].iter().any(|ending| name.ends_with(ending));
    wanted && !name.starts_with('.')
}

/// The first `most` wanted names in order, and whether there were more. Holds `most` names at a
/// time, however many the folder has.
fn first_names(
    folder: &Path,
    most: usize,
    is_wanted: fn(&str) -> bool,
) -> io::Result<(BTreeSet<String>, bool)> {
    let mut names = BTreeSet::new();
    let mut left_out = false;
    for entry in fs::read_dir(folder)? {
        // A name that is not UTF-8 cannot be an id.
        let Ok(name) = entry?.file_name().into_string() else { continue };
        if is_wanted(&name) {
            names.insert(name);
        }
        if names.len() > most {
            names.pop_last();
            left_out = true;
        }
    }
    Ok((names, left_out))
}

fn read_manifest(path: &Path, trust: Trust) -> Content {
    match read_regular(path, trust) {
        Ok(text) if text.is_empty() => Content::Mask,
        Ok(text) => Content::Text(text),
        Err(_) if leads_to_dev_null(path) => Content::Mask,
        Err(reason) => Content::Refused(reason),
    }
}

fn leads_to_dev_null(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|target| target == Path::new("/dev/null"))
}

fn read_drop_ins(
    folder: &Path,
    parent_trusted: &Result<(), Reason>,
    trust: Trust,
    notices: &mut Vec<Reason>,
) -> Vec<DropInFile> {
    let is_wanted = |name: &str| name.ends_with(".json") && !name.starts_with('.');
    let trusted = parent_trusted.clone().and_then(|()| trust.check_folder(folder));
    let names = match first_names(folder, DROP_INS_MAX, is_wanted) {
        Ok((names, false)) => names,
        Ok((_, true)) => {
            let message = format!("there are more than {DROP_INS_MAX} drop-ins");
            return vec![(folder.to_path_buf(), Err(Reason::new(message).at(folder)))];
        }
        Err(error) => {
            let message = format!("the drop-ins cannot be read: {error}");
            notices.push(Reason::new(&message).at(folder));
            return vec![(folder.to_path_buf(), Err(Reason::new(message).at(folder)))];
        }
    };
    let read = |name: String| {
        let path = folder.join(name);
        let text = trusted.clone().and_then(|()| read_regular(&path, trust));
        (path, text)
    };
    names.into_iter().map(read).collect()
}

/// The bytes of a trusted regular file of at most [`MANIFEST_BYTES_MAX`].
fn read_regular(path: &Path, trust: Trust) -> Result<Vec<u8>, Reason> {
    // NONBLOCK: opening a FIFO must not wait for its writer.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(path)
        .map_err(|error| unreadable(path, &error))?;
    let found = file.metadata().map_err(|error| unreadable(path, &error))?;
    if found.is_dir() {
        return Err(Reason::new(format!("{} is a folder", last_name(path))).at(path));
    }
    if !found.is_file() {
        return Err(Reason::new(format!("{} is not a regular file", last_name(path))).at(path));
    }
    trust.check_file(path, &found)?;
    let too_large = |bytes: u64| {
        let name = last_name(path);
        let message = format!("{name} has {bytes} bytes; at most {MANIFEST_BYTES_MAX} are read");
        Reason::new(message).at(path)
    };
    if found.len() > MANIFEST_BYTES_MAX as u64 {
        return Err(too_large(found.len()));
    }
    let mut text = Vec::new();
    // It may have grown since: one byte more than allowed shows it.
    let read = file.take(MANIFEST_BYTES_MAX as u64 + 1).read_to_end(&mut text);
    match read {
        Ok(bytes) if bytes > MANIFEST_BYTES_MAX => Err(too_large(bytes as u64)),
        Ok(_) => Ok(text),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Reason {
    let name = last_name(path);
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::LOOP) => {
            Reason::new(format!("{name} is a symbolic link; manifests are regular files"))
                .at(path)
                .hint("copy the file, or link to /dev/null to mask the plugin")
        }
        Some(rustix::io::Errno::ACCESS) => {
            Reason::new(format!("{name} cannot be read: permission denied"))
                .at(path)
                .hint(format!("chmod a+r {}", path.display()))
        }
        _ => Reason::new(format!("{name} cannot be read: {error}")).at(path),
    }
}
