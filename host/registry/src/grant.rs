//! The manifest asks, the operator's configuration grants: the intersection, as a pure function.
//!
//! A profile that is not allowed refuses the plugin, for no other profile would let it work. All
//! else is cut down to what is allowed, and what was withheld is told, so that a plugin that fails
//! for want of it can be understood. The dispatcher makes the runner's sandbox order of the grant.

use std::path::{Path, PathBuf};

use imagefactory_model::frames::{PluginKind, ResourceLimits, SandboxProfile};
use imagefactory_plugin_sdk::payload::manifest::Manifest;

use crate::reason::Reason;

/// What the operator allows, to every plugin alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxPolicy {
    /// Profiles that may be used.
    pub profiles: Vec<SandboxProfile>,
    /// For an OS plugin that asks for none.
    pub os_default: SandboxProfile,
    /// For a cloud plugin that asks for none.
    pub cloud_default: SandboxProfile,
    /// A layer that cannot be had is fatal.
    pub strict: bool,
    /// May any plugin use the network?
    pub network: bool,
    /// Linux capabilities that may be kept.
    pub capabilities: Vec<String>,
    /// Folders below which a plugin may ask to read.
    pub read_only: Vec<PathBuf>,
    /// Upper bounds, and what a plugin gets that asks for nothing. 0 = no limit.
    pub limits: ResourceLimits,
    /// Most seconds a stage may take.
    pub timeout_s_max: u64,
    /// Seconds a stage may take whose plugin asks for nothing.
    pub timeout_s_default: u64,
    /// Most seconds between `abort()` and SIGTERM.
    pub cancel_grace_s_max: u64,
    /// Most stages of one plugin at a time.
    pub max_concurrent: u64,
}

impl Default for SandboxPolicy {
    /// An installed factory without configuration: everything but real root and no sandbox at all.
    fn default() -> Self {
        SandboxPolicy {
            profiles: vec![SandboxProfile::Cloud, SandboxProfile::OsVm, SandboxProfile::OsUserns],
            os_default: SandboxProfile::OsUserns,
            cloud_default: SandboxProfile::Cloud,
            strict: false,
            network: true,
            capabilities: Vec::new(),
            read_only: ["/usr", "/etc/ssl", "/etc/pki", "/etc/ca-certificates"]
                .map(PathBuf::from)
                .to_vec(),
            limits: ResourceLimits {
                // An image is as large as its user wants; the store's quota bounds it.
                file_bytes_max: 0,
                // A bootstrap opens hundreds of files; a leak opens thousands.
                open_files_max: 4096,
                // Left to the machine: QEMU guests and compression differ by a factor of a hundred.
                memory_bytes_max: 0,
                // Package scripts and compressors run dozens; a fork bomb wants more.
                processes_max: 1024,
            },
            // A day: the largest images over the slowest links.
            timeout_s_max: 24 * 3600,
            // The original's default of its `timeout`.
            timeout_s_default: 3600,
            cancel_grace_s_max: 60,
            max_concurrent: 16,
        }
    }
}

/// Seconds between `abort()` and SIGTERM for a plugin that asks for nothing (plugin-abi 2.2).
const CANCEL_GRACE_S_DEFAULT: u64 = 10;

/// What a plugin gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The set of layers.
    pub profile: SandboxProfile,
    /// A layer that cannot be had is fatal.
    pub strict: bool,
    /// May it use the network?
    pub network: bool,
    /// Linux capabilities that it keeps; only `os-root` has any.
    pub capabilities: Vec<String>,
    /// What it may read beside the profile's own.
    pub read_only: Vec<PathBuf>,
    /// Hard limits; `processes_max` and `memory_bytes_max` by the manifest's wish.
    pub limits: ResourceLimits,
    /// Seconds that a stage may take.
    pub timeout_s: u64,
    /// Milliseconds between `abort()` and SIGTERM.
    pub cancel_grace_ms: u64,
    /// Stages of this plugin at a time.
    pub max_concurrent: u64,
    /// What was asked for and not granted, each a sentence.
    pub withheld: Vec<String>,
}

/// The grant for a plugin, or why it cannot have one.
pub fn grant(manifest: &Manifest, policy: &SandboxPolicy) -> Result<Grant, Reason> {
    let ask = &manifest.sandbox;
    let profile = match (ask.profile, manifest.kind) {
        (Some(asked), _) => asked,
        (None, PluginKind::Os) => policy.os_default,
        (None, PluginKind::Cloud) => policy.cloud_default,
    };
    if !policy.profiles.contains(&profile) {
        return Err(refused(manifest, profile, policy));
    }
    let mut withheld = Vec::new();
    // A cloud plugin without network is none; an OS plugin gets it only when it asks.
    let wants_network = ask.network.unwrap_or(manifest.kind == PluginKind::Cloud);
    if wants_network && !policy.network {
        withheld.push("the network".to_owned());
    }
    let capabilities = if profile == SandboxProfile::OsRoot { &ask.capabilities[..] } else { &[] };
    let (capabilities, refused): (Vec<String>, Vec<String>) =
        capabilities.iter().cloned().partition(|name| policy.capabilities.contains(name));
    withheld.extend(refused.into_iter().map(|name| format!("the capability {name}")));
    let allowed = |path: &Path| policy.read_only.iter().any(|folder| path.starts_with(folder));
    let (read_only, refused): (Vec<PathBuf>, Vec<PathBuf>) =
        ask.read_only.iter().map(PathBuf::from).partition(|path| allowed(path));
    withheld.extend(refused.iter().map(|path| format!("reading {}", path.display())));
    let limits = &manifest.limits;
    let grace_s = limits.cancel_grace_s.unwrap_or(CANCEL_GRACE_S_DEFAULT);
    Ok(Grant {
        profile,
        strict: policy.strict,
        network: wants_network && policy.network,
        capabilities,
        read_only,
        limits: ResourceLimits {
            memory_bytes_max: lower_of(
                ask.memory_max_mb.unwrap_or(0).saturating_mul(1 << 20),
                policy.limits.memory_bytes_max,
            ),
            processes_max: lower_of(limits.processes_max.unwrap_or(0), policy.limits.processes_max),
            ..policy.limits
        },
        timeout_s: limits.timeout_s.unwrap_or(policy.timeout_s_default).min(policy.timeout_s_max),
        cancel_grace_ms: grace_s.min(policy.cancel_grace_s_max).saturating_mul(1000),
        max_concurrent: lower_of(limits.max_concurrent.unwrap_or(0), policy.max_concurrent),
        withheld,
    })
}

