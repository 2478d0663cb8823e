//! A limit of bytes per second that all uploads of a client share.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Bytes are admitted at an even pace. A piece is admitted when those before it are through, so a
/// pause is never longer than one piece takes.
#[derive(Debug)]
pub(crate) struct Bandwidth {
    bytes_per_s: u64,
    free_at: Mutex<Instant>,
}

impl Bandwidth {
    pub(crate) fn new(bytes_per_s: u64) -> Bandwidth {
        Bandwidth { bytes_per_s: bytes_per_s.max(1), free_at: Mutex::new(Instant::now()) }
    }

    /// Pieces that keep the pace even: a tenth of a second, at most the usual piece.
    pub(crate) fn piece_bytes(&self, usual: usize) -> usize {
        usize::try_from(self.bytes_per_s / 10).unwrap_or(usize::MAX).clamp(1, usual)
    }

    /// Waits until so many bytes may go.
    pub(crate) async fn admit(&self, bytes: usize) {
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
        let start = {
            let mut free_at = self.free_at.lock().unwrap_or_else(|poison| poison.into_inner());
            let start = (*free_at).max(Instant::now());
            *free_at = start + takes;
            start
        };
        tokio::time::sleep_until(start.into()).await;
    }
}
