//! The content key of a base image: equal keys mean equal content, so the second order is served by
//! a link to the first one's body.
//!
//! It is made of everything that the content depends on: the template, the parameters that are not
//! about the order itself, the plugin (id, version, digest of its file), its settings, and what the
//! plugin says it found outside (`resolve_inputs`, e.g. a repository's release file). A plugin that
//! cannot say what its build depends on has no key, and its images are never shared.

use imagefactory_plugin_sdk::payload::template::Template;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Parameters that say how an order is handled and do not change what is built.
const ABOUT_THE_ORDER: [&str; 3] = ["callbacks", "fresh", "snapshot"];

/// What begins so says how a finished image is proven to work, and changes nothing of it.
const ABOUT_THE_PROOF: &str = "boot_";

/// What the content of a base image depends on.
#[derive(Debug)]
pub(crate) struct ContentInputs<'a> {
    /// As sent: two texts with one meaning are built twice, which is safe.
    pub(crate) template_xml: &'a str,
    /// As sent.
    pub(crate) parameters: &'a Map<String, Value>,
    /// The plugin's id, version and file digest.
    pub(crate) plugin: (&'a str, &'a str, &'a str),
    /// The plugin's own settings.
    pub(crate) settings: &'a Map<String, Value>,
    /// The public settings.
    pub(crate) public_settings: &'a Map<String, Value>,
    /// The plugin's answer to `resolve_inputs`.
    pub(crate) input_digest: &'a str,
}

/// The key, or `None` where the result must not be shared: somebody asked for a fresh build, or the
/// template's commands use the network.
pub(crate) fn content_key(inputs: &ContentInputs<'_>, template: &Template) -> Option<String> {
    if is_true(inputs.parameters.get("fresh"))
        || (is_true(inputs.parameters.get("command_network")) && has_commands(template))
    {
        return None;
    }
    let parameters: Map<String, Value> = inputs
        .parameters
        .iter()
        .filter(|(name, _)| !ABOUT_THE_ORDER.contains(&name.as_str()) && !is_about_the_proof(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    // serde_json keeps object keys sorted, so equal documents are equal texts.
    let document = json!({
        "key": 1,
        "template": inputs.template_xml,
        "parameters": parameters,
        "plugin": inputs.plugin,
        "settings": inputs.settings,
        "public_settings": inputs.public_settings,
        "inputs": inputs.input_digest,
    });
    let digest = Sha256::digest(document.to_string().as_bytes());
    Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Does this parameter say how an image is proven (`boot_test`, `boot_firmware`)?
pub(crate) fn is_about_the_proof(name: &str) -> bool {
    name.starts_with(ABOUT_THE_PROOF)
}

fn has_commands(template: &Template) -> bool {
    !template.commands.is_empty() || !template.precommands.is_empty()
}

fn is_true(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(yes)) => *yes,
        Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

/// Is this parameter set to true, as JSON or as a form's text?
pub(crate) fn parameter_is_true(parameters: &Map<String, Value>, name: &str) -> bool {
    is_true(parameters.get(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use imagefactory_plugin_sdk::payload::template::TemplateRules;

    const TDL: &str = "<template><name>x</name><os><name>MockOS_A</name><version>1</version>\
        <arch>x86_64</arch><install type='url'><url>http://debian.example/</url></install></os>\
        <commands><command name='a'>true</command></commands></template>";

    fn key(parameters: Value, digest: &str) -> Option<String> {
        let template = Template::parse(TDL, &TemplateRules::rest()).unwrap();
        let parameters = parameters.as_object().unwrap();
        let none = Map::new();
        let inputs = ContentInputs {
            template_xml: TDL,
            parameters,
            plugin: ("MockOS", "1.0", "aa"),
            settings: &none,
            public_settings: &none,
            input_digest: digest,
        };
        content_key(&inputs, &template)
    }

    #[test]
    fn what_changes_the_content_changes_the_key_and_nothing_else_does() {
        let plain = key(json!({}), "d").unwrap();
        assert_eq!(
            key(json!({"callbacks": ["http://x/"], "boot_test": true}), "d"),
            Some(plain.clone())
        );
        assert_ne!(key(json!({"mock_size_bytes": 5}), "d"), Some(plain.clone()));
        assert_ne!(key(json!({}), "e"), Some(plain));
    }

    #[test]
    fn fresh_builds_and_networked_commands_are_never_shared() {
        assert_eq!(key(json!({"fresh": true}), "d"), None);
        assert_eq!(key(json!({"fresh": "true"}), "d"), None);
        assert_eq!(key(json!({"command_network": true}), "d"), None);
        assert!(key(json!({"fresh": false}), "d").is_some());
    }
}
