//! Where manifests are looked for, strongest folder first.
//!
//! The first folder may be the administrator's override folder, the only one in which absolute
//! library paths and drop-ins count. Made by the daemon and the command line from their
//! configuration, read by `scan.rs`. Reads no configuration and no environment by itself.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::error::RegistryError;
use crate::trust::Trust;

/// The administrator's own folder.
pub const OVERRIDE_FOLDER: &str = "/etc/imagefactory/plugins.d";

/// What is installed without a package.
pub const LOCAL_FOLDER: &str = "/usr/local/lib64/imagefactory/plugins.d";

/// A folder of manifests and its place in the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginFolder {
    /// As configured.
    pub path: PathBuf,
    /// The administrator's: absolute library paths and drop-ins count here.
    pub is_override: bool,
}

/// Folders, strongest first, and whose files are believed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SearchPath {
    folders: Vec<PluginFolder>,
    trust: Trust,
}

impl SearchPath {
    /// No folder yet; only root's files are believed.
    pub fn new() -> Self {
        SearchPath::default()
    }

    /// The folders of an installed factory; `libdir` is the distribution's (`/usr/lib64`).
    pub fn installed(libdir: &Path) -> Self {
        SearchPath::new()
            .with_override(OVERRIDE_FOLDER)
            .with_folder(LOCAL_FOLDER)
            .with_folder(libdir.join("imagefactory/plugins.d"))
    }

    /// Adds the administrator's folder behind those there are.
    pub fn with_override(mut self, path: impl Into<PathBuf>) -> Self {
        self.folders.push(PluginFolder { path: path.into(), is_override: true });
        self
    }

    /// Adds a folder behind those there are.
    pub fn with_folder(mut self, path: impl Into<PathBuf>) -> Self {
        self.folders.push(PluginFolder { path: path.into(), is_override: false });
        self
    }

    /// Believes this user's files as well as root's: the daemon's own user on a developer's
    /// machine.
    pub fn trusting(mut self, uid: u32) -> Self {
        self.trust = Trust { uid: Some(uid) };
        self
    }

    /// Puts the folders of `IMAGEFACTORY_PLUGIN_PATH` (colon-separated, absolute) before all
    /// others.
    ///
    /// Refused where the process has rights that whoever set the variable may lack.
    pub fn with_environment(self, value: &OsStr) -> Result<Self, RegistryError> {
        match privilege() {
            Some(privilege) => Err(RegistryError::PrivilegedEnvironment { privilege }),
            None => Ok(self.preceded_by(value)),
        }
    }

    fn preceded_by(mut self, value: &OsStr) -> Self {
        let named = std::env::split_paths(value).filter(|path| path.is_absolute());
        let named = named.map(|path| PluginFolder { path, is_override: false });
        self.folders.splice(0..0, named);
        self
    }

    /// Strongest first.
    pub fn folders(&self) -> &[PluginFolder] {
        &self.folders
    }

    /// Whose files are believed.
    pub fn trust(&self) -> Trust {
        self.trust
    }
}

/// Why the environment must not steer this process, if so.
fn privilege() -> Option<&'static str> {
    use rustix::process::{getegid, geteuid, getgid, getuid};
    if geteuid().is_root() {
        Some("as root")
    } else if geteuid() != getuid() {
        Some("set-user-ID")
    } else if getegid() != getgid() {
        Some("set-group-ID")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_the_environment_come_first_and_relative_ones_not_at_all() {
        let path = SearchPath::new().with_folder("/b").preceded_by(OsStr::new("/a:relative::/c"));
        let order: Vec<_> = path.folders().iter().map(|folder| folder.path.as_path()).collect();
        assert_eq!(order, [Path::new("/a"), Path::new("/c"), Path::new("/b")]);
    }

    #[test]
    fn root_ignores_the_environment() {
        let asked = SearchPath::new().with_environment(OsStr::new("/a"));
        assert_eq!(asked.is_err(), rustix::process::geteuid().is_root());
    }

    #[test]
    fn the_installed_order_begins_with_the_administrator() {
        let path = SearchPath::installed(Path::new("/usr/lib64"));
        assert!(path.folders()[0].is_override);
        assert!(path.folders()[1..].iter().all(|folder| !folder.is_override));
        assert_eq!(path.folders()[2].path, Path::new("/usr/lib64/imagefactory/plugins.d"));
    }
}
