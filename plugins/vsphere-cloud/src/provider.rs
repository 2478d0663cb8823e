//! The provider's definition: which vCenter or ESXi host, and where in it.
//!
//! As the original took it: a JSON object, also within one member that only names it, or an XML
//! element whose attributes have the same names. The original's keys are `api-url`, `username`,
//! `password`, `datastore`, `compute_resource` and `network_name`; the others are new.

use imagefactory_plugin_sdk::author::{PluginError, Result, Stage};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Where images go. Debug shows no password.
#[derive(Clone, Deserialize)]
pub(crate) struct Provider {
    /// `https://vcenter.example/sdk`.
    #[serde(rename = "api-url")]
    pub(crate) api_url: String,
    /// Without credentials in the order.
    pub(crate) username: Option<String>,
    /// The same.
    pub(crate) password: Option<String>,
    /// Needed where there are several.
    pub(crate) datacenter: Option<String>,
    /// Where the disk lies.
    pub(crate) datastore: String,
    /// Host or cluster that runs it; its root resource pool is taken.
    pub(crate) compute_resource: Option<String>,
    /// Instead of that root.
    pub(crate) resource_pool: Option<String>,
    /// Of the cluster; needed where it does not place by itself.
    pub(crate) host: Option<String>,
    /// Of virtual machines; the datacenter's root without it.
    pub(crate) folder: Option<String>,
    /// What the network card is connected to.
    pub(crate) network_name: Option<String>,
    /// A further authority, as PEM.
    pub(crate) ca_certificate: Option<String>,
    /// Accepts any certificate.
    #[serde(default, deserialize_with = "truth")]
    pub(crate) insecure: bool,
}

impl Provider {
    /// Of this stage.
    pub(crate) fn of(stage: &Stage<'_>) -> Result<Provider> {
        let text = stage.provider().unwrap_or_default().trim();
        let members = match text.starts_with('<') {
            true => attributes(text)?,
            false => object(text)?,
        };
        let provider: Provider =
            serde_json::from_value(Value::Object(members)).map_err(|error| {
                // serde names the key and the kind, and could quote a value: only what it expected.
                let message = format!("the provider's definition is not whole: {error}");
                PluginError::user_fault(message)
                    .hint("give api-url, datastore, and compute_resource or resource_pool")
            })?;
        if provider.compute_resource.is_none() && provider.resource_pool.is_none() {
            let message =
                "the provider's definition names neither compute_resource nor resource_pool";
            return Err(PluginError::user_fault(message)
                .hint("name the cluster or the host that is to run the image"));
        }
        Ok(provider)
    }
}

/// XML attributes are texts.
fn truth<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<bool, D::Error> {
    match Value::deserialize(from)? {
        Value::Bool(is) => Ok(is),
        Value::String(text) if text == "true" => Ok(true),
        Value::String(text) if text == "false" => Ok(false),
        _ => Err(serde::de::Error::custom("insecure is neither true nor false")),
    }
}

fn attributes(text: &str) -> Result<Map<String, Value>> {
    let document = roxmltree::Document::parse(text)
        .map_err(|error| unreadable(&format!("no XML: {error}")))?;
    let attributes = document.root_element().attributes();
    Ok(attributes.map(|at| (at.name().to_owned(), Value::from(at.value()))).collect())
}

fn object(text: &str) -> Result<Map<String, Value>> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| unreadable(&format!("no JSON: {error}")))?;
    let Value::Object(mut members) = value else { return Err(unreadable("no JSON object")) };
    // {"vcenter-1": {"api-url": …}}: the name is for people.
    if !members.contains_key("api-url")
        && members.len() == 1
        && let Some(Value::Object(inner)) = members.values_mut().next()
    {
        return Ok(std::mem::take(inner));
    }
    Ok(members)
}

fn unreadable(why: &str) -> PluginError {
    PluginError::user_fault(format!("the provider's definition is {why}"))
        .hint(r#"write {"api-url": "https://vcenter.example/sdk", "datastore": "…", "compute_resource": "…"}"#)
}

/// Of the account, for the session. Debug shows nothing.
pub(crate) struct Account {
    /// Shown as the provider image's account.
    pub(crate) username: String,
    /// For nobody.
    pub(crate) password: String,
}

impl Account {
    /// From the order's credentials, else from the provider's definition.
    pub(crate) fn of(provider: &Provider, credentials: Option<&str>) -> Result<Account> {
        let (mut username, mut password) = (None, None);
        if let Some(text) = credentials.map(str::trim).filter(|text| !text.is_empty()) {
            (username, password) = match text.starts_with('<') {
                true => from_xml(text)?,
                false => from_json(text)?,
            };
        }
        let username = username.or_else(|| provider.username.clone());
        let password = password.or_else(|| provider.password.clone());
        match (username, password) {
            (Some(username), Some(password)) => Ok(Account { username, password }),
            (username, _) => {
                let missing = if username.is_none() { "username" } else { "password" };
                let message = format!("neither credentials nor provider have a {missing}");
                Err(PluginError::user_fault(message).hint(
                    "give <provider_credentials><vsphere_credentials><username>…</username>\
                     <password>…</password></vsphere_credentials></provider_credentials>, \
                     or JSON with username and password",
                ))
            }
        }
    }
}

type Pair = (Option<String>, Option<String>);

fn from_xml(text: &str) -> Result<Pair> {
    // The parser's message could quote the password: only the place is told.
    let document = roxmltree::Document::parse(text).map_err(|error| {
        let at = error.pos();
        PluginError::user_fault(format!("the credentials are no XML (line {})", at.row))
    })?;
    let credentials = document.descendants().find(|node| node.has_tag_name("vsphere_credentials"));
    let member = |name: &str| {
        let node = credentials?.children().find(|node| node.has_tag_name(name))?;
        node.text().map(|text| text.trim().to_owned())
    };
    Ok((member("username"), member("password")))
}

fn from_json(text: &str) -> Result<Pair> {
    let value: Value = serde_json::from_str(text).map_err(|error| {
        PluginError::user_fault(format!(
            "the credentials are neither XML nor JSON (line {}, column {})",
            error.line(),
            error.column()
        ))
    })?;
    let value = value.get("vsphere_credentials").unwrap_or(&value);
    let member = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    Ok((member("username"), member("password")))
}
