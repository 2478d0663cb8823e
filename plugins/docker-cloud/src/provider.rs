//! The provider: which registry, and how it is spoken to.
//!
//! `registry.example:5000/team/debian` is enough; an object says more. Plain HTTP is spoken only
//! where the definition says so, by `http://` or `plain_http`.

use imagefactory_plugin_sdk::author::{Host, PluginError, Result, Stage};
use imagefactory_toolkit_http::{HttpOptions, Url};
use serde::Deserialize;

use crate::reference::{check_repository, check_tag};

/// Below it, an upload is mostly waiting.
const CHUNK_BYTES_MIN: u64 = 64 << 10;

/// A registry, as the provider's definition has it.
#[derive(Debug, Clone)]
pub(crate) struct Provider {
    /// Scheme, host and port.
    pub(crate) base: Url,
    /// Host and port, as in an image's name.
    pub(crate) registry: String,
    /// Where images go that do not say it themselves.
    pub(crate) repository: Option<String>,
    /// The tag of images that do not say it themselves.
    pub(crate) tag: Option<String>,
    /// Repositories of the same registry where blobs may be already.
    pub(crate) mount_from: Vec<String>,
    /// Blobs go in pieces of this size; `None`: each in one piece.
    pub(crate) chunk_bytes: Option<u64>,
    /// Without PATCH, for registries that have none.
    pub(crate) monolithic: bool,
    ca: Option<String>,
    insecure: bool,
}

/// The object form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Definition {
    registry: Option<String>,
    repository: Option<String>,
    tag: Option<String>,
    plain_http: bool,
    insecure: bool,
    ca: Option<String>,
    mount_from: Vec<String>,
    chunk_bytes: Option<u64>,
    monolithic: bool,
}

impl Provider {
    /// Reads the stage's provider.
    pub(crate) fn of(stage: &Stage<'_>) -> Result<Provider> {
        let text = stage.provider().unwrap_or_default().trim();
        let definition = match text.starts_with('{') {
            true => serde_json::from_str(text).map_err(|error| {
                PluginError::user_fault(format!("the provider's definition: {error}"))
            })?,
            false => Definition { registry: Some(text.to_owned()), ..Definition::default() },
        };
        Provider::from_definition(definition)
    }

    fn from_definition(definition: Definition) -> Result<Provider> {
        let named = definition.registry.filter(|name| !name.is_empty()).ok_or_else(|| {
            PluginError::user_fault("the provider names no registry")
                .hint("write registry.example:5000/team/debian, or {\"registry\": …}")
        })?;
        let (scheme, rest) = match named.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (scheme.to_owned(), rest),
            Some(_) => return Err(no_registry()),
            None if definition.plain_http => ("http".to_owned(), named.as_str()),
            None => ("https".to_owned(), named.as_str()),
        };
        let (registry, path) = rest.split_once('/').unwrap_or((rest, ""));
        let base = Url::parse(&format!("{scheme}://{registry}/")).map_err(|_| no_registry())?;
        if !base.username().is_empty() || base.password().is_some() || base.query().is_some() {
            return Err(no_registry());
        }
        let path = Some(path.trim_end_matches('/')).filter(|path| !path.is_empty());
        let repository = match definition.repository.as_deref().or(path) {
            Some(name) => Some(check_repository(name)?),
            None => None,
        };
        definition.tag.as_deref().map(check_tag).transpose()?;
        for name in &definition.mount_from {
            check_repository(name)?;
        }
        let chunk_bytes = definition.chunk_bytes.filter(|bytes| *bytes > 0);
        if chunk_bytes.is_some_and(|bytes| bytes < CHUNK_BYTES_MIN) {
            let message = format!("chunk_bytes is below {CHUNK_BYTES_MIN}");
            return Err(PluginError::user_fault(message));
        }
        Ok(Provider {
            base,
            registry: registry.to_owned(),
            repository,
            tag: definition.tag,
            mount_from: definition.mount_from,
            chunk_bytes,
            monolithic: definition.monolithic,
            ca: definition.ca,
            insecure: definition.insecure,
        })
    }

    /// How the registry is spoken to: the operator's settings and this definition.
    pub(crate) fn http_options(&self, host: &Host) -> Result<HttpOptions> {
        let mut options = HttpOptions::from_host(host)?;
        options.ca_pem = self.ca.clone();
        options.insecure = self.insecure;
        Ok(options)
    }
}

fn no_registry() -> PluginError {
    // Not quoted: what does not parse may have a password in it.
    PluginError::user_fault("the provider's registry is no host with an optional port")
        .hint("write registry.example:5000; users and passwords belong to the credentials")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(text: &str) -> Result<Provider> {
        let definition = match text.starts_with('{') {
            true => serde_json::from_str(text).unwrap(),
            false => Definition { registry: Some(text.to_owned()), ..Definition::default() },
        };
        Provider::from_definition(definition)
    }

    #[test]
    fn a_name_alone_is_a_provider_and_https() {
        let it = provider("registry.example:5000/team/debian").unwrap();
        assert_eq!(it.base.as_str(), "https://registry.example:5000/");
        assert_eq!(it.registry, "registry.example:5000");
        assert_eq!(it.repository.as_deref(), Some("team/debian"));
        assert_eq!(provider("registry.example").unwrap().repository, None);
    }

    #[test]
    fn plain_http_is_spoken_only_where_the_definition_says_so() {
        assert_eq!(provider("http://[::1]:5000/a").unwrap().base.scheme(), "http");
        let said = provider(r#"{"registry":"localhost:1","plain_http":true}"#).unwrap();
        assert_eq!(said.base.scheme(), "http");
        assert_eq!(provider("localhost:5000").unwrap().base.scheme(), "https");
    }

    #[test]
    fn what_is_no_registry_is_refused_without_being_quoted() {
        for text in ["", "ftp://x", "user:hunter2@registry.example/a", "a b", "registry.example/A"]
        {
            let error = provider(text).unwrap_err();
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        assert!(provider(r#"{"registry":"a","chunk_bytes":1}"#).is_err());
        assert!(provider(r#"{"registry":"a","mount_from":["../x"]}"#).is_err());
    }
}
