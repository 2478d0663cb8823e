//! What comes of flags and file: the factory's configuration, and how the daemon serves it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use imagefactory_dispatch::configuration::{FactoryConfiguration, NamedCredentials, StageIds};
use imagefactory_dispatch::places::PlaceLimits;
use imagefactory_dispatch::stage_process::SupervisorConfig;
use imagefactory_registry::SearchPath;
use imagefactory_registry::grant::SandboxPolicy;
use serde_json::Value;

use crate::ConfigurationError;
use crate::file::{ConfigurationFile, Loaded, OneOrMany};
use crate::flags::{CONFIGURATION_FILE, CommonFlags};

/// Packaged places (file-hierarchy of the original).
const STORAGE_PATH: &str = "/var/lib/imagefactory/storage";
const TMP_DIR: &str = "/var/tmp/imagefactory";
const CACHE_DIR: &str = "/var/cache/imagefactory";
const JEOS_DIR: &str = "/etc/imagefactory/jeos_images";
const TARGET_CONTENT: &str = "/etc/imagefactory/target_content.xml";

/// The key of credentials whose values are names of variables.
const FROM_ENVIRONMENT: &str = "from_environment";

/// The contract's default limit on request bodies.
const BODY_BYTES_MAX: u64 = 4 << 20;

/// What both programs need.
#[derive(Debug, Clone)]
pub struct Settings {
    /// For the engine.
    pub factory: FactoryConfiguration,
    /// For the daemon's edge.
    pub serving: ServingKeys,
    /// Files and folders with JEOS images.
    pub jeos_config: Vec<PathBuf>,
    /// Providers by target and name; no secrets.
    pub providers: BTreeMap<String, BTreeMap<String, Value>>,
    /// How much to log.
    pub verbosity: Verbosity,
    /// For the log.
    pub warnings: Vec<String>,
}

/// How much to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// One line per status change.
    Normal,
    /// `--verbose`.
    Verbose,
    /// `--debug`.
    Debug,
}

/// What the file says about serving; the daemon lays its flags over it.
#[derive(Clone, Default)]
pub struct ServingKeys {
    /// `no_ssl`.
    pub no_ssl: bool,
    /// `ssl_pem`.
    pub ssl_pem: Option<PathBuf>,
    /// `no_oauth`.
    pub no_oauth: bool,
    /// `address`.
    pub address: Option<String>,
    /// `port`.
    pub port: Option<u16>,
    /// OAuth consumer keys and their secrets.
    pub clients: BTreeMap<String, String>,
    /// `oauth_open_reads`.
    pub oauth_open_reads: bool,
    /// Largest request body, bytes.
    pub body_bytes_max: u64,
    /// Names under which clients reach this daemon.
    pub server_names: Vec<String>,
    /// Whose `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// `callbacks_public_only`.
    pub callbacks_public_only: bool,
}

