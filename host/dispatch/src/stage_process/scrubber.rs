//! Removes the secrets that a stage was given from everything that it says.
//!
//! Credentials are documents (XML or JSON), and what leaks is one value out of them, so each value
//! of the document counts, not only its whole text. Account names and regions are values too and
//! belong into logs and results: they stay. Texts are cut into lines before they come here, so
//! values of several lines (private keys) are known line by line. This is a net for accidents: a
//! plugin that
//! *wants* to tell a secret can encode it.

use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

/// Put in the place of a secret.
const REDACTED: &str = "[REDACTED]";

/// Shorter values are left alone: removing every `abc` would make a log unreadable and tell the
/// secret by its gaps.
const SECRET_BYTES_MIN: usize = 4;

/// Values of documents under other names than those of [`CONFIDENTIAL`] count from here on.
const UNNAMED_BYTES_MIN: usize = 8;

/// Names of values that are secret enough for logs, and that results legitimately hold: the
/// original's EC2 plugin reports the access key's id as the provider account.
const SEMI_PUBLIC: [&str; 2] = ["access_key", "access_key_id"];

/// Words in the name of a value that is a secret whatever its length.
const CONFIDENTIAL: [&str; 7] = ["pass", "secret", "token", "key", "cert", "credential", "auth"];

/// Names of values that identify and do not authenticate.
const PUBLIC: [&str; 16] = [
    "account",
    "account_number",
    "account_id",
    "username",
    "user",
    "region",
    "tenant",
    "project",
    "project_id",
    "subscription_id",
    "domain",
    "endpoint",
    "url",
    "host",
    "provider",
    "name",
];

/// Nesting of a credentials document that is looked at; deeper, the whole text still counts.
const DEPTH_MAX: usize = 32;

/// The secrets handed to one stage. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Scrubber {
    /// Longest first, so that a secret within a secret does not spoil the longer one.
    secrets: Arc<RwLock<Secrets>>,
}

#[derive(Default)]
struct Secrets(Vec<Secret>);

#[derive(PartialEq, Eq)]
struct Secret {
    text: String,
    /// Also removed from results, and refused in what becomes durable. The others may be a region
    /// that happens to be a credential's value.
    confidential: bool,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

impl Scrubber {
    /// From now on these values are removed.
    pub(super) fn learn(&self, text: &str) {
        let mut found = Vec::new();
        add_lines(text, SECRET_BYTES_MIN, true, &mut found);
        if let Ok(document) = serde_json::from_str::<Value>(text) {
            if !document.is_string() {
                found.clear();
            }
            add_json("", &document, 0, &mut found);
        } else if let Ok(document) = roxmltree::Document::parse(text) {
            found.clear();
            for node in document.descendants().filter(|node| node.is_element()) {
                for attribute in node.attributes() {
                    add_value(attribute.name(), attribute.value(), &mut found);
                }
                let texts = node.children().filter(|child| child.is_text());
                for text in texts.filter_map(|child| child.text()) {
                    add_value(node.tag_name().name(), text, &mut found);
                }
            }
        }
        found.push(Secret { text: text.trim().to_owned(), confidential: true });
        found.retain(|secret| secret.text.len() >= SECRET_BYTES_MIN);
        let mut secrets = self.secrets.write().unwrap_or_else(PoisonError::into_inner);
        secrets.0.append(&mut found);
        secrets.0.sort_by(|a, b| {
            let longer = b.text.len().cmp(&a.text.len());
            longer.then_with(|| a.text.cmp(&b.text)).then(b.confidential.cmp(&a.confidential))
        });
        // The confidential one of two equal texts comes first and stays.
        secrets.0.dedup_by(|later, earlier| later.text == earlier.text);
    }

    /// The text without any secret, for eyes.
    pub(super) fn text(&self, text: String) -> String {
        self.remove(text, false)
    }

    fn remove(&self, mut text: String, confidential_only: bool) -> String {
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = secrets.0.iter().filter(|secret| secret.confidential || !confidential_only);
        for secret in wanted {
            if text.contains(secret.text.as_str()) {
                text = text.replace(secret.text.as_str(), REDACTED);
            }
        }
        text
    }

    /// Does the text hold a value that must not become durable?
    pub(super) fn holds_secret(&self, text: &str) -> bool {
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        secrets.0.iter().any(|secret| secret.confidential && text.contains(secret.text.as_str()))
    }

    /// The JSON value without any secret, for eyes.
    pub(super) fn json(&self, value: Value) -> Value {
        self.remove_json(value, false)
    }

