//! Says at the start what this machine cannot contain, and refuses where the configuration insists.
//!
//! For every profile that the operator allows, a runner puts its walls up once around nothing
//! (`stage_process/containment.rs`): the same code that will confine stages, so what it reports is
//! what they will have. Called by the daemon before it takes orders, and by a command line that is
//! asked to be verbose.

use imagefactory_model::frames::{SandboxOrder, SandboxProfile};
use imagefactory_model::stage::StageFailure;

use crate::dispatcher::Dispatcher;
use crate::error::DispatchError;
use crate::stage_process::{Containment, IdentityLease};

impl Dispatcher {
    /// Tells the log which kinds of hostile plugin cannot be contained here. With `sandbox.strict`
    /// an error when a layer is missing that plugins without a wish of their own need.
    pub async fn check_containment(&self) -> Result<(), DispatchError> {
        let policy = &self.engine().configuration.sandbox;
        let mut fatal = Vec::new();
        for &profile in &policy.profiles {
            let name = profile_name(profile);
            let is_default = [policy.os_default, policy.cloud_default].contains(&profile);
            match self.containment(profile).await {
                Ok(containment) => {
                    let active = containment.report.active.join(", ");
                    tracing::info!("stages of profile {name} are confined by: {active}");
                    for gap in containment.gaps() {
                        match gap.deeds.as_slice() {
                            [] => tracing::info!("profile {name}: {gap}"),
                            _ => tracing::warn!("not contained in profile {name}: {gap}"),
                        }
                        fatal.extend(is_default.then(|| format!("profile {name}: {gap}")));
                    }
                }
                Err(failure) => {
                    tracing::error!("stages of profile {name} cannot be confined: {failure}");
                    fatal.extend(is_default.then(|| format!("profile {name}: {failure}")));
                }
            }
        }
        if policy.strict && !fatal.is_empty() {
            return Err(DispatchError::NotContained { gaps: fatal });
        }
        Ok(())
    }

    async fn containment(&self, profile: SandboxProfile) -> Result<Containment, StageFailure> {
        let engine = self.engine();
        let policy = &engine.configuration.sandbox;
        let lease = engine.identities.as_ref().and_then(|all| all.lease(profile));
        let identity = lease.as_ref().map(IdentityLease::identity);
        let order = SandboxOrder {
            profile,
            strict: false,
            network: false,
            identity: identity.filter(|_| profile != SandboxProfile::OsRoot),
            read_only: Vec::new(),
            writable: Vec::new(),
            capabilities: policy.capabilities.clone(),
            limits: policy.limits,
            cancel_grace_ms: 1000, // nothing runs that could be cancelled
        };
        engine.supervisor.containment(order).await
    }
}

/// As manifests and the configuration spell it.
fn profile_name(profile: SandboxProfile) -> &'static str {
    match profile {
        SandboxProfile::Cloud => "cloud",
        SandboxProfile::OsVm => "os-vm",
        SandboxProfile::OsUserns => "os-userns",
        SandboxProfile::OsRoot => "os-root",
        SandboxProfile::None => "none",
    }
}
