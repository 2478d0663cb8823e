//! The stream of changes of this process.
//!
//! A change is published after it was recorded, so that whoever hears of it finds it in the store.
//! Slow listeners lose changes and are told so; they read the store again. Callbacks do not hang on
//! this stream: they are queued in the store, in the transaction of the change.

use std::sync::Arc;

use imagefactory_model::change::Change;
use tokio::sync::broadcast;

/// Changes kept for a listener that is behind. Progress comes a few times a second and image; a
/// listener that is a thousand behind does better to read the store.
const CHANGES_KEPT: usize = 1024;

/// Publishes changes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Changes {
    sender: broadcast::Sender<Arc<Change>>,
}

impl Changes {
    /// A stream without listeners.
    pub fn new() -> Changes {
        Changes { sender: broadcast::Sender::new(CHANGES_KEPT) }
    }

    /// Tells everybody who listens now.
    pub fn publish(&self, change: Change) {
        // An error means that nobody listens.
        self.sender.send(Arc::new(change)).ok();
    }

    /// Hears every change from now on.
    pub fn listen(&self) -> broadcast::Receiver<Arc<Change>> {
        self.sender.subscribe()
    }
}

impl Default for Changes {
    fn default() -> Self {
        Changes::new()
    }
}
