//! What is asked for: the provider's definition, and the parameters that override it.
//!
//! A provider is a folder: `{"directory": "/srv/images", "format": "qcow2", …}`, or its path alone;
//! or a storage pool: `{"libvirt": "qemu:///system", "pool": "default", …}`.
//! All of it comes from a client; whatever becomes part of a path or of a command is checked here.

use std::path::{Component, Path, PathBuf};

use imagefactory_plugin_sdk::author::{PluginError, Result, Stage};
use imagefactory_toolkit_disk::DiskFormat;
use serde::{Deserialize, Serialize};

/// With the longest suffix (`.qcow2.sha256`) still below the 255 bytes of a file's name.
const NAME_BYTES_MAX: usize = 200;

/// Formats that can be asked for.
const FORMATS: [DiskFormat; 5] =
    [DiskFormat::Raw, DiskFormat::Qcow2, DiskFormat::Vmdk, DiskFormat::Vhd, DiskFormat::Vhdx];

/// How the content is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    /// Not.
    None,
    /// Deflate: qcow2, and vmdk as streamOptimized.
    Zlib,
    /// Smaller and much faster than zlib: qcow2, read by QEMU from 5.1 on.
    Zstd,
}

impl Compression {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Zlib => "zlib",
            Compression::Zstd => "zstd",
        }
    }
}

/// Who runs the virtual machine of the domain XML and of the start command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Virtualisation {
    /// The processor; QEMU's emulation where that cannot be had.
    Kvm,
    /// QEMU's emulation.
    Qemu,
}

impl Virtualisation {
    /// As libvirt calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Virtualisation::Kvm => "kvm",
            Virtualisation::Qemu => "qemu",
        }
    }
}

/// One push, all defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// Absolute, without `.` and `..`; empty where the provider is a pool.
    pub(crate) directory: PathBuf,
    /// libvirt's address; empty where the provider is a folder.
    pub(crate) uri: String,
    /// Name of the storage pool there.
    pub(crate) pool: String,
    /// Of the file to make.
    pub(crate) format: DiskFormat,
    /// One that the format has.
    pub(crate) compression: Compression,
    /// Of the file, without extension; one plain component.
    pub(crate) name: String,
    /// For the domain XML.
    pub(crate) domain_type: Virtualisation,
}

/// The part of a provider definition that this plugin reads.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Definition {
    directory: Option<PathBuf>,
    libvirt: Option<String>,
    pool: Option<String>,
    format: Option<String>,
    compression: Option<String>,
    name: Option<String>,
    domain_type: Option<String>,
}

impl Wishes {
    /// Parameters before the provider's definition before the defaults.
    pub(crate) fn of(stage: &Stage<'_>) -> Result<Wishes> {
        let definition = definition(stage.provider().unwrap_or_default())?;
        let (directory, uri, pool) =
            place(definition.directory, definition.libvirt, definition.pool)?;
        let wish = |key: &str, of_provider: Option<String>| {
            stage.text_parameter(key).map(|given| given.or(of_provider))
        };
        let format = match wish("format", definition.format)? {
            Some(name) => format_named(&name)?,
            None => DiskFormat::Qcow2,
        };
        let compression = match wish("compression", definition.compression)?.as_deref() {
            None | Some("none") => Compression::None,
            Some("zlib") => Compression::Zlib,
            Some("zstd") => Compression::Zstd,
            Some(other) => return Err(unknown("compression", other, "none, zlib, zstd")),
        };
        check_compression(format, compression)?;
        let domain_type = match wish("domain_type", definition.domain_type)?.as_deref() {
            None | Some("kvm") => Virtualisation::Kvm,
            Some("qemu") => Virtualisation::Qemu,
            Some(other) => return Err(unknown("domain_type", other, "kvm, qemu")),
        };
        let name = wish("name", definition.name)?.unwrap_or_else(|| stage.image_id().to_owned());
        check_name(&name)?;
        Ok(Wishes { directory, uri, pool, format, compression, name, domain_type })
    }
}