impl fmt::Debug for ServingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients: Vec<_> = self.clients.keys().collect();
        f.debug_struct("ServingKeys")
            .field("no_ssl", &self.no_ssl)
            .field("no_oauth", &self.no_oauth)
            .field("address", &self.address)
            .field("port", &self.port)
            .field("clients", &clients)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads the file that the flags name and lays the flags over it. The packaged file need not
    /// exist; one that was named must.
    pub fn load(flags: &CommonFlags) -> Result<Settings, ConfigurationError> {
        let is_default = flags.config == Path::new(CONFIGURATION_FILE);
        let loaded = match ConfigurationFile::load(&flags.config) {
            Err(ConfigurationError::Unreadable { cause, .. })
                if is_default && cause.kind() == std::io::ErrorKind::NotFound =>
            {
                Loaded::default()
            }
            loaded => loaded?,
        };
        Settings::of(loaded, flags)
    }

    fn of(loaded: Loaded, flags: &CommonFlags) -> Result<Settings, ConfigurationError> {
        let Loaded { file, public_settings, warnings } = loaded;
        if let Some(manager) = file.image_manager.as_deref().filter(|manager| *manager != "file") {
            return Err(ConfigurationError::Contradiction(format!(
                "image_manager '{manager}' is not known; there is 'file'"
            )));
        }
        let storage_path = flags
            .imgdir
            .clone()
            .or_else(|| file.image_manager_args.clone().and_then(|args| args.storage_path))
            .unwrap_or_else(|| STORAGE_PATH.into());
        let mut sandbox = file.sandbox.clone().over(SandboxPolicy::default());
        if let Some(timeout) = flags.timeout.or(file.timeout) {
            sandbox.timeout_s_default = timeout;
        }
        let verbosity = if flags.debug || file.debug == Some(true) {
            Verbosity::Debug
        } else if flags.verbose || file.verbose == Some(true) {
            Verbosity::Verbose
        } else {
            Verbosity::Normal
        };
        let factory = FactoryConfiguration {
            storage_path,
            tmp_dir: flags.tmpdir.clone().or(file.tmpdir.clone()).unwrap_or_else(|| TMP_DIR.into()),
            cache_dir: file.cache_dir.clone().unwrap_or_else(|| CACHE_DIR.into()),
            places: places(&file),
            tdl_require_root_pw: file.tdl_require_root_pw.unwrap_or(false),
            credentials: NamedCredentials::new(credential_texts(&file.credentials, |name| {
                std::env::var(name).ok()
            })),
            plugin_settings: file.plugin_settings.clone(),
            public_settings,
            plugin_folders: file.plugin_folders.clone(),
            target_content: file.target_content.clone().unwrap_or_else(|| TARGET_CONTENT.into()),
            plugins: search_path(&file, flags),
            sandbox,
            stage_ids: file.stage_ids.map_or_else(StageIds::default, |ids| StageIds {
                uid_first: ids.uid_first,
                slots: ids.slots,
                gid: ids.gid,
            }),
            supervisor: supervisor(&file),
        };
        let jeos_config =
            file.jeos_config.clone().map_or_else(|| vec![JEOS_DIR.into()], OneOrMany::into_vec);
        Ok(Settings {
            factory,
            jeos_config,
            providers: file.providers.clone(),
            verbosity,
            warnings,
            serving: serving(file),
        })
    }
}

fn serving(file: ConfigurationFile) -> ServingKeys {
    ServingKeys {
        no_ssl: file.no_ssl.unwrap_or(false),
        // The original's default was "*": a transient certificate.
        ssl_pem: file.ssl_pem.filter(|path| path != Path::new("*")),
        no_oauth: file.no_oauth.unwrap_or(false),
        address: file.address,
        port: file.port,
        clients: file.clients,
        oauth_open_reads: file.oauth_open_reads.unwrap_or(false),
        body_bytes_max: file.body_bytes_max.unwrap_or(BODY_BYTES_MAX),
        server_names: file.server_names,
        trusted_proxies: file.trusted_proxies,
        callbacks_public_only: file.callbacks_public_only.unwrap_or(false),
    }
}

fn places(file: &ConfigurationFile) -> PlaceLimits {
    let mut places = PlaceLimits::default();
    places.local = file.max_concurrent_local_sessions.unwrap_or(places.local);
    places.remote = file.max_concurrent_remote_sessions.unwrap_or(places.remote);
    if let Some(ec2) = file.max_concurrent_ec2_sessions {
        places.by_target.insert("ec2".to_owned(), ec2);
    }
    places.by_target.extend(file.max_concurrent.clone());
    places
}

/// Credentials that are written as an object reach their plugin as JSON text. Those of the form
/// `{"from_environment": {"secret_key": "VARIABLE"}}` take their values from the factory's own
/// environment; what is not set there is left out, and the plugin says what it misses.
fn credential_texts(
    credentials: &BTreeMap<String, Value>,
    variable: impl Fn(&str) -> Option<String>,
) -> BTreeMap<String, String> {
    let text = |value: &Value| match (value, value.get(FROM_ENVIRONMENT)) {
        (Value::String(text), _) => text.clone(),
        (_, Some(Value::Object(variables))) => {
            let value = |(key, name): (&String, &Value)| {
                Some((key.clone(), Value::from(variable(name.as_str()?)?)))
            };
            Value::Object(variables.iter().filter_map(value).collect()).to_string()
        }
        (other, _) => other.to_string(),
    };
    credentials
        .iter()
        .map(|(name, value)| (name.trim_start_matches('@').to_owned(), text(value)))
        .collect()
}

