//! The plugin manifest: the JSON file that says what a plugin is before anything of it is loaded.
//!
//! Here are its parts as values; `parse.rs` is the only door into them ([`Manifest::parse`]), and
//! reports everything odd with a JSON pointer. Nothing here touches the file system: where
//! manifests are looked for, who may own them and which one wins is the host's registry. The field
//! table for people is plugin-manifests/README.md, the one for tools
//! plugin-manifests/manifest.schema.json; a test holds the three together.

mod document;
mod drop_in;
mod embedded_schema;
mod field_rules;
mod finding;
mod object_reader;
mod parse;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

pub use drop_in::ManifestDropIn;
pub use finding::{JsonFinding, ManifestError};

/// Largest manifest in bytes. Real ones have 1 to 20 KiB, nearly all of it JSON Schema; 1 MiB is
/// the cap that plugin-abi.md 5.3 sets, and it bounds what a parse may cost.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// Deepest nesting. A schema inside a manifest needs about 12 levels; 32 leaves room and keeps
/// every recursive reader far from the end of its stack.
pub const MANIFEST_DEPTH_MAX: usize = 32;

/// The priority of a manifest that does not name one: the middle of the range people use.
pub const PRIORITY_DEFAULT: u32 = 50;

/// The host's interface operations by kind, as a manifest's `capabilities` name them. Cleanup is
/// for both kinds. A test compares them with the host's own list of operations.
pub const OS_CAPABILITIES: [&str; 5] =
    ["create_base_image", "create_target_image", "resolve_inputs", "verify_image", "cleanup"];

/// As [`OS_CAPABILITIES`], for cloud plugins.
pub const CLOUD_CAPABILITIES: [&str; 7] = [
    "builder_should_create_target_image",
    "builder_will_create_target_image",
    "builder_did_create_target_image",
    "push_image_to_provider",
    "snapshot_image_on_provider",
    "delete_from_provider",
    "cleanup",
];

/// A plugin's manifest, checked. Serializes to the canonical form of the document it was read from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Manifest {
    /// Which edition of this format the document was written for.
    pub schema_version: SchemaVersion,
    /// File stem, descriptor id and REST id at once: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
    pub id: String,
    /// For people; the id where the document has none.
    pub name: String,
    /// OS or cloud.
    #[serde(rename = "type")]
    pub kind: PluginKind,
    /// What it serves, in the document's order.
    pub targets: Vec<Target>,
    /// One line for people.
    pub description: String,
    /// Who answers for it.
    pub maintainer: Maintainer,
    /// The same as in the plugin's descriptor. Semver is asked for; "1.0" occurs in old manifests.
    pub version: String,
    /// SPDX expression; free text in old manifests.
    pub license: String,
    /// The shared library. `None`: a manifest of the Python factory, never executed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub library: Option<Library>,
    /// Which ABI it needs.
    pub abi: Abi,
    /// What it was built with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sdk: Option<Sdk>,
    /// The operations it implements; equal to the non-null slots of its tables.
    pub capabilities: Vec<String>,
    /// JSON Schema of the parameters it understands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters_schema: Option<Value>,
    /// JSON Schema of a provider definition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_schema: Option<Value>,
    /// JSON Schema of credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_schema: Option<Value>,
    /// What must be there before a stage is worth starting.
    pub requires: Requires,
    /// The confinement it asks for; the host's configuration grants.
    pub sandbox: Sandbox,
    /// The limits it asks for; the host's configuration grants.
    pub limits: Limits,
    /// Decides between two plugins that serve one target; higher wins. 0 to 1000.
    pub priority: u32,
    /// Ids that must not be active beside it.
    pub conflicts: Vec<String>,
    /// Ids that it makes superfluous.
    pub replaces: Vec<String>,
    /// http(s) URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub homepage: Option<String>,
    /// http(s) URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documentation: Option<String>,
    /// Deleting a provider image needs credentials: a DELETE without any is refused.
    pub needs_credentials: bool,
    /// `x-…` keys of vendors, as they were.
    #[serde(flatten)]
    pub extensions: Map<String, Value>,
}

impl Manifest {
    /// Does the manifest list this operation among its capabilities?
    pub fn offers(&self, operation: &str) -> bool {
        self.capabilities.iter().any(|capability| capability == operation)
    }
}

/// MAJOR.MINOR of the manifest format. An unknown major is refused, an unknown minor accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SchemaVersion {
    /// Changes when an old reader would misunderstand.
    pub major: u32,
    /// Changes when fields are added.
    pub minor: u32,
}

/// The edition that this SDK knows.
pub const SCHEMA_VERSION: SchemaVersion = SchemaVersion { major: 1, minor: 0 };

impl fmt::Display for SchemaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Serialize for SchemaVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// OS or cloud. Read in any case, as the original did; written in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginKind {
    /// Makes base images and customises target images.
    Os,
    /// Prepares target images for a cloud and pushes them there.
    Cloud,
}

