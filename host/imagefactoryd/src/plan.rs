//! What flags and configuration come to: how this daemon serves.
//!
//! The one place that decides where to listen and what is open. Without TLS or without OAuth nobody
//! is kept out by anything but the address, so then the default is loopback.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use imagefactory_configuration::ConfigurationError;
use imagefactory_configuration::settings::{Settings, Verbosity};
use imagefactory_dispatch::configuration::FactoryConfiguration;
use serde_json::Value;

use crate::flags::Flags;

/// The original's port.
const PORT: u16 = 8075;

/// Everything that the daemon is told.
#[derive(Debug)]
pub(crate) struct Plan {
    /// For the engine.
    pub(crate) factory: FactoryConfiguration,
    /// Where to listen where systemd hands over no socket.
    pub(crate) address: String,
    /// Where to listen; 0 = the system chooses.
    pub(crate) port: u16,
    /// With TLS?
    pub(crate) tls: Option<CertificateAt>,
    /// OAuth consumer keys and secrets; `None` = nobody is asked.
    pub(crate) oauth_clients: Option<OauthClients>,
    /// Every GET is open, but bodies, logs and artefacts.
    pub(crate) oauth_open_reads: bool,
    /// Largest request body, bytes.
    pub(crate) body_bytes_max: usize,
    /// Names under which clients reach this daemon.
    pub(crate) server_names: Vec<String>,
    /// Whose `X-Forwarded-*` headers are believed.
    pub(crate) trusted_proxies: Vec<IpAddr>,
    /// Callbacks go to public addresses only.
    pub(crate) callbacks_public_only: bool,
    /// Files and folders with JEOS images.
    pub(crate) jeos_config: Vec<PathBuf>,
    /// Providers by target and name.
    pub(crate) providers: BTreeMap<String, BTreeMap<String, Value>>,
    /// How much to log.
    pub(crate) verbosity: Verbosity,
    /// What is odd about the configuration.
    pub(crate) warnings: Vec<String>,
}

/// Consumer keys and secrets. Debug shows how many.
#[derive(Clone, Default)]
pub(crate) struct OauthClients(pub(crate) BTreeMap<String, String>);

impl std::fmt::Debug for OauthClients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} clients", self.0.len())
    }
}

/// Where the certificate lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CertificateAt {
    /// `--ssl_pem`.
    Named(PathBuf),
    /// Made at the first start and kept beside the store.
    Kept(PathBuf),
}

impl Plan {
    /// Reads the configuration and lays the flags over it.
    pub(crate) fn load(flags: &Flags) -> Result<Plan, ConfigurationError> {
        Plan::of(Settings::load(&flags.common)?, flags)
    }

    fn of(settings: Settings, flags: &Flags) -> Result<Plan, ConfigurationError> {
        let Settings { factory, serving, jeos_config, providers, verbosity, mut warnings } =
            settings;
        let no_ssl = flags.no_ssl || serving.no_ssl;
        let no_oauth = flags.no_oauth || serving.no_oauth;
        let ssl_pem = flags.ssl_pem.clone().or(serving.ssl_pem);
        if flags.no_ssl && flags.ssl_pem.is_some() {
            let why = "--no_ssl and --ssl_pem exclude each other: give one of them";
            return Err(ConfigurationError::Contradiction(why.to_owned()));
        }
        let kept = factory.storage_path.join("imagefactoryd.pem");
        let tls = match (no_ssl, ssl_pem) {
            (true, _) => None,
            (false, Some(path)) => Some(CertificateAt::Named(path)),
            (false, None) => Some(CertificateAt::Kept(kept)),
        };
        let given = flags.address.clone().or(serving.address);
        let address = match given {
            Some(address) => address,
            None if no_ssl || no_oauth => {
                let without = if no_ssl { "TLS" } else { "OAuth" };
                warnings.push(format!(
                    "without {without} only this machine is served; give an address to serve others"
                ));
                "127.0.0.1".to_owned()
            }
            None => "0.0.0.0".to_owned(),
        };
        if !no_oauth && serving.clients.is_empty() {
            warnings.push(
                "OAuth is on and there are no clients: every protected address answers 401; add \
                 \"clients\": {\"key\": \"secret\"} to the configuration"
                    .to_owned(),
            );
        }
        Ok(Plan {
            factory,
            address,
            port: flags.port.or(serving.port).unwrap_or(PORT),
            tls,
            oauth_clients: (!no_oauth).then_some(OauthClients(serving.clients)),
            oauth_open_reads: serving.oauth_open_reads,
            body_bytes_max: usize::try_from(serving.body_bytes_max).unwrap_or(usize::MAX),
            server_names: serving.server_names,
            trusted_proxies: serving.trusted_proxies,
            callbacks_public_only: serving.callbacks_public_only,
            jeos_config,
            providers,
            verbosity,
            warnings,
        })
    }
}
