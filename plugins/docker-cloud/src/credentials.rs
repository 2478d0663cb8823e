//! Who we are to a registry: user and password, a token, or nobody.
//!
//! Read from JSON (`{}` and the text `none` are nobody), from docker's own `config.json`, and from
//! XML like the other clouds'. Nothing of the text is ever part of an error.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result, Stage};
use roxmltree::{Document, Node};
use serde::Deserialize;

/// What is written where nothing secret may be.
const FORM: &str = "send {\"username\": …, \"password\": …}, a docker config.json, \
    <docker_credentials> with username and password, or the @name of configured credentials";

/// A login. Has no Debug on purpose.
#[derive(Clone)]
pub(crate) enum Login {
    /// None was given.
    Anonymous,
    /// For Basic, and for the token service.
    Password {
        /// Its name.
        user: String,
        /// Its password.
        password: String,
    },
    /// A refresh token of an OAuth 2 token service.
    Identity(String),
    /// A bearer token that the registry takes as it is.
    Bearer(String),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    username: Option<String>,
    password: Option<String>,
    auth: Option<String>,
    #[serde(alias = "identity_token", alias = "refresh_token")]
    identitytoken: Option<String>,
    #[serde(alias = "registry_token", alias = "token")]
    registrytoken: Option<String>,
    auths: Option<std::collections::BTreeMap<String, Fields>>,
    #[serde(alias = "provider_credentials")]
    docker_credentials: Option<Box<Fields>>,
}

impl Login {
    /// The login of this stage for that registry.
    pub(crate) fn of(host: &Host, stage: &Stage<'_>, registry: &str) -> Result<Login> {
        if stage.credential_name().is_none() {
            return Ok(Login::Anonymous);
        }
        Login::read(host.credentials(stage)?.expose(), registry)
    }

    fn read(text: &str, registry: &str) -> Result<Login> {
        let text = text.trim();
        // Where a client must send something.
        if matches!(text, "none" | "{}") {
            return Ok(Login::Anonymous);
        }
        let fields = match text.starts_with('{') {
            // The parser's own words could quote a piece of the secret.
            true => serde_json::from_str(text)
                .map_err(|_| refused("the credentials begin like JSON and are none"))?,
            false => from_xml(text)?,
        };
        from_fields(fields, registry)
    }

    /// The user, where there is one by name.
    pub(crate) fn user(&self) -> Option<&str> {
        match self {
            Login::Password { user, .. } => Some(user),
            _ => None,
        }
    }
}

fn from_fields(mut fields: Fields, registry: &str) -> Result<Login> {
    while let Some(inner) = fields.docker_credentials.take() {
        fields = *inner;
    }
    if let Some(mut auths) = fields.auths.take() {
        let known = auths.keys().find(|name| host_of(name) == registry).cloned();
        let of_registry = known.and_then(|name| auths.remove(&name)).ok_or_else(|| {
            refused(&format!("the config.json has no login for {registry}"))
                .hint(format!("log in there first, or add an entry under auths for {registry}"))
        })?;
        return from_fields(of_registry, registry);
    }
    let filled = |value: Option<String>| value.filter(|value| !value.is_empty());
    if let Some(token) = filled(fields.identitytoken) {
        return Ok(Login::Identity(token));
    }
    if let Some(token) = filled(fields.registrytoken) {
        return Ok(Login::Bearer(token));
    }
    if let Some(auth) = filled(fields.auth) {
        let decoded = STANDARD.decode(auth.trim()).ok().and_then(|it| String::from_utf8(it).ok());
        let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
        let (user, password) =
            pair.ok_or_else(|| refused("the login's \"auth\" is no user:password in Base64"))?;
        return Ok(Login::Password { user: user.to_owned(), password: password.to_owned() });
    }
    match (filled(fields.username), fields.password) {
        (Some(user), Some(password)) => Ok(Login::Password { user, password }),
        _ => Err(refused("the credentials hold no username and password")),
    }
}

/// docker writes hosts, and for older registries whole addresses.
fn host_of(name: &str) -> &str {
    let name = name.split_once("://").map_or(name, |(_, rest)| rest);
    name.split('/').next().unwrap_or(name)
}

fn from_xml(text: &str) -> Result<Fields> {
    let document =
        Document::parse(text).map_err(|_| refused("the credentials are neither XML nor JSON"))?;
    // <provider_credentials><docker_credentials>, as other clouds have it, or the inner one alone.
    let element = document
        .root_element()
        .descendants()
        .find(|node| node.has_tag_name("docker_credentials"))
        .ok_or_else(|| refused("the credentials hold no <docker_credentials>"))?;
    let text = |name: &str| {
        let child = element.children().find(|node: &Node<'_, '_>| node.has_tag_name(name))?;
        Some(child.text().unwrap_or_default().trim().to_owned())
    };
    Ok(Fields {
        username: text("username"),
        password: text("password"),
        identitytoken: text("identity_token"),
        registrytoken: text("token"),
        ..Fields::default()
    })
}

fn refused(message: &str) -> PluginError {
    PluginError::new(ErrorCode::Auth, message).by_user().hint(FORM)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&str, &str)>) {
        match (Login::read(text, "r.example:5000"), expected) {
            (Ok(Login::Password { user, password }), Some(pair)) => {
                assert_eq!((user.as_str(), password.as_str()), pair, "{text}");
            }
            (Err(error), None) => {
                assert_eq!(error.code(), ErrorCode::Auth);
                assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
            }
            (read, _) => panic!("{text}: {:?}", read.map(|_| "read").map_err(|e| e.to_string())),
        }
    }

    #[test]
    fn every_form_of_user_and_password_is_read() {
        let both = Some(("me", "hunter2"));
        check(r#"{"username":"me","password":"hunter2"}"#, both);
        check(r#"{"docker_credentials":{"username":"me","password":"hunter2"}}"#, both);
        let xml = "<docker_credentials><username>me</username><password>hunter2</password>\
            </docker_credentials>";
        check(xml, both);
        check(&format!("<provider_credentials>{xml}</provider_credentials>"), both);
        let auth = STANDARD.encode("me:hunter2");
        check(&format!(r#"{{"auths":{{"r.example:5000":{{"auth":"{auth}"}}}}}}"#), both);
        check(
            &format!(r#"{{"auths":{{"https://r.example:5000/v1/":{{"auth":"{auth}"}}}}}}"#),
            both,
        );
    }

    #[test]
    fn what_is_no_login_is_refused_without_being_quoted() {
        for text in [
            "hunter2",
            "{hunter2",
            "<a>hunter2</a>",
            r#"{"password":"hunter2"}"#,
            r#"{"auths":{"other.example":{"auth":"aHVudGVyMg=="}}}"#,
            r#"{"auth":"hunter2"}"#,
        ] {
            check(text, None);
        }
    }

    #[test]
    fn tokens_are_told_apart_and_nothing_is_nobody() {
        for nothing in ["none", " {} "] {
            assert!(matches!(Login::read(nothing, "r"), Ok(Login::Anonymous)));
        }
        let identity = Login::read(r#"{"auths":{"r":{"identitytoken":"t"}}}"#, "r");
        assert!(matches!(identity, Ok(Login::Identity(_))));
        assert!(matches!(Login::read(r#"{"token":"t"}"#, "r"), Ok(Login::Bearer(_))));
    }
}
