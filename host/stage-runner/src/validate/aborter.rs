//! The thread that calls a plugin's `abort` while an operation runs: whenever the mock host wishes
//! it, until the host ends wishing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::abi::imgf_instance;

use super::mock_host::MockHost;
use super::subject::Instance;

/// Calls `abort` on a thread of its own whenever the host wishes it, until the host ends wishing.
pub(super) struct Aborter {
    thread: Option<std::thread::JoinHandle<()>>,
    host: &'static MockHost,
    took: Arc<Mutex<Vec<Duration>>>,
}

impl Aborter {
    /// Listens for `instance`. `None`: no thread could be had.
    pub(super) fn new(
        host: &'static MockHost,
        abort: unsafe extern "C" fn(*mut imgf_instance),
        instance: Instance,
    ) -> Option<Aborter> {
        let wishes = host.abort_wishes();
        let took = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&took);
        let thread = std::thread::Builder::new().name("abort".into()).spawn(move || {
            let instance = instance;
            for _wish in wishes {
                let started = Instant::now();
                // SAFETY: the instance lives until this thread is joined; abort is [any-thread].
                unsafe { abort(instance.0) };
                taken.lock().unwrap_or_else(PoisonError::into_inner).push(started.elapsed());
            }
        });
        Some(Aborter { thread: Some(thread.ok()?), host, took })
    }

    /// Ends the thread; answers how long each call of `abort` took.
    pub(super) fn join(mut self) -> Vec<Duration> {
        self.host.end_abort_wishes();
        if let Some(thread) = self.thread.take() {
            thread.join().ok(); // a panic of ours cannot happen there
        }
        std::mem::take(&mut *self.took.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
