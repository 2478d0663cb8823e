//! What a push leaves in a registry, as the journal keeps it: upload sessions and manifests.
//!
//! Both are part of the product: the next attempt goes on with a session where it stopped, so
//! cleanup may not have it before. Blobs need no account: without a manifest the registry's own
//! garbage collection takes them.

use std::collections::BTreeMap;
use std::sync::Mutex;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Resource, Result, Stage};
use imagefactory_toolkit_http::Url;
use serde::{Deserialize, Serialize};

use crate::credentials::Login;
use crate::provider::Provider;
use crate::reference::{check_repository, is_digest};
use crate::registry::{Registry, Sessions};

/// Under it a stage keeps the addresses of its uploads.
const CHECKPOINT: &str = "uploads";

const UPLOAD: &str = "registry-upload";
const MANIFEST: &str = "registry-manifest";

/// What cleanup needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Details {
    repository: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
}

/// The account of one stage.
pub(crate) struct Account<'a> {
    host: &'a Host,
    stage_id: &'a str,
    repository: &'a str,
    addresses: Mutex<BTreeMap<String, String>>,
}

impl<'a> Account<'a> {
    /// Reads what an earlier attempt has left.
    pub(crate) fn open(
        host: &'a Host,
        stage: &Stage<'a>,
        repository: &'a str,
    ) -> Result<Account<'a>> {
        let addresses = host.checkpoint(CHECKPOINT)?.unwrap_or_default();
        let addresses = Mutex::new(addresses);
        Ok(Account { host, stage_id: stage.stage_id(), repository, addresses })
    }

    /// A manifest is about to be put.
    pub(crate) fn will_put(&self, digest: &str, name: &str) -> Result<()> {
        self.host.will_create(&self.manifest(digest, name)?)
    }

    /// It is there.
    pub(crate) fn has_put(&self, digest: &str, name: &str) -> Result<()> {
        self.host.created(&self.manifest(digest, name)?)
    }

    fn manifest(&self, digest: &str, name: &str) -> Result<Resource> {
        let details = Details {
            repository: self.repository.to_owned(),
            digest: Some(digest.to_owned()),
            address: None,
        };
        let resource = Resource::product(self.token("manifest", digest), MANIFEST);
        Ok(resource.with_id(format!("{name}@{digest}")).with_details_json(written(&details)?))
    }

    fn session(&self, digest: &str, address: Option<&Url>) -> Result<Resource> {
        let details = Details {
            repository: self.repository.to_owned(),
            digest: None,
            address: address.map(Url::to_string),
        };
        let resource = Resource::product(self.token("upload", digest), UPLOAD);
        Ok(resource.with_details_json(written(&details)?))
    }

    fn token(&self, what: &str, digest: &str) -> String {
        let digits: String = digest.trim_start_matches("sha256:").chars().take(16).collect();
        format!("{}-{what}-{digits}", self.stage_id)
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, String>)) -> Result<()> {
        let mut addresses = self.addresses.lock().unwrap_or_else(|poison| poison.into_inner());
        change(&mut addresses);
        self.host.put_checkpoint(CHECKPOINT, &*addresses)
    }
}

impl Sessions for Account<'_> {
    fn earlier(&self, digest: &str) -> Result<Option<Url>> {
        let addresses = self.addresses.lock().unwrap_or_else(|poison| poison.into_inner());
        Ok(addresses.get(digest).and_then(|address| Url::parse(address).ok()))
    }

    fn opening(&self, digest: &str) -> Result<()> {
        self.host.will_create(&self.session(digest, None)?)?;
        // Without an address yet: nothing to go on with, but something to close.
        let mut addresses = self.addresses.lock().unwrap_or_else(|poison| poison.into_inner());
        addresses.insert(digest.to_owned(), String::new());
        Ok(())
    }

    fn at(&self, digest: &str, address: &Url) -> Result<()> {
        self.host.created(&self.session(digest, Some(address))?)?;
        self.change(|addresses| {
            addresses.insert(digest.to_owned(), address.to_string());
        })
    }

    fn closed(&self, digest: &str) -> Result<()> {
        {
            let addresses = self.addresses.lock().unwrap_or_else(|poison| poison.into_inner());
            if !addresses.contains_key(digest) {
                return Ok(());
            }
        }
        self.host.removed(&self.session(digest, None)?)?;
        self.change(|addresses| {
            addresses.remove(digest);
        })
    }
}

/// Removes what an order that failed for good has left.
pub(crate) fn clean_up(host: &Host, stage: &Stage<'_>, left: &[Resource]) -> Result<()> {
    let mut first_error = Ok(());
    // What came last goes first: referrers before what they refer to.
    for resource in left.iter().rev() {
        let removed = remove(host, stage, resource).and_then(|()| host.removed(resource));
        first_error = first_error.and(removed);
    }
    first_error
}

fn remove(host: &Host, stage: &Stage<'_>, resource: &Resource) -> Result<()> {
    let wrong = |why: &str| {
        let message = format!("the journal's entry {}: {why}", resource.token);
        PluginError::new(ErrorCode::InvalidArgument, message)
    };
    let details = resource.details_json.as_deref().unwrap_or("{}");
    let details: Details =
        serde_json::from_str(details).map_err(|error| wrong(&error.to_string()))?;
    check_repository(&details.repository)?;
    let registry = open(host, stage, &details.repository)?;
    match (resource.kind.as_str(), details.digest, details.address) {
        (MANIFEST, Some(digest), _) if is_digest(&digest) => {
            registry.remove_image(&digest).map(|_| ())
        }
        (UPLOAD, _, Some(address)) => {
            let address = Url::parse(&address).map_err(|error| wrong(&error.to_string()))?;
            registry.cancel_session(address)
        }
        // Announced, and nothing known of it: no address, nothing to cancel.
        (UPLOAD, _, None) => Ok(()),
        _ => Err(wrong("it is of no kind that we make")),
    }
}

/// The registry of a stage, for removing. It must be one: a server that answers 404 to everything
/// has not lost our image.
pub(crate) fn open(host: &Host, stage: &Stage<'_>, repository: &str) -> Result<Registry> {
    let provider = Provider::of(stage)?;
    let login = Login::of(host, stage, &provider.registry)?;
    let registry = Registry::new(host, &provider, repository, login)?.for_deletion();
    registry.check()?;
    Ok(registry)
}

fn written(details: &Details) -> Result<String> {
    serde_json::to_string(details).map_err(|error| {
        PluginError::new(ErrorCode::Internal, format!("the journal's details: {error}"))
    })
}
