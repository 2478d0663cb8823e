//! The place where the current snapshot lies, for all threads.
//!
//! Readers take an `Arc` and keep it as long as they like; a reload or a description puts a new
//! snapshot there. Changes go one after the other, so that a description that comes in during a
//! reload is not lost, nor the reload.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::registry::Registry;

/// Shared; made once at start and handed around in an `Arc`.
#[derive(Debug, Default)]
pub struct RegistryHandle {
    current: RwLock<Arc<Registry>>,
    changing: Mutex<()>,
}

impl RegistryHandle {
    /// With a first snapshot.
    pub fn new(registry: Registry) -> Self {
        RegistryHandle { current: RwLock::new(Arc::new(registry)), changing: Mutex::new(()) }
    }

    /// The snapshot of this moment. Never waits for a change in the making.
    pub fn load(&self) -> Arc<Registry> {
        // Behind a poisoned lock lies a whole Arc all the same: it is only ever replaced.
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts the snapshot there that `change` makes of the current one. `change` may read files:
    /// other changes wait for it, readers do not.
    pub fn update(&self, change: impl FnOnce(&Registry) -> Registry) -> Arc<Registry> {
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Arc::new(change(&self.load()));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh.clone();
        fresh
    }

    /// Puts a snapshot there, whatever the current one is.
    pub fn replace(&self, registry: Registry) {
        self.update(|_| registry);
    }
}
