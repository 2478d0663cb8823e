//! Callbacks of orders that are made here: the URLs are checked as REST checks them, and where no
//! daemon works on the store, this process delivers them. What cannot be delivered before it ends
//! stays in the store for the next daemon.

use std::sync::Arc;
use std::time::Duration;

use imagefactory_notifications::callbacks::{CallbackRules, deliver};
use imagefactory_notifications::events::Changes;
use imagefactory_store::ImageStore;
use imagefactory_store::layout::StoreLayout;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::error::CommandError;

/// How long the end of the command waits for listeners: one answer's time-out and a retry.
const PATIENCE: Duration = Duration::from_secs(40);

/// How often the queue is looked at meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The URLs in `parameters.callbacks`.
pub(crate) fn urls(parameters: Option<&Map<String, Value>>) -> Result<Vec<String>, CommandError> {
    let Some(callbacks) = parameters.and_then(|parameters| parameters.get("callbacks")) else {
        return Ok(Vec::new());
    };
    let is_url = |text: &&str| {
        reqwest::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
    };
    let urls: Option<Vec<String>> = callbacks.as_array().and_then(|urls| {
        urls.iter().map(|url| url.as_str().filter(is_url).map(str::to_owned)).collect()
    });
    urls.ok_or_else(|| {
        CommandError::Usage("the parameter 'callbacks' is a list of http or https URLs".to_owned())
    })
}

/// Delivers callbacks while a command runs.
pub(crate) struct CallbackDelivery {
    rules: CallbackRules,
    running: Mutex<Option<JoinHandle<()>>>,
}

impl CallbackDelivery {
    /// Nothing is delivered before [`CallbackDelivery::begin`].
    pub(crate) fn new(public_only: bool) -> CallbackDelivery {
        CallbackDelivery { rules: CallbackRules { public_only }, running: Mutex::new(None) }
    }

    /// Begins to deliver, unless a daemon does.
    pub(crate) async fn begin(
        &self,
        layout: &StoreLayout,
        store: &Arc<dyn ImageStore>,
        changes: &Changes,
    ) {
        let mut running = self.running.lock().await;
        if running.is_some() || a_daemon_works_on(layout) {
            return;
        }
        let (store, changes, rules) = (Arc::clone(store), changes.clone(), self.rules);
        *running = Some(tokio::spawn(async move {
            if let Err(error) = deliver(store, changes, rules).await {
                tracing::warn!("callbacks wait for a daemon: {error}");
            }
        }));
    }

    /// Waits until the queue is empty, for a while, and ends.
    pub(crate) async fn end(&self, store: &Arc<dyn ImageStore>) {
        let Some(task) = self.running.lock().await.take() else { return };
        let emptied = async {
            while !task.is_finished()
                && store.next_callbacks(1).await.is_ok_and(|waiting| !waiting.is_empty())
            {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        if tokio::time::timeout(PATIENCE, emptied).await.is_err() {
            tracing::warn!("some callbacks were not delivered; the next imagefactoryd goes on");
        }
        task.abort();
    }
}

/// A daemon holds this lock for as long as it lives.
fn a_daemon_works_on(layout: &StoreLayout) -> bool {
    use rustix::fs::{FlockOperation, flock};
    let Ok(lock) = std::fs::File::open(layout.root().join("daemon.lock")) else { return false };
    flock(&lock, FlockOperation::NonBlockingLockShared).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check_urls(callbacks: Value, wanted: Option<usize>) {
        let parameters = json!({"callbacks": callbacks});
        assert_eq!(urls(parameters.as_object()).ok().map(|urls| urls.len()), wanted);
    }

    #[test]
    fn only_a_list_of_http_urls_is_taken() {
        check_urls(json!([]), Some(0));
        check_urls(json!(["http://user:pass@h/p", "https://h"]), Some(2));
        check_urls(json!(["ftp://h/"]), None);
        check_urls(json!(["h"]), None);
        check_urls(json!("http://h/"), None);
        check_urls(json!([1]), None);
        assert!(urls(None).unwrap().is_empty());
    }
}
