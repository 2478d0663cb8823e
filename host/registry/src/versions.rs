//! Which versions fit together: the ABI, the host and the machine that a manifest asks for.
//!
//! Judged from the manifest alone, before anything is loaded. The binary negotiation at load is the
//! stage runner's. Called by `judge.rs`, and by the validator for its static rules.

use imagefactory_plugin_sdk::payload::manifest::Manifest;
use semver::{Version, VersionReq};

use crate::reason::Reason;

/// The plugin ABI of this factory; a test holds it against the C header.
pub const ABI: Version = Version::new(1, 0, 0);

/// How [`ABI`] is written for people: `1.0`.
pub const ABI_TEXT: &str = "1.0";

/// This factory's own version.
pub const HOST: &str = env!("CARGO_PKG_VERSION");

/// Does the plugin's ABI requirement hold here? Err is an error of manifest or installation.
pub fn check_abi(manifest: &Manifest) -> Result<(), Reason> {
    let req = &manifest.abi.req;
    let parsed = VersionReq::parse(req).map_err(|error| {
        Reason::new(format!("/abi/req: {req:?} is no version requirement: {error}"))
            .hint("write it as \"^1.0\"")
    })?;
    if parsed.matches(&ABI) {
        return Ok(());
    }
    Err(Reason::new(format!("it needs plugin ABI {req}; this factory speaks {ABI_TEXT}"))
        .hint("install a factory and a plugin of the same generation"))
}

/// Does the requirement on the host hold? Err is either a broken requirement or another host.
pub fn check_host(manifest: &Manifest) -> Result<(), Reason> {
    let Some(req) = &manifest.requires.host else { return Ok(()) };
    let parsed = VersionReq::parse(req).map_err(|error| {
        Reason::new(format!("/requires/host: {req:?} is no version requirement: {error}"))
            .hint("write it as \">=2.0\"")
    })?;
    // Our own version always parses: cargo refuses another.
    if Version::parse(HOST).is_ok_and(|host| parsed.matches(&host)) {
        return Ok(());
    }
    Err(Reason::new(format!("it needs imagefactory {req}; this is {HOST}")))
}

/// Was the library built for this machine?
pub fn check_arch(manifest: &Manifest) -> Result<(), Reason> {
    let arch = manifest.library.as_ref().and_then(|library| library.arch.as_deref());
    match arch {
        Some(arch) if arch != std::env::consts::ARCH => Err(Reason::new(format!(
            "its library is for {arch}; this machine is {}",
            std::env::consts::ARCH
        ))),
        _ => Ok(()),
    }
}

/// Is the plugin's version semver? "1.0" of old manifests is not, and works.
pub fn is_semver(version: &str) -> bool {
    Version::parse(version).is_ok()
}
