//! Credentials, in every form that OpenStack's users have them: the original factory's XML, JSON
//! (flat, or with an `auth` object), and the text of a `clouds.yaml`.
//!
//! All three become one flat list of names and values, read into a [`Login`]. Nothing here is ever
//! quoted in an error: only names are.

use std::collections::BTreeMap;

use imagefactory_plugin_sdk::author::{ErrorCode, PluginError, Result, Secret};
use imagefactory_plugin_sdk::payload::xml::{self, XmlLimits};
use serde_json::{Map, Value, json};

/// The domain that every Keystone has from its bootstrap.
const DEFAULT_DOMAIN: &str = "default";

/// What the credentials say, secrets included. No Debug.
pub(crate) struct Login {
    /// The body's `auth` for `POST /v3/auth/tokens`.
    auth: Value,
    /// Values that must not be shown.
    pub(crate) secrets: Vec<String>,
    /// A token cannot be had anew; everything else can.
    pub(crate) renewable: bool,
    /// What stands beside the login in a `clouds.yaml`: address, region, interface, …
    pub(crate) beside: BTreeMap<String, String>,
}

impl Login {
    /// Reads the credentials. `cloud` chooses one of several in a `clouds.yaml`.
    pub(crate) fn read(secret: &Secret, cloud: Option<&str>) -> Result<Login> {
        let text = secret.expose().trim();
        let document = if text.starts_with('<') {
            of_xml(text)?
        } else if text.starts_with('{') {
            serde_json::from_str(text).map_err(|error| {
                unreadable(&format!("JSON (line {}, column {})", error.line(), error.column()))
            })?
        } else {
            serde_saphyr::from_str(text).map_err(|_| unreadable("XML, JSON or YAML"))?
        };
        let Value::Object(document) = document else { return Err(unreadable("XML, JSON or YAML")) };
        Login::of_names(flat(document, cloud)?)
    }

    /// The body of the request for a token.
    pub(crate) fn body(&self) -> Value {
        json!({ "auth": self.auth })
    }

    fn of_names(names: BTreeMap<String, String>) -> Result<Login> {
        let get = |wanted: &[&str]| wanted.iter().find_map(|name| names.get(*name)).cloned();
        let domain = |kind: &str| {
            let (id, name) = (format!("{kind}_domain_id"), format!("{kind}_domain_name"));
            match (
                get(&[&id]).or_else(|| get(&["domain_id", "default_domain_id"])),
                get(&[&name]).or_else(|| get(&["domain_name", "default_domain"])),
            ) {
                (Some(id), _) => json!({ "id": id }),
                (None, Some(name)) => json!({ "name": name }),
                (None, None) => json!({ "id": DEFAULT_DOMAIN }),
            }
        };
        let user = match (get(&["user_id"]), get(&["username", "user_name", "user"])) {
            (Some(id), _) => Some(json!({ "id": id })),
            (None, Some(name)) => Some(json!({ "name": name, "domain": domain("user") })),
            (None, None) => None,
        };
        let project = match (
            get(&["project_id", "tenant_id"]),
            get(&["project_name", "tenant_name", "project", "tenant"]),
        ) {
            (Some(id), _) => Some(json!({ "id": id })),
            (None, Some(name)) => Some(json!({ "name": name, "domain": domain("project") })),
            (None, None) => None,
        };
        let password = get(&["password"]);
        let application_secret = get(&["application_credential_secret"]);
        let token = get(&["token", "auth_token"]);
        let secrets = [&password, &application_secret, &token];
        let secrets = secrets.into_iter().flatten().cloned().collect();
        let mut renewable = true;
        let mut auth = if let Some(secret) = application_secret {
            let mut credential = match get(&["application_credential_id"]) {
                Some(id) => json!({ "id": id }),
                None => {
                    let name = get(&["application_credential_name"])
                        .ok_or_else(|| missing("application_credential_id"))?;
                    let user =
                        user.ok_or_else(|| missing("username, beside the credential's name"))?;
                    json!({ "name": name, "user": user })
                }
            };
            credential["secret"] = json!(secret);
            json!({ "identity": {
                "methods": ["application_credential"], "application_credential": credential } })
        } else if let Some(password) = password {
            let mut user = user.ok_or_else(|| missing("username"))?;
            user["password"] = json!(password);
            json!({ "identity": { "methods": ["password"], "password": { "user": user } } })
        } else if let Some(token) = token {
            renewable = false;
            json!({ "identity": { "methods": ["token"], "token": { "id": token } } })
        } else {
            return Err(missing("password, application_credential_secret or token"));
        };
        // An application credential is of one project, and Keystone refuses to be told which.
        if auth["identity"]["methods"][0] != "application_credential" {
            let project = project.ok_or_else(|| missing("project_name or project_id"))?;
            auth["scope"] = json!({ "project": project });
        }
        Ok(Login { auth, secrets, renewable, beside: names })
    }
}

