//! Where the images go: the provider's definition, with what stands beside the login.
//!
//! `{"auth_url": "https://cloud.example:5000/v3", "region": "one", …}`, the original's
//! `{"glance-host": …, "glance-port": …}`, or the address of Keystone alone. The definition comes
//! before what a `clouds.yaml` says.

use std::collections::BTreeMap;

use imagefactory_plugin_sdk::author::{PluginError, Result};
use imagefactory_plugin_sdk::payload::provider::ProviderDefinition;
use serde_json::Value;

/// One cloud, as far as it is known before Keystone is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Keystone, with `/v3` and without a slash at the end.
    pub(crate) auth_url: String,
    /// Of the services; `None` = whichever comes first.
    pub(crate) region: Option<String>,
    /// `public`, `internal` or `admin`.
    pub(crate) interface: String,
    /// Instead of the catalogue's address of Glance.
    pub(crate) image_endpoint: Option<String>,
    /// Instead of the catalogue's address of Nova.
    pub(crate) compute_endpoint: Option<String>,
    /// Further authorities.
    pub(crate) ca_pem: Option<String>,
    /// Certificates are not checked.
    pub(crate) insecure: bool,
}

/// The name of the cloud in a `clouds.yaml`, if the definition says one.
pub(crate) fn cloud_name(provider: Option<&str>) -> Option<String> {
    ProviderDefinition::from_text(provider?).text("cloud").map(str::to_owned)
}

impl Place {
    /// Reads both.
    pub(crate) fn of(provider: Option<&str>, beside: &BTreeMap<String, String>) -> Result<Place> {
        let definition = ProviderDefinition::from_text(provider.unwrap_or_default());
        let object = match &definition {
            ProviderDefinition::Object(object) => object.clone(),
            ProviderDefinition::Name(_) => serde_json::Map::new(),
        };
        let get = |names: &[&str]| {
            let value = |value: &Value| match value {
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                Value::Bool(yes) => Some(yes.to_string()),
                _ => None,
            };
            let given = names.iter().find_map(|name| object.get(*name).and_then(value));
            given.or_else(|| names.iter().find_map(|name| beside.get(*name)).cloned())
        };
        let address = match &definition {
            ProviderDefinition::Name(name) if name.starts_with("http") => Some(name.clone()),
            _ => get(&["auth_url", "auth-url"]),
        };
        let auth_url = address.ok_or_else(|| {
            PluginError::user_fault(
                "neither the provider nor the credentials say where Keystone is",
            )
            .hint(r#"write the provider as {"auth_url": "https://cloud.example:5000/v3"}"#)
        })?;
        let interface = get(&["interface", "endpoint_type"]).unwrap_or_else(|| "public".to_owned());
        let interface = interface.trim_end_matches("URL").to_owned();
        if !["public", "internal", "admin"].contains(&interface.as_str()) {
            let message = format!("the interface is {interface:?}, not public, internal or admin");
            return Err(PluginError::user_fault(message));
        }
        let ca_pem = get(&["ca_pem", "cacert"]);
        if ca_pem.as_ref().is_some_and(|pem| !pem.contains("-----BEGIN")) {
            return Err(PluginError::user_fault("cacert is no certificate in PEM").hint(
                "give the certificate's text; the factory reads no file that a client names",
            ));
        }
        let insecure = get(&["insecure"]).as_deref() == Some("true")
            || get(&["verify"]).as_deref() == Some("false");
        let glance = get(&["glance-host"]).map(|host| {
            let port = get(&["glance-port"]).unwrap_or_else(|| "9292".to_owned());
            format!("http://{host}:{port}")
        });
        Ok(Place {
            auth_url: keystone(&auth_url),
            region: get(&["region", "region_name"]),
            interface,
            image_endpoint: get(&["image_endpoint", "image_endpoint_override"]).or(glance),
            compute_endpoint: get(&["compute_endpoint", "compute_endpoint_override"]),
            ca_pem,
            insecure,
        })
    }
}

/// Old clients name `/v2.0`, others no version at all.
fn keystone(address: &str) -> String {
    let address = address.trim().trim_end_matches('/');
    let root = address.strip_suffix("/v2.0").or_else(|| address.strip_suffix("/v3"));
    format!("{}/v3", root.unwrap_or(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(provider: &str) -> Place {
        Place::of(Some(provider), &BTreeMap::new()).unwrap()
    }

    #[test]
    fn keystone_is_found_however_it_is_written() {
        for address in
            ["http://h:5000", "http://h:5000/", "http://h:5000/v2.0", "http://h:5000/v3/"]
        {
            assert_eq!(place(address).auth_url, "http://h:5000/v3");
        }
        assert_eq!(place("http://h/identity/v3").auth_url, "http://h/identity/v3");
    }

    #[test]
    fn the_definition_comes_before_what_stands_beside_the_login() {
        let beside = [("auth_url", "http://beside"), ("region_name", "two"), ("verify", "false")];
        let beside = beside.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let of = Place::of(Some(r#"{"auth_url":"http://given","interface":"internal"}"#), &beside);
        let of = of.unwrap();
        assert_eq!((of.auth_url.as_str(), of.interface.as_str()), ("http://given/v3", "internal"));
        assert_eq!((of.region.as_deref(), of.insecure), (Some("two"), true));
        let original = r#"{"auth_url":"http://h","glance-host":"g","glance-port":"9393"}"#;
        assert_eq!(place(original).image_endpoint.as_deref(), Some("http://g:9393"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (provider, sentence) in [
            ("my-cloud", "where Keystone is"),
            (r#"{"auth_url":"http://h","interface":"secret"}"#, "not public, internal or admin"),
            (r#"{"auth_url":"http://h","cacert":"/etc/passwd"}"#, "no certificate in PEM"),
        ] {
            let error = Place::of(Some(provider), &BTreeMap::new()).unwrap_err();
            assert!(error.message().contains(sentence), "{error}");
        }
    }
}
