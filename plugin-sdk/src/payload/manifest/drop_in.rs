//! The administrator's change to a plugin: `<id>.d/*.json` in the override folder.
//!
//! A drop-in may set `priority`, `limits`, `sandbox` and `enabled`, and nothing else: an unknown
//! key is a problem here, because a mistyped restriction that is silently ignored would be none.
//! JsonFinding and ordering the files is the registry's.

use super::finding::Report;
use super::object_reader::ObjectReader;
use super::parse::{read_limits, read_priority, read_sandbox};
use super::{document, JsonFinding, Limits, Manifest, ManifestError, Sandbox};

/// One drop-in, checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ManifestDropIn {
    /// Instead of the manifest's.
    pub priority: Option<u32>,
    /// Fields given here win over the manifest's, one by one.
    pub limits: Limits,
    /// Fields given here win over the manifest's, one by one; lists win when they stand there, even
    /// when they are empty.
    pub sandbox: Sandbox,
    /// Does the drop-in have `sandbox/capabilities`?
    pub sets_capabilities: bool,
    /// Does the drop-in have `sandbox/read_only`?
    pub sets_read_only: bool,
    /// false: the plugin is listed and never used.
    pub enabled: Option<bool>,
}

impl ManifestDropIn {
    /// Reads a drop-in; every finding is a problem.
    pub fn parse(text: &[u8]) -> Result<ManifestDropIn, ManifestError> {
        let document = document::read(text)?;
        let mut report = Report::default();
        let drop_in = read(&document, &mut report).unwrap_or_default();
        let warnings: Vec<JsonFinding> = report.finish()?;
        if warnings.is_empty() {
            Ok(drop_in)
        } else {
            Err(ManifestError::Invalid { problems: warnings })
        }
    }

    /// Lays this drop-in over a manifest. `enabled` is for the registry to obey.
    pub fn apply(&self, manifest: &mut Manifest) {
        manifest.priority = self.priority.unwrap_or(manifest.priority);
        let limits = &mut manifest.limits;
        limits.timeout_s = self.limits.timeout_s.or(limits.timeout_s);
        limits.cancel_grace_s = self.limits.cancel_grace_s.or(limits.cancel_grace_s);
        limits.max_concurrent = self.limits.max_concurrent.or(limits.max_concurrent);
        limits.processes_max = self.limits.processes_max.or(limits.processes_max);
        let sandbox = &mut manifest.sandbox;
        sandbox.profile = self.sandbox.profile.or(sandbox.profile);
        sandbox.network = self.sandbox.network.or(sandbox.network);
        sandbox.memory_max_mb = self.sandbox.memory_max_mb.or(sandbox.memory_max_mb);
        if self.sets_capabilities {
            sandbox.capabilities = self.sandbox.capabilities.clone();
        }
        if self.sets_read_only {
            sandbox.read_only = self.sandbox.read_only.clone();
        }
    }
}

fn read(document: &serde_json::Value, report: &mut Report) -> Option<ManifestDropIn> {
    let mut fields = ObjectReader::open(document, "", report)?;
    let drop_in = ManifestDropIn {
        priority: read_priority(&mut fields, report),
        limits: read_limits(&mut fields, report),
        sandbox: read_sandbox(&mut fields, report),
        sets_capabilities: document.pointer("/sandbox/capabilities").is_some(),
        sets_read_only: document.pointer("/sandbox/read_only").is_some(),
        enabled: fields.flag("enabled", report),
    };
    fields.finish(report);
    Some(drop_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_in_wins_field_by_field() {
        let manifest = br#"{"type":"cloud","targets":[["x"]],"version":"1.0.0",
            "limits":{"timeout_s":10,"max_concurrent":4},
            "sandbox":{"profile":"cloud","capabilities":["CAP_SYS_ADMIN"],"read_only":["/opt"]}}"#;
        let (mut manifest, _) = Manifest::parse(manifest, "X").unwrap();
        let drop_in = ManifestDropIn::parse(
            br#"{"priority":90,"limits":{"timeout_s":20},"sandbox":{"network":false,"capabilities":[]}}"#,
        )
        .unwrap();
        drop_in.apply(&mut manifest);
        assert_eq!(manifest.priority, 90);
        assert_eq!(manifest.limits.timeout_s, Some(20));
        assert_eq!(manifest.limits.max_concurrent, Some(4));
        assert_eq!(manifest.sandbox.network, Some(false));
        assert!(manifest.sandbox.capabilities.is_empty());
        assert_eq!(manifest.sandbox.read_only, ["/opt"]);
    }

    #[test]
    fn anything_else_in_a_drop_in_is_a_problem() {
        for text in [
            r#"{"library":{"path":"/tmp/evil.so"}}"#,
            r#"{"sandbox":{"profil":"cloud"}}"#,
            r#"{"enabled":"no"}"#,
            r#"[]"#,
            "",
        ] {
            assert!(ManifestDropIn::parse(text.as_bytes()).is_err(), "{}", text);
        }
    }
}
