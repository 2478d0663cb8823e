//! The provider's definition: which account, region or endpoint of a target an image goes to. The
//! wire allows a bare name (`ec2-us-east-1`) or an object, and clients send the object also as JSON
//! text; which keys an object has is each cloud plugin's business.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A provider as the client gave it. Serialises back to what was given.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ProviderDefinition {
    /// A name that the plugin, or the host's configuration, knows.
    Name(String),
    /// A definition of its own.
    Object(Map<String, Value>),
}

impl ProviderDefinition {
    /// Reads the text of a stage's `provider`: a JSON object, else a name.
    pub fn from_text(text: &str) -> Self {
        if text.trim_start().starts_with('{') {
            if let Ok(Value::Object(object)) = serde_json::from_str(text) {
                return ProviderDefinition::Object(object);
            }
        }
        ProviderDefinition::Name(text.trim().to_owned())
    }

    /// The text for a stage's `provider`.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        match self {
            ProviderDefinition::Name(name) => Ok(name.clone()),
            ProviderDefinition::Object(object) => serde_json::to_string(object),
        }
    }

    /// The name: itself, or the object's `name`.
    pub fn name(&self) -> Option<&str> {
        match self {
            ProviderDefinition::Name(name) => Some(name),
            ProviderDefinition::Object(_) => self.text("name"),
        }
    }

    /// The text under a key of the object.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self {
            ProviderDefinition::Name(_) => None,
            ProviderDefinition::Object(object) => object.get(key).and_then(Value::as_str),
        }
    }
}

/// Definitions of some targets hold passwords, so an object shows its keys only.
impl fmt::Debug for ProviderDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProviderDefinition::Name(name) => write!(f, "Name({name:?})"),
            ProviderDefinition::Object(object) => {
                f.write_str("Object")?;
                f.debug_set().entries(object.keys()).finish()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_a_name_or_an_object() {
        let name = ProviderDefinition::from_text(" ec2-us-east-1\n");
        assert_eq!(name, ProviderDefinition::Name("ec2-us-east-1".to_owned()));
        assert_eq!(name.name(), Some("ec2-us-east-1"));
        let object = ProviderDefinition::from_text(r#"{"name":"lab","glance-port":9292}"#);
        assert_eq!((object.name(), object.text("glance-port")), (Some("lab"), None));
        assert_eq!(object.to_text().unwrap(), r#"{"glance-port":9292,"name":"lab"}"#);
        assert_eq!(ProviderDefinition::from_text("{broken").name(), Some("{broken"));
    }

    #[test]
    fn json_of_both_forms_round_trips() {
        for json in [r#""ec2""#, r#"{"a":{"b":1}}"#] {
            let provider: ProviderDefinition = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&provider).unwrap(), json);
        }
        assert!(serde_json::from_str::<ProviderDefinition>("[1]").is_err());
    }

    #[test]
    fn a_definition_shows_its_keys_but_not_its_passwords() {
        let provider = ProviderDefinition::from_text(r#"{"password":"hunter2"}"#);
        assert_eq!(format!("{provider:?}"), "Object{\"password\"}");
    }
}
