//! What opens the account: the original's XML, JSON, or a source that the operator allows.
//!
//! Certificate and private key of the original's credentials were for bundles in S3; they are read
//! over. A source other than keys is this machine's own role, so it counts only where the
//! configuration lists it: otherwise every client of the factory would act as the factory.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result, Stage};
use serde::Deserialize;

use crate::xml::{child, text_of};

/// What is written where the keys are not to be told.
const FORM: &str = "send <ec2_credentials> with access_key and secret_access_key, the same as \
    JSON, or the @name of credentials in the factory's configuration";

/// The key of the plugin's settings that lists what else may be used.
const ALLOWED: &str = "credential_sources";

/// Credentials of one stage.
pub(crate) enum Ec2Credentials {
    /// Keys that the client or the configuration gave.
    Keys(Credentials),
    /// The role of the machine that the factory runs on.
    InstanceRole,
}

/// The JSON form, with the original's names, AWS's own, and those of its instance metadata.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    #[serde(alias = "aws_access_key_id", alias = "access_key_id", alias = "AccessKeyId")]
    access_key: Option<String>,
    #[serde(alias = "aws_secret_access_key", alias = "SecretAccessKey")]
    secret_access_key: Option<String>,
    #[serde(alias = "aws_session_token", alias = "SessionToken", alias = "Token")]
    session_token: Option<String>,
    source: Option<String>,
    #[serde(alias = "provider_credentials")]
    ec2_credentials: Option<Box<Document>>,
}

impl Ec2Credentials {
    /// Reads the stage's credentials. Nothing of them is in an error.
    pub(crate) fn of(host: &Host, stage: &Stage<'_>) -> Result<Ec2Credentials> {
        let secret = host.credentials(stage)?;
        let document = read(secret.expose())?;
        match document.source.as_deref() {
            None => document.into_keys(),
            Some("instance-role") => {
                let allowed: Vec<String> = host.config(ALLOWED)?.unwrap_or_default();
                if allowed.iter().any(|source| source == "instance-role") {
                    return Ok(Ec2Credentials::InstanceRole);
                }
                let message = "the credentials ask for the factory's own instance role, which \
                    this factory does not lend";
                let hint = format!(
                    "let the operator put \"instance-role\" into {ALLOWED} of \
                    plugin_settings.EC2Cloud, or send keys"
                );
                Err(PluginError::new(ErrorCode::Permission, message).by_user().hint(hint))
            }
            Some(_) => {
                let message = "the credentials' source is not known";
                Err(refused(message).hint("leave it out and send keys, or write instance-role"))
            }
        }
    }
}

impl Document {
    /// Without the wrappers that clients put around it.
    fn innermost(mut self) -> Document {
        while let Some(inner) = self.ec2_credentials.take() {
            self = *inner;
        }
        self
    }

    fn into_keys(self) -> Result<Ec2Credentials> {
        let filled = |value: Option<String>| value.filter(|value| !value.is_empty());
        let (access, secret) = (filled(self.access_key), filled(self.secret_access_key));
        let (Some(access), Some(secret)) = (access, secret) else {
            return Err(refused("the credentials hold no access_key and secret_access_key"));
        };
        let token = filled(self.session_token);
        Ok(Ec2Credentials::Keys(keys(access, secret, token, None)))
    }
}

/// Keys for the signer.
pub(crate) fn keys(
    access: String,
    secret: String,
    token: Option<String>,
    expiry: Option<SystemTime>,
) -> Credentials {
    Credentials::new(access, secret, token, expiry, "EC2Cloud")
}

fn read(text: &str) -> Result<Document> {
    let text = text.trim();
    if text.starts_with('{') {
        // The parser's own words could quote a piece of the secret.
        let document: Document = serde_json::from_str(text)
            .map_err(|_| refused("the credentials begin like JSON and are none"))?;
        return Ok(document.innermost());
    }
    let document = roxmltree::Document::parse(text)
        .map_err(|_| refused("the credentials are neither XML nor JSON"))?;
    let root = document.root_element();
    // <provider_credentials><ec2_credentials>, as the document sends them, or the inner one alone.
    let element = match root.tag_name().name() {
        "ec2_credentials" => Some(root),
        _ => child(root, "ec2_credentials"),
    };
    let element = element.ok_or_else(|| refused("the credentials hold no <ec2_credentials>"))?;
    let text = |name: &str| text_of(element, name).map(|text| text.trim().to_owned());
    Ok(Document {
        access_key: text("access_key"),
        secret_access_key: text("secret_access_key"),
        session_token: text("session_token"),
        source: text("source"),
        ec2_credentials: None,
    })
}

fn refused(message: &str) -> PluginError {
    PluginError::new(ErrorCode::Auth, message).by_user().hint(FORM)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_keys(text: &str, token: Option<&str>) {
        let Ok(Ec2Credentials::Keys(keys)) = read(text).and_then(Document::into_keys) else {
            panic!("{text}");
        };
        assert_eq!(keys.access_key_id(), "BEEFFEEDBEEFFEEDBEEF", "{text}");
        assert_eq!(keys.secret_access_key(), "asdHGK46783HGAlasdfc12FjerIe7g", "{text}");
        assert_eq!(keys.session_token(), token, "{text}");
    }

    #[test]
    fn the_documents_xml_and_both_names_in_json_are_read() {
        let inner = "<ec2_credentials><account_number>1234-5678-9012</account_number>\n\
            <access_key> BEEFFEEDBEEFFEEDBEEF</access_key>\
            <secret_access_key>asdHGK46783HGAlasdfc12FjerIe7g</secret_access_key>\
            <certificate>-----BEGIN CERTIFICATE-----</certificate><key>x</key></ec2_credentials>";
        check_keys(inner, None);
        check_keys(&format!("<provider_credentials>{inner}</provider_credentials>"), None);
        let plain = r#"{"access_key":"BEEFFEEDBEEFFEEDBEEF",
            "secret_access_key":"asdHGK46783HGAlasdfc12FjerIe7g","session_token":"t"}"#;
        check_keys(plain, Some("t"));
        check_keys(&format!(r#"{{"ec2_credentials":{plain}}}"#), Some("t"));
        check_keys(
            &format!(r#"{{"provider_credentials":{{"ec2_credentials":{plain}}}}}"#),
            Some("t"),
        );
        check_keys(
            r#"{"aws_access_key_id":"BEEFFEEDBEEFFEEDBEEF",
            "aws_secret_access_key":"asdHGK46783HGAlasdfc12FjerIe7g"}"#,
            None,
        );
    }

    #[test]
    fn what_is_no_credentials_is_refused_without_being_quoted() {
        for text in [
            "secret-hunter2",
            "{secret-hunter2",
            "<a>secret-hunter2</a>",
            "<ec2_credentials><access_key>secret-hunter2</access_key></ec2_credentials>",
            r#"{"secret_access_key":"secret-hunter2"}"#,
        ] {
            let Err(error) = read(text).and_then(Document::into_keys) else { panic!("{text}") };
            assert_eq!(error.code(), ErrorCode::Auth);
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
