//! What is seen of a running stage.
//!
//! Events are for eyes and progress bars: they go through a bounded channel without waiting, so a
//! slow reader loses events and never slows the supervisor. Whatever must not be lost comes another
//! way: journal and checkpoints through `StageServices`, everything else in the outcome or the
//! failure.

use imagefactory_model::frames::SandboxReport;
use imagefactory_model::stage::{JournalEntry, LogLine, Progress};
use serde_json::Value;
use tokio::sync::mpsc;

use super::services::SpawnedAttempt;

/// One thing that happened in a stage, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum StageEvent {
    /// What confines the plugin.
    SandboxReport(SandboxReport),
    /// The attempt was recorded; Start follows.
    Spawned(SpawnedAttempt),
    /// A line of the log, secrets removed.
    Log(LogLine),
    /// How far it is, secrets removed.
    Progress(Progress),
    /// A journal entry that is durable now.
    Journal(JournalEntry),
    /// A document for the OS plugin, checked.
    TargetContent(Value),
}

/// The supervisor's end of the channel.
#[derive(Debug, Clone)]
pub(super) struct EventSink {
    events: mpsc::Sender<StageEvent>,
}

impl EventSink {
    pub(super) fn new(events: mpsc::Sender<StageEvent>) -> Self {
        EventSink { events }
    }

    /// Hands an event over; false = the reader is behind (or gone) and the event is lost.
    pub(super) fn send(&self, event: StageEvent) -> bool {
        self.events.try_send(event).is_ok()
    }
}
