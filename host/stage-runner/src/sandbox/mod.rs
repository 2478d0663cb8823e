//! The walls around a plugin, one file per layer; all of them stand before `dlopen`.
//!
//! [`profiles`] says which layers a profile has, without asking the kernel anything. The warden
//! makes the namespaces ([`namespaces`]), the process inside arranges what can be seen
//! ([`mounts`]) and who it is ([`identity`]), and the worker shuts the doors behind itself
//! ([`limits`], [`landlock`], [`seccomp`]). A layer that this machine does not have is reported
//! in the `SandboxReport`, and is fatal where the host asked for a strict sandbox.

pub mod identity;
pub mod kvm;
pub mod landlock;
pub mod limits;
pub mod mounts;
pub mod namespaces;
pub mod profiles;
pub mod root_view;
pub mod seccomp;
pub mod subordinate_ids;

use imagefactory_model::frames::{SandboxOrder, SandboxReport};

use crate::error::RunnerError;

/// A report without any layer yet.
pub fn empty_report(order: &SandboxOrder) -> SandboxReport {
    SandboxReport { profile: order.profile, active: Vec::new(), missing: Vec::new() }
}

/// Refuses to go on where the host insists on layers that are missing.
pub fn insist(order: &SandboxOrder, report: &SandboxReport) -> Result<(), RunnerError> {
    if order.strict && !report.missing.is_empty() {
        return Err(RunnerError::MissingLayers { missing: report.missing.clone() });
    }
    Ok(())
}
