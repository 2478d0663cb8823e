//! How a client behaves: limits of time, retries, proxies, certificates, bandwidth.
//!
//! What the operator decides for all plugins, or for one, stands in the configuration's section
//! `http` ([`HttpSettings`]); what belongs to one provider (its CA, `insecure`) is the plugin's to
//! set from the provider's definition.

use std::time::Duration;

use imagefactory_plugin_sdk::author::{Host, Result};
use serde::Deserialize;

use crate::retry::RetryPolicy;

/// The section `http` of the configuration: for all plugins, or in one plugin's own settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// Address of a proxy for http; without it the daemon's `http_proxy` counts.
    pub http_proxy: Option<String>,
    /// Address of a proxy for https; without it the daemon's `https_proxy` counts.
    pub https_proxy: Option<String>,
    /// Hosts, domains and networks that are reached directly, separated by commas.
    pub no_proxy: Option<String>,
    /// Uploads of one stage together.
    pub upload_bytes_per_s: Option<u64>,
    /// Requests of one stage at once, where a plugin sends several.
    pub uploads_at_once: Option<usize>,
    /// For the connection.
    pub connect_timeout_s: Option<u64>,
    /// Without a byte in either direction.
    pub idle_timeout_s: Option<u64>,
    /// How long a request is repeated altogether.
    pub retry_for_s: Option<u64>,
}

/// Limits of time. All of them end a request with a retryable error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For the connection, TLS included.
    pub connect: Duration,
    /// Without a byte in either direction, the wait for an answer included.
    pub idle: Duration,
    /// For one attempt as a whole; `None`: an upload takes as long as it takes.
    pub whole: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            // Three lost SYNs (1 + 2 + 4 s) and an answer over a slow line.
            connect: Duration::from_secs(10),
            // Object stores let an upload wait half a minute while they move data.
            idle: Duration::from_secs(60),
            whole: None,
        }
    }
}

/// Everything about a client. Debug shows no proxy's password.
#[derive(Clone)]
pub struct HttpOptions {
    /// Limits of time.
    pub timeouts: Timeouts,
    /// What is repeated, and how long.
    pub retries: RetryPolicy,
    /// Certificates of further authorities as PEM, beside those that the system trusts.
    pub ca_pem: Option<String>,
    /// A client's certificate and key as PEM.
    pub identity_pem: Option<String>,
    /// Accepts any certificate. Only where the provider's definition asks for it.
    pub insecure: bool,
    /// All uploads of this client together.
    pub upload_bytes_per_s: Option<u64>,
    /// For [`crate::parallel`]; what the operator allows, `None` = the plugin decides.
    pub uploads_at_once: Option<usize>,
    /// Longest answer that is kept in memory.
    pub answer_bytes_max: u64,
    pub(crate) http_proxy: Option<String>,
    pub(crate) https_proxy: Option<String>,
    pub(crate) no_proxy: Option<String>,
}

impl Default for HttpOptions {
    fn default() -> HttpOptions {
        HttpOptions {
            timeouts: Timeouts::default(),
            retries: RetryPolicy::default(),
            ca_pem: None,
            identity_pem: None,
            insecure: false,
            upload_bytes_per_s: None,
            uploads_at_once: None,
            // A service catalogue or a listing of images is below 1 MiB.
            answer_bytes_max: 8 << 20,
            http_proxy: None,
            https_proxy: None,
            no_proxy: None,
        }
    }
}

impl HttpOptions {
    /// The defaults with what the operator has configured.
    pub fn from_host(host: &Host) -> Result<HttpOptions> {
        let settings: HttpSettings = host.config("http")?.unwrap_or_default();
        Ok(HttpOptions::from_settings(settings))
    }

    /// The defaults with these settings.
    pub fn from_settings(settings: HttpSettings) -> HttpOptions {
        let mut options = HttpOptions {
            upload_bytes_per_s: settings.upload_bytes_per_s.filter(|limit| *limit > 0),
            uploads_at_once: settings.uploads_at_once.filter(|limit| *limit > 0),
            http_proxy: settings.http_proxy,
            https_proxy: settings.https_proxy,
            no_proxy: settings.no_proxy,
            ..HttpOptions::default()
        };
        let seconds = |value: Option<u64>, or: Duration| value.map_or(or, Duration::from_secs);
        let timeouts = &mut options.timeouts;
        timeouts.connect = seconds(settings.connect_timeout_s, timeouts.connect);
        timeouts.idle = seconds(settings.idle_timeout_s, timeouts.idle);
        options.retries.whole = seconds(settings.retry_for_s, options.retries.whole);
        options
    }
}

impl std::fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpOptions")
            .field("timeouts", &self.timeouts)
            .field("retries", &self.retries)
            .field("ca_pem", &self.ca_pem.is_some())
            .field("identity_pem", &self.identity_pem.is_some())
            .field("insecure", &self.insecure)
            .field("upload_bytes_per_s", &self.upload_bytes_per_s)
            .field("uploads_at_once", &self.uploads_at_once)
            .finish_non_exhaustive()
    }
}
