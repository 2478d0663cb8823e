//! Places to build in: how many orders are worked on at once, by kind and target.
//!
//! The original had `max_concurrent_local_sessions` and `max_concurrent_ec2_sessions`; both stand,
//! and the latter is one case of a limit for each target. An order takes its places in a fixed
//! order (target first, then local), so two orders can never wait for each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceLimits {
    /// Builds on this machine (base and target images).
    pub local: usize,
    /// Pushes, snapshots and deletions in all.
    pub remote: usize,
    /// Pushes and snapshots for a target, where it has a limit of its own (`ec2`).
    pub by_target: BTreeMap<String, usize>,
}

impl Default for PlaceLimits {
    fn default() -> Self {
        // The original's defaults: 2 local builds, 1 EC2 session.
        PlaceLimits { local: 2, remote: 8, by_target: BTreeMap::from([("ec2".to_owned(), 1)]) }
    }
}

/// The places of a factory.
#[derive(Debug)]
pub struct Places {
    local: Arc<Semaphore>,
    remote: Arc<Semaphore>,
    by_target: BTreeMap<String, Arc<Semaphore>>,
}

/// Held while an order is worked on.
#[derive(Debug)]
pub struct Place {
    _permits: Vec<OwnedSemaphorePermit>,
}

impl Places {
    /// Places as configured; a limit of 0 would stop the factory and counts as 1.
    pub fn new(limits: &PlaceLimits) -> Places {
        let semaphore =
            |limit: usize| Arc::new(Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS)));
        Places {
            local: semaphore(limits.local),
            remote: semaphore(limits.remote),
            by_target: limits
                .by_target
                .iter()
                .map(|(target, limit)| (target.clone(), semaphore(*limit)))
                .collect(),
        }
    }

    /// Waits for a place to build on this machine.
    pub async fn local(&self) -> Place {
        Place { _permits: permit(&self.local).await.into_iter().collect() }
    }

    /// Waits for a place to work on a provider of this target.
    pub async fn remote(&self, target: Option<&str>) -> Place {
        let mut permits = Vec::new();
        if let Some(own) = target.and_then(|target| self.by_target.get(target)) {
            permits.extend(permit(own).await);
        }
        permits.extend(permit(&self.remote).await);
        Place { _permits: permits }
    }
}

/// `None` is impossible: the semaphores are never closed.
async fn permit(semaphore: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(semaphore).acquire_owned().await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn check_waits(places: &Places, target: &str, waits: bool) {
        let place = tokio::time::timeout(Duration::from_millis(50), places.remote(Some(target)));
        assert_eq!(place.await.is_err(), waits, "{target}");
    }

    #[tokio::test]
    async fn a_target_with_a_limit_does_not_hold_up_the_others() {
        let places = Places::new(&PlaceLimits::default());
        let held = places.remote(Some("ec2")).await;
        check_waits(&places, "ec2", true).await;
        check_waits(&places, "openstack-kvm", false).await;
        drop(held);
        check_waits(&places, "ec2", false).await;
    }
}
