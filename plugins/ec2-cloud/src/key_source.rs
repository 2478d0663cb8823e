//! The keys to sign with: those that were given, or the instance role's, renewed before they end.
//!
//! The role's keys come from the instance's metadata service, version 2 only (with a session
//! token): version 1 answers to whoever can make this machine send a GET.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};
use imagefactory_toolkit_http::{HttpClient, Method, Request, Response};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::credentials::{Ec2Credentials, keys};

/// The same on every instance.
const METADATA: &str = "http://169.254.169.254";

/// The key of the plugin's settings with another address of the metadata service.
const METADATA_SETTING: &str = "instance_metadata_endpoint";

/// Keys are renewed when they have less time left; AWS has new ones from 5 minutes on.
const RENEW_BEFORE: Duration = Duration::from_secs(240);

/// Far longer than the three requests take.
const SESSION_S: &str = "300";

/// Where keys come from.
pub(crate) enum KeySource {
    /// They stay the same.
    Given(Box<Credentials>),
    /// They are asked for.
    InstanceRole(Mutex<Option<Credentials>>),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoleKeys {
    access_key_id: String,
    secret_access_key: String,
    token: String,
    expiration: String,
}

impl KeySource {
    /// Of a stage's credentials.
    pub(crate) fn of(credentials: Ec2Credentials) -> KeySource {
        match credentials {
            Ec2Credentials::Keys(keys) => KeySource::Given(Box::new(keys)),
            Ec2Credentials::InstanceRole => KeySource::InstanceRole(Mutex::default()),
        }
    }

    /// Id of the access key, where it is the account's own.
    pub(crate) fn lasting_access_key(&self) -> Option<&str> {
        match self {
            KeySource::Given(keys) => Some(keys.access_key_id()),
            KeySource::InstanceRole(_) => None,
        }
    }

    /// Keys that are valid now.
    pub(crate) fn current(&self, host: &Host, http: &HttpClient) -> Result<Credentials> {
        let held = match self {
            KeySource::Given(keys) => return Ok(Credentials::clone(keys)),
            KeySource::InstanceRole(held) => held,
        };
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |keys: &Credentials| {
            keys.expiry().is_some_and(|end| end > SystemTime::now() + RENEW_BEFORE)
        };
        if let Some(keys) = held.as_ref().filter(|keys| fresh(keys)) {
            return Ok(keys.clone());
        }
        let keys = role_keys(host, http)?;
        *held = Some(keys.clone());
        Ok(keys)
    }
}

fn role_keys(host: &Host, http: &HttpClient) -> Result<Credentials> {
    let endpoint = host.config::<String>(METADATA_SETTING)?;
    let endpoint = endpoint.as_deref().unwrap_or(METADATA).trim_end_matches('/');
    let ask = |request: Request| -> Result<Response> {
        let what = "the instance's metadata service gives no keys";
        http.send(&request)?.expect_success(what).map_err(|error| {
            error.hint("does the machine of the factory have an instance profile with a role?")
        })
    };
    let request = Request::new(Method::PUT, &format!("{endpoint}/latest/api/token"))?
        .header("x-aws-ec2-metadata-token-ttl-seconds", SESSION_S);
    let session = ask(request)?.text();
    let roles = format!("{endpoint}/latest/meta-data/iam/security-credentials/");
    let get = |url: &str| -> Result<Response> {
        let request = Request::new(Method::GET, url)?;
        ask(request.secret_header("x-aws-ec2-metadata-token", session.trim()))
    };
    let role = get(&roles)?.text();
    let role = role.lines().next().unwrap_or_default().trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c);
    if role.is_empty() || !role.chars().all(plain) {
        let message = "the instance's metadata service names no role";
        return Err(PluginError::new(ErrorCode::Auth, message)
            .hint("attach an instance profile with a role to the factory's machine"));
    }
    // Its own error would quote the keys.
    let unread = |_| PluginError::new(ErrorCode::Auth, "the instance role's keys cannot be read");
    let read: RoleKeys =
        serde_json::from_slice(get(&format!("{roles}{role}"))?.body()).map_err(unread)?;
    let expiry = OffsetDateTime::parse(&read.expiration, &Rfc3339).ok().map(SystemTime::from);
    Ok(keys(read.access_key_id, read.secret_access_key, Some(read.token), expiry))
}