    /// The JSON value without what authenticates, for results.
    pub(super) fn result(&self, value: Value) -> Value {
        self.remove_json(value, true)
    }

    /// In strings and in names of members.
    fn remove_json(&self, value: Value, confidential_only: bool) -> Value {
        match value {
            Value::String(text) => Value::String(self.remove(text, confidential_only)),
            Value::Array(items) => {
                items.into_iter().map(|item| self.remove_json(item, confidential_only)).collect()
            }
            Value::Object(members) => members
                .into_iter()
                .map(|(name, value)| {
                    let name = self.remove(name, confidential_only);
                    (name, self.remove_json(value, confidential_only))
                })
                .collect(),
            other => other,
        }
    }
}

fn add_json(name: &str, value: &Value, depth: usize, found: &mut Vec<Secret>) {
    if depth > DEPTH_MAX {
        return;
    }
    match value {
        Value::String(text) => add_value(name, text, found),
        Value::Array(items) => {
            items.iter().for_each(|item| add_json(name, item, depth + 1, found));
        }
        Value::Object(members) => {
            members.iter().for_each(|(name, item)| add_json(name, item, depth + 1, found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn add_value(name: &str, text: &str, found: &mut Vec<Secret>) {
    let name = name.to_ascii_lowercase();
    if PUBLIC.contains(&name.as_str()) {
        return;
    }
    let confidential = CONFIDENTIAL.iter().any(|word| name.contains(word));
    let bytes_min = if confidential { SECRET_BYTES_MIN } else { UNNAMED_BYTES_MIN };
    let confidential = confidential && !SEMI_PUBLIC.contains(&name.as_str());
    add_lines(text, bytes_min, confidential, found);
}

/// Each line that is long enough. `-----BEGIN …` lines are no secret.
fn add_lines(text: &str, bytes_min: usize, confidential: bool, found: &mut Vec<Secret>) {
    let lines = text.lines().map(str::trim);
    let kept = lines.filter(|line| line.len() >= bytes_min && !line.starts_with("-----"));
    found.extend(kept.map(|line| Secret { text: line.to_owned(), confidential }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(secret: &str, said: &str, heard: &str) {
        let scrubber = Scrubber::default();
        scrubber.learn(secret);
        assert_eq!(scrubber.text(said.to_owned()), heard, "secret {secret:?}");
    }

    #[test]
    fn values_of_credential_documents_are_removed_and_account_names_stay() {
        let xml = "<provider_credentials><ec2_credentials>\
            <account_number>123456789012</account_number><access_key>AKIA1234</access_key>\
            <secret_access_key>Zx/9</secret_access_key></ec2_credentials></provider_credentials>";
        check(xml, "123456789012 AKIA1234 Zx/9", "123456789012 [REDACTED] [REDACTED]");
        let json = r#"{"username":"builder01","nested":{"password":"hush"},"x":"longenough"}"#;
        check(json, "builder01 hush longenough", "builder01 [REDACTED] [REDACTED]");
    }

    #[test]
    fn plain_texts_and_every_line_of_a_key_are_removed() {
        check("hunter22", "login with hunter22.", "login with [REDACTED].");
        let key = "-----BEGIN KEY-----\nMIIabcdef\nZZ99aabb\n-----END KEY-----\n";
        check(key, "line ZZ99aabb", "line [REDACTED]");
        check(key, "-----BEGIN KEY-----", "-----BEGIN KEY-----");
    }

    #[test]
    fn a_secret_within_a_longer_one_does_not_save_the_rest_of_it() {
        let scrubber = Scrubber::default();
        scrubber.learn("abcd");
        scrubber.learn("abcdefgh");
        assert_eq!(scrubber.text("abcdefgh".to_owned()), REDACTED);
    }

    #[test]
    fn results_keep_what_identifies_and_lose_what_authenticates() {
        let scrubber = Scrubber::default();
        scrubber.learn(r#"{"access_key":"AKIA1234","secret_key":"hush","x":"eu-central-1"}"#);
        let said = json!("AKIA1234 hush eu-central-1");
        assert_eq!(scrubber.result(said), json!("AKIA1234 [REDACTED] eu-central-1"));
        assert!(scrubber.holds_secret("a hush b") && !scrubber.holds_secret("eu-central-1"));
    }

    #[test]
    fn json_is_scrubbed_in_values_and_in_names() {
        let scrubber = Scrubber::default();
        scrubber.learn("hunter22");
        let said = json!({"a": ["x hunter22"], "hunter22": 1});
        assert_eq!(scrubber.json(said), json!({"a": ["x [REDACTED]"], "[REDACTED]": 1}));
    }
}
