//! `imagefactory.conf`: a flat JSON object with the original's keys, and ours beside them.
//!
//! An original file loads unchanged: keys that meant something there and mean nothing here are
//! known and ignored. Keys that nobody knows are warned of, with the nearest known name. Hyphens
//! and underscores are the same, as on the command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use imagefactory_plugin_sdk::payload::nearest::nearest;
use imagefactory_registry::grant::SandboxPolicy;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::ConfigurationError;

/// Largest file: some hundred clients and credentials fit many times.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What the file says; `None` = nothing. Debug shows no secret: clients and credentials are left
/// out.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct ConfigurationFile {
    // The original's.
    /// Log more.
    pub verbose: Option<bool>,
    /// Log everything.
    pub debug: Option<bool>,
    /// Accepted: the daemon always stays in the foreground.
    pub foreground: Option<bool>,
    /// Listen without TLS.
    pub no_ssl: Option<bool>,
    /// Certificate and key for TLS.
    pub ssl_pem: Option<PathBuf>,
    /// Ask nobody for a signature.
    pub no_oauth: Option<bool>,
    /// Where to listen.
    pub address: Option<String>,
    /// Where to listen.
    pub port: Option<u16>,
    /// Where images are built; kept for old files, `storage_path` is what counts.
    pub imgdir: Option<PathBuf>,
    /// Scratch of stages.
    pub tmpdir: Option<PathBuf>,
    /// Seconds that a stage may take where its plugin asks for nothing.
    pub timeout: Option<u64>,
    /// Folders with plugins, instead of the installed ones.
    pub plugins: Option<OneOrMany<PathBuf>>,
    /// OAuth consumer keys and their secrets.
    pub clients: BTreeMap<String, String>,
    /// Builds on this machine at once.
    pub max_concurrent_local_sessions: Option<usize>,
    /// Pushes to EC2 at once.
    pub max_concurrent_ec2_sessions: Option<usize>,
    /// Only `file`.
    pub image_manager: Option<String>,
    /// `storage_path`.
    pub image_manager_args: Option<ImageManagerArguments>,
    /// Templates without a root password are refused.
    pub tdl_require_root_pw: Option<bool>,
    /// Files or folders with JEOS images.
    pub jeos_config: Option<OneOrMany<PathBuf>>,
    /// First port that stages may listen on.
    pub listen_port_min: Option<u16>,
    /// Last one.
    pub listen_port_max: Option<u16>,

    // Ours.
    /// Pushes at once, by target.
    pub max_concurrent: BTreeMap<String, usize>,
    /// Pushes, snapshots and deletions at once, in all.
    pub max_concurrent_remote_sessions: Option<usize>,
    /// Caches of plugins.
    pub cache_dir: Option<PathBuf>,
    /// The stage runner's program.
    pub stage_runner: Option<PathBuf>,
    /// `target_content.xml`.
    pub target_content: Option<PathBuf>,
    /// Every GET is open, but bodies, logs and artefacts.
    pub oauth_open_reads: Option<bool>,
    /// Largest request body, bytes.
    pub body_bytes_max: Option<u64>,
    /// Names under which clients reach this daemon, for the check without OAuth.
    pub server_names: Vec<String>,
    /// Addresses whose `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<std::net::IpAddr>,
    /// Callbacks go to public addresses only.
    pub callbacks_public_only: Option<bool>,
    /// Credentials by name, for `credentials: "@name"`; text, or an object.
    pub credentials: BTreeMap<String, Value>,
    /// Provider definitions by target and name, for `/targets`.
    pub providers: BTreeMap<String, BTreeMap<String, Value>>,
    /// A plugin's own settings, by its id.
    pub plugin_settings: BTreeMap<String, Map<String, Value>>,
    /// Folders that a plugin may write, by its id.
    pub plugin_folders: BTreeMap<String, Vec<PathBuf>>,
    /// Public repository URLs and what is used instead of them.
    pub mirrors: Option<Value>,
    /// What plugins are granted.
    pub sandbox: SandboxSection,
    /// Unprivileged ids for stages, where the daemon is root.
    pub stage_ids: Option<StageIdsSection>,
    /// `qemu` or `libvirt`.
    pub boot_via: Option<String>,
}

/// A key that may hold one value or a list.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// Some.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// As a list.
    pub fn into_vec(self) -> Vec<T> {
        match self {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}

/// `image_manager_args`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ImageManagerArguments {
    /// Where bodies and records lie.
    pub storage_path: Option<PathBuf>,
}