/// One flat list of names: of the cloud that is meant, with its `auth` beside the rest.
fn flat(document: Map<String, Value>, cloud: Option<&str>) -> Result<BTreeMap<String, String>> {
    let mut document = document;
    if let Some(Value::Object(clouds)) = document.get("clouds") {
        let names = || clouds.keys().cloned().collect::<Vec<_>>().join(", ");
        let chosen = match cloud {
            Some(name) => clouds.get(name).ok_or_else(|| {
                PluginError::user_fault(format!("the credentials have no cloud {name:?}"))
                    .hint(format!("they have {}", names()))
            })?,
            None if clouds.len() == 1 => clouds.values().next().unwrap_or(&Value::Null),
            None => {
                let message = format!("the credentials have several clouds: {}", names());
                return Err(PluginError::user_fault(message)
                    .hint(r#"say which in the provider's definition: {"cloud": "…"}"#));
            }
        };
        document = chosen.as_object().cloned().unwrap_or_default();
    }
    for inner in ["openstack_credentials", "auth"] {
        if let Some(Value::Object(inner)) = document.remove(inner) {
            document.extend(inner);
        }
    }
    let mut names = BTreeMap::new();
    for (name, value) in document {
        let value = match value {
            Value::String(text) => text,
            Value::Bool(yes) => yes.to_string(),
            Value::Number(number) => number.to_string(),
            // Lists and objects beside a login (networks, regions) are not ours to read.
            _ => continue,
        };
        names.insert(name.replace('-', "_"), value);
    }
    names.retain(|_, value| !value.is_empty());
    Ok(names)
}

/// `<provider_credentials><openstack_credentials><username>…`, as the original factory had them.
fn of_xml(text: &str) -> Result<Value> {
    let document = xml::parse(text, &XmlLimits::default()).map_err(|finding| {
        unreadable(&format!("XML (line {}, column {})", finding.line, finding.column))
    })?;
    let root = document.root_element();
    let found = root.descendants().find(|node| node.has_tag_name("openstack_credentials"));
    let credentials = found.ok_or_else(|| missing("openstack_credentials"))?;
    let elements = credentials.children().filter(|node| node.is_element());
    let members = elements.map(|node| {
        let value = node.text().unwrap_or_default().trim();
        (node.tag_name().name().to_owned(), Value::String(value.to_owned()))
    });
    Ok(Value::Object(members.collect()))
}

fn unreadable(what: &str) -> PluginError {
    PluginError::new(ErrorCode::Auth, format!("the credentials cannot be read as {what}"))
        .by_user()
        .hint(
            "give JSON with username, password and project_name, or application_credential_id and \
             _secret, the text of a clouds.yaml, or <openstack_credentials>",
        )
}

fn missing(what: &str) -> PluginError {
    PluginError::new(ErrorCode::Auth, format!("the credentials lack {what}")).by_user()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, cloud: Option<&str>) -> Result<Login> {
        let document = match text.as_bytes().first() {
            Some(b'<') => of_xml(text)?,
            _ => serde_saphyr::from_str(text).map_err(|_| unreadable("YAML"))?,
        };
        Login::of_names(flat(document.as_object().unwrap().clone(), cloud)?)
    }

    fn check(text: &str, auth: Value) {
        assert_eq!(read(text, None).unwrap().auth, auth, "{text}");
    }

    #[test]
    fn every_form_of_a_password_is_the_same_login() {
        let auth = json!({
            "identity": { "methods": ["password"], "password": { "user": {
                "name": "ann", "domain": { "id": "default" }, "password": "pw" } } },
            "scope": { "project": { "name": "lab", "domain": { "id": "default" } } },
        });
        check(r#"{"username":"ann","password":"pw","project_name":"lab"}"#, auth.clone());
        check(r#"{"auth":{"username":"ann","password":"pw","project_name":"lab"}}"#, auth.clone());
        check(
            "<provider_credentials><openstack_credentials><username>ann</username>\
             <tenant>lab</tenant><password>pw</password><strategy>keystone</strategy>\
             <auth_url>http://h:5000/v2.0</auth_url></openstack_credentials>\
             </provider_credentials>",
            auth.clone(),
        );
        check(
            "clouds:\n  lab:\n    auth:\n      username: ann\n      password: pw\n      \
             project_name: lab\n    region_name: one\n",
            auth,
        );
    }

    #[test]
    fn domains_ids_tokens_and_application_credentials_are_read() {
        check(
            r#"{"user_id":"u","password":"pw","project_id":"p"}"#,
            json!({ "identity": { "methods": ["password"],
                      "password": { "user": { "id": "u", "password": "pw" } } },
                    "scope": { "project": { "id": "p" } } }),
        );
        check(
            r#"{"username":"a","user_domain_name":"D","password":"pw","project_name":"p",
                "project_domain_id":"d"}"#,
            json!({ "identity": { "methods": ["password"], "password": { "user": {
                      "name": "a", "domain": { "name": "D" }, "password": "pw" } } },
                    "scope": { "project": { "name": "p", "domain": { "id": "d" } } } }),
        );
        check(
            r#"{"application_credential_id":"i","application_credential_secret":"s"}"#,
            json!({ "identity": { "methods": ["application_credential"],
                      "application_credential": { "id": "i", "secret": "s" } } }),
        );
        let token = read(r#"{"token":"t","project_id":"p"}"#, None).unwrap();
        assert_eq!(token.auth["identity"]["token"]["id"], "t");
        assert!(!token.renewable);
    }

    fn check_refused(text: &str, cloud: Option<&str>, sentence: &str) {
        let error = read(text, cloud).err().unwrap();
        let said = format!("{error:?}");
        assert!(said.contains(sentence) && !said.contains("hunter2"), "{said}");
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_is_quoted() {
        check_refused(r#"{"password":"hunter2","project_id":"p"}"#, None, "lack username");
        check_refused(r#"{"username":"hunter2"}"#, None, "lack password");
        check_refused(r#"{"username":"u","password":"hunter2"}"#, None, "lack project_name");
        check_refused("<a><b>hunter2</b></a>", None, "lack openstack_credentials");
        check_refused("<a>hunter2", None, "read as XML");
        let two = "clouds: {one: {password: hunter2}, two: {}}";
        check_refused(two, None, "several clouds: one, two");
        check_refused(two, Some("three"), "they have one, two");
    }
}
