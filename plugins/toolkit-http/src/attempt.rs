//! One attempt of one request: sent, watched, its answer read.
//!
//! While it waits it looks ten times a second whether the stage is to end, whether anything still
//! moves, and tells how far it is.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError};
use reqwest::Url;

use crate::failure::{Failure, transport_failure};
use crate::progress::Progress;
use crate::redaction::host_and_port;

/// A fiftieth of the 5 s that plugin.h allows between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What moved in one attempt.
pub(crate) struct Meter {
    started: Instant,
    moved_ms: AtomicU64,
    sent: AtomicU64,
    failure: Mutex<Option<io::Error>>,
    progress: Option<Progress>,
}

impl Meter {
    pub(crate) fn new(progress: Option<Progress>) -> Arc<Meter> {
        Arc::new(Meter {
            started: Instant::now(),
            moved_ms: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            failure: Mutex::new(None),
            progress,
        })
    }

    /// Bytes of the body went to the network.
    pub(crate) fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        if let Some(progress) = &self.progress {
            progress.add(bytes);
        }
        self.moved();
    }

    /// Something came or went.
    pub(crate) fn moved(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(now, Ordering::Relaxed);
    }

    /// The body could not be read here.
    pub(crate) fn fail(&self, error: io::Error) {
        *self.failure.lock().unwrap_or_else(|poison| poison.into_inner()) = Some(error);
    }

    /// The attempt is to be repeated: its bytes do not count.
    pub(crate) fn take_back(&self) {
        if let Some(progress) = &self.progress {
            progress.take_back(self.sent.swap(0, Ordering::Relaxed));
        }
    }

    fn idle_for(&self) -> Duration {
        let moved = Duration::from_millis(self.moved_ms.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(moved)
    }
}

/// What ends an attempt.
pub(crate) struct Watch<'w> {
    pub(crate) host: &'w Host,
    pub(crate) stop: &'w AtomicBool,
    pub(crate) url: &'w Url,
    pub(crate) meter: Arc<Meter>,
    pub(crate) idle: Duration,
    pub(crate) whole: Option<Duration>,
}

impl Watch<'_> {
    /// Waits for reqwest, with an eye on everything else.
    pub(crate) async fn over<T>(
        &self,
        work: impl Future<Output = reqwest::Result<T>>,
    ) -> Result<T, Failure> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => {
                    self.meter.moved();
                    return done.map_err(|error| self.failure(error));
                }
                () = tokio::time::sleep(LOOK_EVERY) => self.look()?,
            }
        }
    }

    fn look(&self) -> Result<(), Failure> {
        check_wanted(self.host, self.stop).map_err(Failure::Final)?;
        if let Some(progress) = &self.meter.progress {
            progress.tell(self.host).map_err(Failure::Final)?;
        }
        let at = host_and_port(self.url);
        let message = if self.meter.idle_for() > self.idle {
            format!("{at} was silent for {} s", self.idle.as_secs())
        } else if self.whole.is_some_and(|whole| self.meter.started.elapsed() > whole) {
            let seconds = self.whole.unwrap_or_default().as_secs();
            format!("{at} has not answered within {seconds} s")
        } else {
            return Ok(());
        };
        let error = PluginError::new(ErrorCode::Timeout, message)
            .hint("is the service overloaded? its log may say what it waits for");
        Err(Failure::BrokenOff(error.retryable()))
    }

    fn failure(&self, error: reqwest::Error) -> Failure {
        let mut own = self.meter.failure.lock().unwrap_or_else(|poison| poison.into_inner());
        match own.take() {
            Some(error) => {
                let error = PluginError::from(error);
                Failure::Final(error.while_doing("what is to be sent cannot be read"))
            }
            None => transport_failure(error, self.url),
        }
    }
}

/// Waits, and ends as soon as the stage is to end.
pub(crate) async fn pause(
    host: &Host,
    stop: &AtomicBool,
    pause: Duration,
) -> Result<(), PluginError> {
    let until = tokio::time::Instant::now() + pause;
    loop {
        check_wanted(host, stop)?;
        let now = tokio::time::Instant::now();
        if now >= until {
            return Ok(());
        }
        tokio::time::sleep_until(until.min(now + LOOK_EVERY)).await;
    }
}

/// Is anybody still interested?
pub(crate) fn check_wanted(host: &Host, stop: &AtomicBool) -> Result<(), PluginError> {
    if stop.load(Ordering::Relaxed) {
        return Err(PluginError::cancelled());
    }
    host.check_cancelled()
}