impl PluginKind {
    /// As in the document.
    pub fn name(self) -> &'static str {
        match self {
            PluginKind::Os => "os",
            PluginKind::Cloud => "cloud",
        }
    }

    /// How many fields a target row of this kind has: (name, version, arch) or (target).
    pub fn target_arity(self) -> usize {
        match self {
            PluginKind::Os => 3,
            PluginKind::Cloud => 1,
        }
    }

    /// The operations that a plugin of this kind can offer.
    pub fn capabilities(self) -> &'static [&'static str] {
        match self {
            PluginKind::Os => &OS_CAPABILITIES,
            PluginKind::Cloud => &CLOUD_CAPABILITIES,
        }
    }
}

impl fmt::Display for PluginKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One entry of `targets`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum Target {
    /// `["Fedora", null, null]`, `["ec2"]`: of the kind's arity.
    Row(Vec<Option<String>>),
    /// A bare string. The original registered it under a key that no lookup could ever produce; it
    /// is kept for the listing and matches nothing.
    Text(String),
}

impl Target {
    /// Can a lookup ever arrive at this entry? Only exact fields followed by nulls are tried.
    pub fn can_match(&self) -> bool {
        match self {
            Target::Text(_) => false,
            Target::Row(fields) => {
                let given = fields.iter().take_while(|field| field.is_some()).count();
                let trailing_nulls_only = fields[given..].iter().all(Option::is_none);
                // [null, null, null] is the documented catch-all; a cloud has no such thing.
                trailing_nulls_only && (given > 0 || fields.len() == 3)
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Text(text) => write!(f, "{:?}", text),
            Target::Row(fields) => {
                f.write_str("[")?;
                for (index, field) in fields.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    match field {
                        Some(text) => write!(f, "{}{}", comma, text)?,
                        None => write!(f, "{}null", comma)?,
                    }
                }
                f.write_str("]")
            }
        }
    }
}

/// Who answers for the plugin; as in the original, nothing but shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Maintainer {
    /// Person or body.
    pub name: String,
    /// Where to write to.
    pub email: String,
    /// Where to read.
    pub url: String,
}

/// The shared library beside the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Library {
    /// Relative to the manifest's folder and inside it; absolute only in the override folder.
    pub path: String,
    /// Lower-case hex of the installed file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Machine it was built for, as `uname -m` says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
}

/// Which ABI the plugin needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Abi {
    /// Semver requirement on the lowest ABI it needs: `^1.0`. Judged by the host before loading.
    pub req: String,
}

/// What the plugin was built with; only shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Sdk {
    /// `imagefactory-plugin-sdk`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `rust`, `c`, …
    pub language: String,
}

/// What must be there before a stage is worth starting.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Requires {
    /// Names of programs in PATH.
    pub tools: Vec<String>,
    /// Device nodes below /dev.
    pub devices: Vec<String>,
    /// Semver requirement on the host's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// The confinement that a plugin asks for. Absent fields leave it to the host's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Sandbox {
    /// Which set of layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<SandboxProfile>,
    /// Does it need the network?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<bool>,
    /// Linux capabilities for `os-root`: `CAP_SYS_ADMIN`.
    pub capabilities: Vec<String>,
    /// Memory of the whole stage in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max_mb: Option<u64>,
    /// Absolute paths that it reads beside `/usr`.
    pub read_only: Vec<String>,
}

/// Sandbox profiles (docs/PLUGIN_ABI.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SandboxProfile {
    /// Push, snapshot, delete: no root, network, landlock, seccomp.
    Cloud,
    /// libvirt or QEMU builds: as cloud, with `/dev/kvm`.
    OsVm,
    /// Bootstraps in user namespaces: own user, mount and pid namespace, mount allowed inside.
    OsUserns,
    /// Loop devices and chroots as real root: private mount and pid namespace, listed capabilities.
    OsRoot,
    /// Development only.
    None,
}

impl SandboxProfile {
    /// All of them, the weakest confinement last.
    pub const ALL: [SandboxProfile; 5] = [
        SandboxProfile::Cloud,
        SandboxProfile::OsVm,
        SandboxProfile::OsUserns,
        SandboxProfile::OsRoot,
        SandboxProfile::None,
    ];

    /// As in the document.
    pub fn name(self) -> &'static str {
        match self {
            SandboxProfile::Cloud => "cloud",
            SandboxProfile::OsVm => "os-vm",
            SandboxProfile::OsUserns => "os-userns",
            SandboxProfile::OsRoot => "os-root",
            SandboxProfile::None => "none",
        }
    }
}

impl fmt::Display for SandboxProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The limits that a plugin asks for. Absent fields leave it to the host's defaults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Seconds that one stage may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u64>,
    /// Seconds between `abort()` and SIGTERM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel_grace_s: Option<u64>,
    /// Stages of this plugin at one time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<u64>,
    /// Processes and threads of one stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes_max: Option<u64>,
}
