//! What the daemon counts about itself, for the metrics: requests by method and status.

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::http::{Method, StatusCode};

/// The methods that are told apart.
pub(crate) const METHODS: [&str; 5] = ["GET", "HEAD", "POST", "DELETE", "other"];

/// Status codes from 100 to 599.
const STATUSES: usize = 500;

/// Counts since the start. Cheap enough for every request: one addition.
#[derive(Debug)]
pub(crate) struct Counters {
    requests: [Box<[AtomicU64]>; METHODS.len()],
}

impl Counters {
    /// All zero.
    pub(crate) fn new() -> Counters {
        let zeros = || (0..STATUSES).map(|_| AtomicU64::new(0)).collect();
        Counters { requests: std::array::from_fn(|_| zeros()) }
    }

    /// One request was answered.
    pub(crate) fn answered(&self, method: &Method, status: StatusCode) {
        let known = METHODS.iter().position(|known| *known == method.as_str());
        let method = known.unwrap_or(METHODS.len() - 1);
        let status = usize::from(status.as_u16()).saturating_sub(100).min(STATUSES - 1);
        self.requests[method][status].fetch_add(1, Ordering::Relaxed);
    }

    /// Method, status and count of all that is not zero.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (&'static str, usize, u64)> {
        METHODS.iter().zip(&self.requests).flat_map(|(method, statuses)| {
            let counts = statuses.iter().map(|count| count.load(Ordering::Relaxed));
            let seen = counts.enumerate().filter(|(_, count)| *count > 0);
            seen.map(|(status, count)| (*method, status + 100, count))
        })
    }
}
