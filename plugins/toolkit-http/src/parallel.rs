//! Several requests at once, bounded; the first error ends the others.

use std::sync::Mutex;

use imagefactory_plugin_sdk::author::{ErrorCode, PluginError, Result};

use crate::client::HttpClient;

/// Calls `work` for each item, at most `at_once` at a time, in the order of the items. After the
/// first error no further item is begun, and requests that are under way with the client handed to
/// `work` end as if cancelled. The items may be an iterator that reads ahead of nothing.
pub fn parallel<T: Send>(
    client: &HttpClient,
    at_once: usize,
    items: impl IntoIterator<Item = T, IntoIter: Send>,
    work: impl Fn(&HttpClient, T) -> Result<()> + Sync,
) -> Result<()> {
    let client = client.group();
    let items = Mutex::new(items.into_iter());
    let first_error = Mutex::new(None);
    let next = || items.lock().unwrap_or_else(|poison| poison.into_inner()).next();
    let fail = |error: PluginError| {
        let mut first = first_error.lock().unwrap_or_else(|poison| poison.into_inner());
        // Kept before the others are stopped, so that none of their "cancelled" comes first.
        first.get_or_insert(error);
        client.stop();
    };
    std::thread::scope(|scope| {
        let one = || {
            while !client.is_stopped() {
                let Some(item) = next() else { return };
                if let Err(error) = work(&client, item) {
                    fail(error);
                }
            }
        };
        let workers: Vec<_> = (0..at_once.max(1))
            .map_while(|_| std::thread::Builder::new().spawn_scoped(scope, one).ok())
            .collect();
        if workers.is_empty() {
            // No thread to be had: one after the other then.
            one();
        }
        for worker in workers {
            if worker.join().is_err() {
                fail(PluginError::new(ErrorCode::Panic, "a thread of an upload panicked"));
            }
        }
    });
    match first_error.into_inner().unwrap_or_else(|poison| poison.into_inner()) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