/// `sandbox`: what differs from the packaged policy.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SandboxSection {
    /// A layer that cannot be had is fatal.
    pub strict: Option<bool>,
    /// Profiles that may be used.
    pub profiles: Option<Vec<imagefactory_model::frames::SandboxProfile>>,
    /// May plugins use the network at all?
    pub network: Option<bool>,
    /// Linux capabilities that `os-root` plugins may keep.
    pub capabilities: Option<Vec<String>>,
    /// Folders below which plugins may ask to read.
    pub read_only: Option<Vec<PathBuf>>,
    /// Most memory of a stage, MiB.
    pub memory_max_mb: Option<u64>,
    /// Most processes of a stage.
    pub processes_max: Option<u64>,
    /// Most seconds of a stage.
    pub timeout_s_max: Option<u64>,
}

impl SandboxSection {
    /// The policy with these changes.
    pub fn over(self, mut policy: SandboxPolicy) -> SandboxPolicy {
        policy.strict = self.strict.unwrap_or(policy.strict);
        policy.profiles = self.profiles.unwrap_or(policy.profiles);
        policy.network = self.network.unwrap_or(policy.network);
        policy.capabilities = self.capabilities.unwrap_or(policy.capabilities);
        policy.read_only = self.read_only.unwrap_or(policy.read_only);
        if let Some(mebibytes) = self.memory_max_mb {
            policy.limits.memory_bytes_max = mebibytes.saturating_mul(1 << 20);
        }
        policy.limits.processes_max = self.processes_max.unwrap_or(policy.limits.processes_max);
        policy.timeout_s_max = self.timeout_s_max.unwrap_or(policy.timeout_s_max);
        policy
    }
}

/// `stage_ids`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageIdsSection {
    /// First uid.
    pub uid_first: u32,
    /// Slots of 65536 ids.
    pub slots: u32,
    /// The group that may read bodies.
    pub gid: u32,
}

/// Every key that means something here, for the "did you mean".
pub const KEYS: [&str; 43] = [
    "verbose",
    "debug",
    "foreground",
    "no_ssl",
    "ssl_pem",
    "no_oauth",
    "address",
    "port",
    "imgdir",
    "tmpdir",
    "timeout",
    "plugins",
    "clients",
    "max_concurrent_local_sessions",
    "max_concurrent_ec2_sessions",
    "image_manager",
    "image_manager_args",
    "tdl_require_root_pw",
    "jeos_config",
    "listen_port_min",
    "listen_port_max",
    "max_concurrent",
    "max_concurrent_remote_sessions",
    "cache_dir",
    "stage_runner",
    "target_content",
    "oauth_open_reads",
    "body_bytes_max",
    "server_names",
    "trusted_proxies",
    "callbacks_public_only",
    "credentials",
    "providers",
    "plugin_settings",
    "plugin_folders",
    "mirrors",
    "sandbox",
    "stage_ids",
    "boot_via",
    "openstack_image_format",
    "rhevm_image_format",
    "ec2_ami_type",
    "ec2_build_style",
];

/// Keys that plugins read, most of them the original's: handed on to every plugin as they are.
const PUBLIC_KEYS: [&str; 7] = [
    "http",
    "openstack_image_format",
    "rhevm_image_format",
    "ec2_ami_type",
    "ec2_build_style",
    "mirrors",
    "boot_via",
];

/// Keys of the original's files that mean nothing here.
const FORGOTTEN_KEYS: [&str; 20] = [
    "rest",
    "qmf",
    "qpidd",
    "warehouse",
    "warehouse_key",
    "warehouse_secret",
    "image_bucket",
    "build_bucket",
    "target_bucket",
    "template_bucket",
    "icicle_bucket",
    "provider_bucket",
    "proxy_ami_id",
    "config",
    "template",
    "target",
    "provider",
    "image",
    "max_concurrent_sessions",
    "secondary",
];

/// The file, and what is odd about it.
#[derive(Clone, Default)]
pub struct Loaded {
    /// What it says.
    pub file: ConfigurationFile,
    /// What every plugin may read.
    pub public_settings: Map<String, Value>,
    /// For the log.
    pub warnings: Vec<String>,
}

