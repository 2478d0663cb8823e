//! Unprivileged user ids for stages when the daemon is root: one slot for each stage that runs.
//!
//! Two stages never run under the same ids at the same time, so that one plugin can neither signal
//! nor read the other. The range comes from the configuration (packaged: what `sysusers.d` set
//! apart). A slot has 65536 ids, as `/etc/subuid` has them, because `os-userns` maps a whole
//! system's users.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use imagefactory_model::frames::{SandboxProfile, StageIdentity};

/// Ids of one slot: a distribution's own users and groups, nobody (65534) included.
const IDS_PER_SLOT: u32 = 65536;

/// The slots of a factory.
#[derive(Debug)]
pub struct StageIdentities {
    uid_first: u32,
    gid: u32,
    slots: u32,
    taken: Mutex<BTreeSet<u32>>,
}

impl StageIdentities {
    /// `slots` slots of 65536 ids from `uid_first` on; `gid` is the group that may read image
    /// bodies. Fewer slots are used where the range would pass the largest id.
    pub fn new(uid_first: u32, slots: u32, gid: u32) -> Arc<Self> {
        let fit = (u32::MAX - uid_first) / IDS_PER_SLOT;
        Arc::new(StageIdentities { uid_first, gid, slots: slots.min(fit), taken: Mutex::default() })
    }

    /// A slot for a stage of this profile; `None` = all are in use: more stages run than slots were
    /// configured. `os-root` runs as root by design and needs no lease.
    pub fn lease(self: &Arc<Self>, profile: SandboxProfile) -> Option<IdentityLease> {
        let count = if profile == SandboxProfile::OsUserns { IDS_PER_SLOT } else { 1 };
        let mut taken = self.taken();
        let slot = (0..self.slots).find(|slot| !taken.contains(slot))?;
        taken.insert(slot);
        let uid = self.uid_first + slot * IDS_PER_SLOT;
        let identity = StageIdentity { uid, gid: self.gid, count };
        Some(IdentityLease { all: self.clone(), slot, identity })
    }

    fn taken(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        // A set is whole after every statement.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot in use. Keep it until the stage's folders are removed; dropping it frees the slot.
#[derive(Debug)]
pub struct IdentityLease {
    all: Arc<StageIdentities>,
    slot: u32,
    identity: StageIdentity,
}

impl IdentityLease {
    /// The ids, for the sandbox order and the folders.
    pub fn identity(&self) -> StageIdentity {
        self.identity
    }
}

impl Drop for IdentityLease {
    fn drop(&mut self) {
        self.all.taken().remove(&self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_that_run_at_once_have_disjoint_ids_and_slots_come_back() {
        let all = StageIdentities::new(1_000_000, 2, 990);
        let first = all.lease(SandboxProfile::OsUserns).unwrap();
        let second = all.lease(SandboxProfile::Cloud).unwrap();
        let (a, b) = (first.identity(), second.identity());
        assert!(a.uid + a.count <= b.uid || b.uid + b.count <= a.uid, "{a:?} meets {b:?}");
        assert!(all.lease(SandboxProfile::Cloud).is_none());
        drop(first);
        assert_eq!(all.lease(SandboxProfile::Cloud).unwrap().identity().uid, a.uid);
    }

    #[test]
    fn a_range_at_the_end_of_the_id_space_is_cut_and_never_wraps() {
        let all = StageIdentities::new(u32::MAX - 70000, 5, 990);
        let only = all.lease(SandboxProfile::Cloud);
        assert!(only.is_some() && all.lease(SandboxProfile::Cloud).is_none());
    }
}
