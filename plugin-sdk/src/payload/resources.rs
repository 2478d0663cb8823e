//! What a stage was granted (`resources_json`). The host measures and enforces; a plugin reads this
//! to choose how many jobs to start and how much memory to give to a guest.

use serde::{Deserialize, Serialize};

/// A stage's share of the machine. `None` = not limited. Unknown keys are ignored: a newer host may
/// grant more kinds of things.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Memory of the whole stage, guests included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Room in the work folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_bytes: Option<u64>,
    /// Network, both directions together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_bytes_per_s: Option<u64>,
}

impl Resources {
    /// Reads `resources_json`; an absent document limits nothing.
    pub fn from_json(json: &str) -> Result<Resources, serde_json::Error> {
        if json.is_empty() {
            return Ok(Resources::default());
        }
        serde_json::from_str(json)
    }

    /// The document for `resources_json`.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_key_is_no_limit_and_an_unknown_one_is_ignored() {
        assert_eq!(Resources::from_json("").unwrap(), Resources::default());
        let granted = Resources::from_json(r#"{"cpus":2,"gpus":1,"memory_bytes":null}"#).unwrap();
        assert_eq!(granted, Resources { cpus: Some(2), ..Resources::default() });
        assert_eq!(granted.to_json().unwrap(), r#"{"cpus":2}"#);
        assert!(Resources::from_json(r#"{"cpus":-1}"#).is_err());
    }
}