impl Wishes {
    /// Is the provider a storage pool of libvirt's?
    pub(crate) fn is_pool(&self) -> bool {
        !self.uri.is_empty()
    }

    /// What was used of what can be asked for.
    pub(crate) fn effective(&self) -> serde_json::Value {
        serde_json::json!({
            "format": self.format.name(),
            "compression": self.compression.name(),
            "name": self.name,
            "domain_type": self.domain_type.name(),
        })
    }
}

/// A folder, or a pool and where its libvirt is: one of them.
fn place(
    directory: Option<PathBuf>,
    libvirt: Option<String>,
    pool: Option<String>,
) -> Result<(PathBuf, String, String)> {
    match (directory, libvirt) {
        (Some(directory), None) => {
            check_directory(&directory)?;
            Ok((directory, String::new(), String::new()))
        }
        (None, Some(uri)) => {
            let pool = pool.unwrap_or_else(|| "default".to_owned());
            if !uri.contains("://") || uri.contains(['#', ' ', '\n']) || !is_plain(&pool) {
                let message = format!("{uri:?} and {pool:?} name no libvirt and pool");
                return Err(PluginError::user_fault(message)
                    .hint(r#"write {"libvirt": "qemu:///system", "pool": "default"}"#));
            }
            Ok((PathBuf::new(), uri, pool))
        }
        (Some(_), Some(_)) => Err(PluginError::user_fault(
            "the provider names a folder and a libvirt; it can be one of them",
        )),
        (None, None) => Err(PluginError::user_fault("the provider names no folder and no libvirt")
            .hint(r#"give its path, {"directory": "/srv/images"}, or {"libvirt": "qemu:///system", "pool": "default"}"#)),
    }
}

fn definition(provider: &str) -> Result<Definition> {
    let provider = provider.trim();
    if provider.starts_with('{') {
        return serde_json::from_str(provider).map_err(|error| {
            PluginError::user_fault(format!("the provider's definition: {error}"))
        });
    }
    let directory = Some(PathBuf::from(provider)).filter(|path| !path.as_os_str().is_empty());
    Ok(Definition { directory, ..Definition::default() })
}

/// An absolute path that says plainly where it leads.
pub(crate) fn check_directory(path: &Path) -> Result<()> {
    let mut components = path.components();
    let plain = components.next() == Some(Component::RootDir)
        && components.all(|component| matches!(component, Component::Normal(_)))
        && !path.as_os_str().as_encoded_bytes().contains(&0);
    if plain {
        return Ok(());
    }
    let message = format!("the provider's folder {path:?} is not an absolute path without \"..\"");
    Err(PluginError::user_fault(message).hint("write it as /srv/images"))
}

/// What becomes an image's name: a file's, a domain's, and part of a command line.
fn check_name(name: &str) -> Result<()> {
    if is_plain(name) && name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(PluginError::user_fault(format!("the name {name:?} cannot be an image's")).hint(format!(
        "use at most {NAME_BYTES_MAX} letters, digits and . _ + -, a letter or digit first"
    )))
}

/// One component of a path that needs no quotes anywhere and is neither hidden nor an option.
pub(crate) fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.bytes().all(plain)
}

fn format_named(name: &str) -> Result<DiskFormat> {
    let known = FORMATS.into_iter().find(|format| format.name() == name);
    known.ok_or_else(|| unknown("format", name, "raw, qcow2, vmdk, vhd, vhdx"))
}

fn check_compression(format: DiskFormat, compression: Compression) -> Result<()> {
    let possible = match (format, compression) {
        (_, Compression::None) | (DiskFormat::Qcow2, _) => return Ok(()),
        (DiskFormat::Vmdk, Compression::Zlib) => return Ok(()),
        (DiskFormat::Vmdk, _) => "none or zlib",
        _ => "none",
    };
    let (asked, format) = (compression.name(), format.name());
    let message = format!("{format} cannot be compressed with {asked}, only {possible}");
    Err(PluginError::user_fault(message))
}

fn unknown(what: &str, given: &str, possible: &str) -> PluginError {
    PluginError::user_fault(format!("{what} is {given:?}, not one of {possible}"))
}