impl ConfigurationFile {
    /// Reads a file. Errors name the key and what was expected.
    pub fn load(path: &Path) -> Result<Loaded, ConfigurationError> {
        let unreadable = |cause| ConfigurationError::Unreadable { path: path.to_owned(), cause };
        let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
        let invalid = |why: String| ConfigurationError::Invalid { path: path.to_owned(), why };
        if bytes > FILE_BYTES_MAX {
            return Err(invalid(format!(
                "it has {bytes} bytes; at most {FILE_BYTES_MAX} are read"
            )));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        ConfigurationFile::parse(&text).map_err(invalid)
    }

    /// Reads the text of a file.
    pub fn parse(text: &str) -> Result<Loaded, String> {
        let written: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut keys = Map::new();
        let mut warnings = Vec::new();
        let mut public_settings = Map::new();
        for (key, value) in written {
            let name = key.replace('-', "_");
            let is_ours = KEYS.contains(&name.as_str());
            if PUBLIC_KEYS.contains(&name.as_str()) || name.starts_with("ec2_") {
                public_settings.insert(name.clone(), value.clone());
            } else if FORGOTTEN_KEYS.contains(&name.as_str()) {
                warnings.push(format!("the key '{key}' means nothing any more and is ignored"));
            } else if !is_ours {
                let hint = nearest(&name, &KEYS).map(|near| format!("; did you mean '{near}'?"));
                warnings.push(format!("unknown key '{key}'{}", hint.unwrap_or_default()));
            }
            if is_ours {
                keys.insert(name, value);
            }
        }
        let file = one_by_one(keys)?;
        Ok(Loaded { file, public_settings, warnings })
    }
}

/// serde's own message does not name the key at fault, so each is tried by itself first.
fn one_by_one(keys: Map<String, Value>) -> Result<ConfigurationFile, String> {
    for (key, value) in &keys {
        let single: Map<String, Value> = [(key.clone(), value.clone())].into_iter().collect();
        if let Err(error) = serde_json::from_value::<ConfigurationFile>(Value::Object(single)) {
            return Err(format!("'{key}': {error}"));
        }
    }
    serde_json::from_value(Value::Object(keys)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the original's package shipped it in 2012.
    const ORIGINAL: &str = r#"{
        "warehouse": "http://localhost:9090/", "warehouse_key": "key", "image_bucket": "images",
        "imgdir": "/var/lib/imagefactory/images", "ec2_build_style": "snapshot",
        "ec2_ami_type": "s3", "clients": {"mock-key": "mock-secret"}, "proxy_ami_id": "ami-id",
        "max_concurrent_local_sessions": 1, "max_concurrent_ec2_sessions": 1,
        "image_manager": "file",
        "image_manager_args": {"storage_path": "/var/lib/imagefactory/storage"},
        "jeos_config": ["/etc/imagefactory/jeos_images/"], "tdl_require_root_pw": false }"#;

    #[test]
    fn an_original_file_loads_unchanged() {
        let loaded = ConfigurationFile::parse(ORIGINAL).unwrap();
        assert_eq!(loaded.file.max_concurrent_local_sessions, Some(1));
        assert_eq!(loaded.file.clients.get("mock-key").map(String::as_str), Some("mock-secret"));
        assert_eq!(loaded.public_settings.get("ec2_ami_type"), Some(&"s3".into()));
        let odd: Vec<_> =
            loaded.warnings.iter().filter(|warning| warning.contains("unknown")).collect();
        assert!(odd.is_empty(), "{odd:?}");
    }

    #[test]
    fn an_unknown_key_is_warned_of_with_the_nearest_name() {
        let loaded = ConfigurationFile::parse(r#"{"no-ssl": true, "no_oath": true}"#).unwrap();
        assert_eq!(loaded.file.no_ssl, Some(true), "hyphens are underscores");
        assert_eq!(loaded.warnings, ["unknown key 'no_oath'; did you mean 'no_oauth'?"]);
    }

    fn check_refused(text: &str, says: &str) {
        let refused = ConfigurationFile::parse(text).err().unwrap_or_default();
        assert!(refused.contains(says), "{text}: {refused}");
    }

    #[test]
    fn a_bad_value_is_refused_with_its_key() {
        check_refused(r#"{"port": 99999}"#, "'port'");
        check_refused(r#"{"clients": ["a"]}"#, "'clients'");
        check_refused(r#"{"sandbox": {"strikt": true}}"#, "'sandbox'");
        check_refused("[]", "expected a map");
        check_refused("{", "EOF");
    }
}
