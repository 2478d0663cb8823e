//! Ctrl-C (and SIGTERM) while something is built: the first asks for a clean end, the second ends
//! this process at once. Commands that only read leave the signals to the system.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::error::CommandError;

/// As shells say it: 128 and the number of the signal.
const BY_SIGINT: u8 = 130;
const BY_SIGTERM: u8 = 143;

/// Knows whether somebody asked for the end.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    asked: CancellationToken,
    status: Arc<AtomicU8>,
}

impl Interrupt {
    /// Listens from now on, for as long as the process lives.
    pub(crate) fn listen() -> Result<Interrupt, CommandError> {
        let interrupt = signal(SignalKind::interrupt()).map_err(CommandError::Start)?;
        let terminate = signal(SignalKind::terminate()).map_err(CommandError::Start)?;
        let asked = CancellationToken::new();
        let status = Arc::new(AtomicU8::new(BY_SIGINT));
        let listener = Interrupt { asked, status };
        tokio::spawn(listener.clone().hear(interrupt, terminate));
        Ok(listener)
    }

    async fn hear(self, mut interrupt: Signal, mut terminate: Signal) {
        let first = either(&mut interrupt, &mut terminate).await;
        self.status.store(first, Ordering::Relaxed);
        self.asked.cancel();
        let second = either(&mut interrupt, &mut terminate).await;
        eprintln!(
            "imagefactory: ended at once; what was left behind is cleaned up by imagefactoryd"
        );
        std::process::exit(second.into());
    }

    /// Returns when the end was asked for.
    pub(crate) async fn asked(&self) {
        self.asked.cancelled().await;
    }

    /// What to exit with, if the end was asked for.
    pub(crate) fn exit_status(&self) -> Option<u8> {
        self.asked.is_cancelled().then(|| self.status.load(Ordering::Relaxed))
    }
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) -> u8 {
    tokio::select! {
        _ = interrupt.recv() => BY_SIGINT,
        _ = terminate.recv() => BY_SIGTERM,
    }
}