fn search_path(file: &ConfigurationFile, flags: &CommonFlags) -> SearchPath {
    let given = match flags.plugins.is_empty() {
        false => flags.plugins.clone(),
        true => file.plugins.clone().map(OneOrMany::into_vec).unwrap_or_default(),
    };
    let path = if given.is_empty() {
        SearchPath::installed(Path::new("/usr/lib64"))
            .with_folder("/usr/local/lib/imagefactory/plugins.d")
            .with_folder("/usr/lib/imagefactory/plugins.d")
    } else {
        given.into_iter().fold(SearchPath::new(), SearchPath::with_folder)
    };
    // Its own user's files as well as root's: a developer's machine, a factory in a home folder.
    path.trusting(rustix::process::geteuid().as_raw())
}

fn supervisor(file: &ConfigurationFile) -> SupervisorConfig {
    let runner = file.stage_runner.clone().unwrap_or_else(installed_runner);
    let mut supervisor = SupervisorConfig::new(runner);
    let (first, last) = supervisor.listen_ports.clone().into_inner();
    supervisor.listen_ports =
        file.listen_port_min.unwrap_or(first)..=file.listen_port_max.unwrap_or(last);
    supervisor
}

/// Beside this program (a build tree), in `../libexec/imagefactory` (an installation below any
/// prefix), or the packaged place.
fn installed_runner() -> PathBuf {
    const NAME: &str = "imagefactory-stage-runner";
    let program = std::env::current_exe().ok().and_then(|path| path.canonicalize().ok());
    let folder = program.as_deref().and_then(Path::parent);
    let beside = folder.map(|folder| folder.join(NAME));
    let libexec =
        folder.and_then(Path::parent).map(|prefix| prefix.join("libexec/imagefactory").join(NAME));
    [beside, libexec]
        .into_iter()
        .flatten()
        .find(|path| path.is_file())
        .unwrap_or_else(|| Path::new("/usr/libexec/imagefactory").join(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str, flags: &CommonFlags) -> Settings {
        Settings::of(ConfigurationFile::parse(text).unwrap(), flags).unwrap()
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_defaults() {
        let text = r#"{"tmpdir": "/file", "timeout": 7, "max_concurrent": {"vsphere": 3}}"#;
        let plain = settings(text, &CommonFlags::default());
        assert_eq!(plain.factory.tmp_dir, Path::new("/file"));
        assert_eq!(plain.factory.sandbox.timeout_s_default, 7);
        assert_eq!(plain.factory.storage_path, Path::new(STORAGE_PATH));
        assert_eq!(plain.factory.places.by_target.get("vsphere"), Some(&3));
        assert_eq!(plain.factory.places.by_target.get("ec2"), Some(&1));
        let flags = CommonFlags { tmpdir: Some("/flag".into()), ..CommonFlags::default() };
        assert_eq!(settings(text, &flags).factory.tmp_dir, Path::new("/flag"));
    }

    #[test]
    fn no_debug_text_shows_a_secret() {
        let text =
            r#"{"clients": {"k": "canary-1"}, "credentials": {"n": {"password": "canary-2"}}}"#;
        let settings = settings(text, &CommonFlags::default());
        let shown = format!("{settings:?}");
        assert!(!shown.contains("canary"), "{shown}");
        assert_eq!(settings.factory.credentials.get("@n"), Some(r#"{"password":"canary-2"}"#));
    }

    #[test]
    fn credentials_may_name_variables_of_the_factorys_environment() {
        let credentials = serde_json::json!({
            "@aws": {"from_environment": {"access_key": "KEY", "secret_access_key": "UNSET"}},
            "plain": {"access_key": "KEY"},
        });
        let credentials = serde_json::from_value(credentials).unwrap();
        let texts = credential_texts(&credentials, |name| (name == "KEY").then(|| "k".to_owned()));
        assert_eq!(texts["aws"], r#"{"access_key":"k"}"#);
        assert_eq!(texts["plain"], r#"{"access_key":"KEY"}"#);
    }

    #[test]
    fn an_unknown_image_manager_is_refused() {
        let loaded = ConfigurationFile::parse(r#"{"image_manager": "warehouse"}"#).unwrap();
        let refused = Settings::of(loaded, &CommonFlags::default()).unwrap_err();
        assert!(refused.to_string().contains("'warehouse'"), "{refused}");
    }
}
