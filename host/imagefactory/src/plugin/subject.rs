//! The plugin that a command is about: manifest, library and fixtures, found by path or id.
//!
//! Everything is read, nothing is loaded. A manifest that does not parse still becomes a subject,
//! because rule 001 must be able to say so; what can be told of it is told leniently.

use std::path::{Path, PathBuf};

use imagefactory_model::frames::PluginKind;
use imagefactory_model::validation::ProbedPlugin;
use imagefactory_plugin_sdk::payload::manifest::{
    JsonFinding, MANIFEST_BYTES_MAX, Manifest, ManifestError,
};
use serde_json::Value;

use super::elf::ElfFacts;
use super::error::PluginError;

/// Where packages put plugins, strongest first.
const FOLDERS: [&str; 4] = [
    "/etc/imagefactory/plugins.d",
    "/usr/local/lib64/imagefactory/plugins.d",
    "/usr/lib64/imagefactory/plugins.d",
    "/usr/lib/imagefactory/plugins.d",
];

/// One plugin on disk.
pub(crate) struct Subject {
    /// The manifest's file.
    pub(crate) manifest_path: PathBuf,
    /// The manifest as it is, if it is JSON.
    pub(crate) document: Option<Value>,
    /// What is wrong with it, by place.
    pub(crate) problems: Vec<JsonFinding>,
    /// What is odd, by place.
    pub(crate) warnings: Vec<JsonFinding>,
    /// The library's path, if the manifest names one.
    pub(crate) library: Option<PathBuf>,
    /// What the library's headers say; the reason where it is no ELF file.
    pub(crate) elf: Result<ElfFacts, String>,
}

impl Subject {
    /// Finds a plugin by manifest path, library path (manifest beside it) or id.
    pub(crate) fn find(name: &str) -> Result<Subject, PluginError> {
        let path = Path::new(name);
        if path.is_file() {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            let is_library = path.extension().is_some_and(|extension| extension == "so");
            return Subject::read(if is_library { path.with_extension("json") } else { path });
        }
        let folders = plugin_folders();
        if !name.contains('/') {
            for folder in &folders {
                let manifest = folder.join(format!("{name}.json"));
                if manifest.is_file() {
                    return Subject::read(manifest);
                }
            }
        }
        let searched = folders.iter().map(|folder| folder.display().to_string()).collect();
        Err(PluginError::NotFound { name: name.to_owned(), searched })
    }

    /// Reads a manifest and looks at its library.
    pub(crate) fn read(manifest_path: PathBuf) -> Result<Subject, PluginError> {
        let text = read_bounded(&manifest_path)?;
        let stem = manifest_path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (problems, warnings) = match Manifest::parse(&text, &stem) {
            Ok((_, warnings)) => (Vec::new(), warnings),
            Err(ManifestError::Invalid { problems }) => (problems, Vec::new()),
            Err(other) => (vec![JsonFinding::new("", other.to_string())], Vec::new()),
        };
        let document: Option<Value> = serde_json::from_slice(&text).ok();
        let folder = manifest_path.parent().unwrap_or(Path::new("/"));
        let named = document.as_ref().and_then(|manifest| manifest["library"]["path"].as_str());
        let library = named.map(|named| folder.join(named));
        let elf = match &library {
            Some(library) => ElfFacts::read(library),
            None => Err("the manifest names no library".to_owned()),
        };
        Ok(Subject { manifest_path, document, problems, warnings, library, elf })
    }

    /// A text of the manifest; empty where there is none.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        let value = self.document.as_ref().and_then(|manifest| manifest.pointer(pointer));
        value.and_then(Value::as_str).unwrap_or_default()
    }

    /// The file's stem, which is the id.
    pub(crate) fn stem(&self) -> String {
        self.manifest_path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The manifest's folder.
    pub(crate) fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("/"))
    }

    /// The kind, OS where the manifest says nothing that makes sense.
    pub(crate) fn kind(&self) -> PluginKind {
        match self.text("/type").eq_ignore_ascii_case("cloud") {
            true => PluginKind::Cloud,
            false => PluginKind::Os,
        }
    }

    /// What a runner must know. `None`: there is no library to load.
    pub(crate) fn probed(&self) -> Option<ProbedPlugin> {
        let capabilities = self.document.as_ref()?.get("capabilities").and_then(Value::as_array);
        let capabilities = capabilities
            .map(|names| names.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        Some(ProbedPlugin {
            id: self.text("/id").to_owned(),
            version: self.text("/version").to_owned(),
            kind: self.kind(),
            abi_req: self.text("/abi/req").to_owned(),
            capabilities,
            library: self.library.clone()?,
        })
    }
}

/// The folders of `IMAGEFACTORY_PLUGIN_PATH` (not for set-id programs), then the installed ones.
fn plugin_folders() -> Vec<PathBuf> {
    let same_rights = rustix::process::getuid() == rustix::process::geteuid();
    let given = std::env::var_os("IMAGEFACTORY_PLUGIN_PATH").filter(|_| same_rights);
    let given = given.iter().flat_map(std::env::split_paths).filter(|path| path.is_absolute());
    given.chain(FOLDERS.iter().map(PathBuf::from)).collect()
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, PluginError> {
    use std::io::Read;
    let file = |source| PluginError::File { path: path.to_owned(), source };
    let mut text = Vec::new();
    // One more, so that the parser sees that it is too long.
    let limit = MANIFEST_BYTES_MAX as u64 + 1;
    std::fs::File::open(path).map_err(file)?.take(limit).read_to_end(&mut text).map_err(file)?;
    Ok(text)
}