/// 0 means no limit, on either side.
fn lower_of(asked: u64, allowed: u64) -> u64 {
    match (asked, allowed) {
        (0, limit) | (limit, 0) => limit,
        (asked, allowed) => asked.min(allowed),
    }
}

fn refused(manifest: &Manifest, profile: SandboxProfile, policy: &SandboxPolicy) -> Reason {
    let allowed: Vec<&str> = policy.profiles.iter().map(|profile| profile.name()).collect();
    Reason::new(format!(
        "{} needs the sandbox profile {}; allowed are {}",
        manifest.id,
        profile.name(),
        allowed.join(", ")
    ))
    .hint("allow it in the configuration, if you trust this plugin so far")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn manifest(kind: &str, sandbox: Value, limits: Value) -> Manifest {
        let row = if kind == "os" { json!(["A", null, null]) } else { json!(["a"]) };
        let document = json!({"type": kind, "targets": [row], "version": "1.0.0",
            "sandbox": sandbox, "limits": limits});
        Manifest::parse(document.to_string().as_bytes(), "X").unwrap().0
    }

    #[test]
    fn who_asks_for_nothing_gets_the_defaults_of_its_kind() {
        let policy = SandboxPolicy::default();
        let cloud = grant(&manifest("cloud", json!({}), json!({})), &policy).unwrap();
        assert_eq!((cloud.profile, cloud.network), (SandboxProfile::Cloud, true));
        let os = grant(&manifest("os", json!({}), json!({})), &policy).unwrap();
        assert_eq!((os.profile, os.network), (SandboxProfile::OsUserns, false));
        assert_eq!((os.timeout_s, os.cancel_grace_ms), (3600, 10_000));
        assert_eq!(os.limits, policy.limits);
    }

    #[test]
    fn a_profile_that_is_not_allowed_refuses_the_plugin() {
        let asks = manifest("os", json!({"profile": "os-root"}), json!({}));
        let reason = grant(&asks, &SandboxPolicy::default()).unwrap_err();
        assert!(
            reason.message.contains("os-root; allowed are cloud, os-vm, os-userns"),
            "{reason}"
        );
    }

    #[test]
    fn what_is_not_allowed_is_withheld_and_told() {
        let policy = SandboxPolicy {
            profiles: vec![SandboxProfile::OsRoot],
            capabilities: vec!["CAP_SYS_ADMIN".into()],
            network: false,
            ..SandboxPolicy::default()
        };
        let asks = json!({"profile": "os-root", "network": true, "capabilities":
            ["CAP_SYS_ADMIN", "CAP_SYS_MODULE"], "read_only": ["/usr/share/x", "/usrlocal", "/root"]});
        let grant = grant(&manifest("os", asks, json!({})), &policy).unwrap();
        assert_eq!(grant.capabilities, ["CAP_SYS_ADMIN"]);
        assert_eq!(grant.read_only, [PathBuf::from("/usr/share/x")]);
        assert!(!grant.network);
        assert_eq!(
            grant.withheld,
            ["the network", "the capability CAP_SYS_MODULE", "reading /usrlocal", "reading /root"]
        );
    }

    #[test]
    fn capabilities_are_for_real_root_only() {
        let policy = SandboxPolicy {
            capabilities: vec!["CAP_SYS_ADMIN".into()],
            ..SandboxPolicy::default()
        };
        let asks = manifest("os", json!({"capabilities": ["CAP_SYS_ADMIN"]}), json!({}));
        assert!(grant(&asks, &policy).unwrap().capabilities.is_empty());
    }

    #[test]
    fn limits_are_the_lower_of_wish_and_policy() {
        let mut policy = SandboxPolicy::default();
        policy.limits.memory_bytes_max = 1 << 30;
        let wish = json!({"timeout_s": 600_000, "cancel_grace_s": 600, "max_concurrent": 2,
            "processes_max": 16_000});
        let few = manifest("cloud", json!({"memory_max_mb": 512}), wish.clone());
        let few = grant(&few, &policy).unwrap();
        assert_eq!(few.limits.memory_bytes_max, 512 << 20);
        assert_eq!((few.limits.processes_max, few.max_concurrent), (1024, 2));
        assert_eq!((few.timeout_s, few.cancel_grace_ms), (86_400, 60_000));
        let much = manifest("cloud", json!({"memory_max_mb": 4096}), wish);
        assert_eq!(grant(&much, &policy).unwrap().limits.memory_bytes_max, 1 << 30);
    }
}
