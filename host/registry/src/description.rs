//! Compares what a loaded plugin said of itself with what its manifest promised.
//!
//! A difference is an error of the plugin: lookups, the REST listing and the checks of an order
//! believe the manifest, so it must be true. Pure; called when a description comes in and again for
//! each cached one.

use std::collections::BTreeSet;

use imagefactory_model::frames::PluginFacts;
use imagefactory_plugin_sdk::payload::manifest::Manifest;
use semver::{Version, VersionReq};

use crate::reason::Reason;

/// Ok, or the first difference.
pub fn check_facts(manifest: &Manifest, facts: &PluginFacts) -> Result<(), Reason> {
    same("id", &manifest.id, &facts.id)?;
    same("version", &manifest.version, &facts.version)?;
    same("type", manifest.kind.name(), facts.kind.name())?;
    let sha256 = manifest.library.as_ref().and_then(|library| library.sha256.as_ref());
    if let Some(sha256) = sha256 {
        same("library/sha256", sha256, &facts.sha256)?;
    }
    check_abi(&manifest.abi.req, &facts.abi_chosen)?;
    check_operations(manifest, facts)
}

fn same(field: &str, promised: &str, found: &str) -> Result<(), Reason> {
    if promised == found {
        return Ok(());
    }
    Err(Reason::new(format!(
        "the manifest says {field} {promised:?}, the library says {:?}",
        shortened(found)
    ))
    .hint("install manifest and library from one build"))
}

/// `chosen` is MAJOR.MINOR from a runner, hostile like all that comes from there.
fn check_abi(req: &str, chosen: &str) -> Result<(), Reason> {
    let version = Version::parse(&format!("{chosen}.0"));
    let fits = match (VersionReq::parse(req), version) {
        (Ok(req), Ok(version)) => req.matches(&version),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(Reason::new(format!(
        "the manifest needs ABI {req}, the library speaks {:?}",
        shortened(chosen)
    )))
}

fn check_operations(manifest: &Manifest, facts: &PluginFacts) -> Result<(), Reason> {
    let promised: BTreeSet<&str> = manifest.capabilities.iter().map(String::as_str).collect();
    let found: BTreeSet<&str> = facts.operations.iter().map(String::as_str).collect();
    let missing: Vec<&str> = promised.difference(&found).copied().collect();
    let extra: Vec<&str> = found.difference(&promised).copied().collect();
    if missing.is_empty() && extra.is_empty() {
        return Ok(());
    }
    let mut sentence =
        String::from("the manifest's capabilities are not the library's operations:");
    if !missing.is_empty() {
        sentence += &format!(" the library lacks {}", shortened(&missing.join(", ")));
    }
    if !extra.is_empty() {
        let and = if missing.is_empty() { "" } else { " and" };
        sentence += &format!("{and} the manifest lacks {}", shortened(&extra.join(", ")));
    }
    Err(Reason::new(sentence).hint("mend /capabilities in the manifest"))
}

/// Plugins may send megabytes; a reason is a line.
fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use imagefactory_model::frames::{LayoutCheck, PluginKind};

    use super::*;

    fn manifest() -> Manifest {
        let text = r#"{"type":"cloud","targets":[["x"]],"version":"1.0.0","abi":{"req":"^1.0"},
            "library":{"path":"X.so"},"capabilities":["push_image_to_provider","cleanup"]}"#;
        Manifest::parse(text.as_bytes(), "X").unwrap().0
    }

    fn facts() -> PluginFacts {
        PluginFacts {
            id: "X".into(),
            version: "1.0.0".into(),
            kind: PluginKind::Cloud,
            abi_compiled: "1.0".into(),
            abi_chosen: "1.0".into(),
            interfaces: Vec::new(),
            operations: vec!["cleanup".into(), "push_image_to_provider".into()],
            layout: LayoutCheck::Absent,
            sha256: "00".into(),
            warnings: Vec::new(),
        }
    }

    #[track_caller]
    fn check_refused(change: fn(&mut PluginFacts), words: &str) {
        let mut facts = facts();
        change(&mut facts);
        let reason = check_facts(&manifest(), &facts).unwrap_err();
        assert!(reason.message.contains(words), "{reason}");
    }

    #[test]
    fn facts_that_agree_pass() {
        assert_eq!(check_facts(&manifest(), &facts()), Ok(()));
    }

    #[test]
    fn each_difference_is_told_with_both_values() {
        check_refused(|facts| facts.id = "Y".into(), r#"id "X", the library says "Y""#);
        check_refused(|facts| facts.version = "1.0.1".into(), "1.0.1");
        check_refused(
            |facts| facts.kind = PluginKind::Os,
            r#"type "cloud", the library says "os""#,
        );
        check_refused(|facts| facts.abi_chosen = "2.0".into(), "ABI ^1.0");
        check_refused(|facts| facts.abi_chosen = "junk".into(), "junk");
        check_refused(|facts| facts.operations.truncate(1), "lacks push_image_to_provider");
        check_refused(|facts| facts.operations.push("x".into()), "the manifest lacks x");
    }

    #[test]
    fn the_digest_is_compared_where_the_manifest_has_one() {
        let mut manifest = manifest();
        manifest.library.as_mut().unwrap().sha256 = Some("11".into());
        assert!(check_facts(&manifest, &facts()).is_err());
        manifest.library.as_mut().unwrap().sha256 = Some("00".into());
        assert_eq!(check_facts(&manifest, &facts()), Ok(()));
    }
}
