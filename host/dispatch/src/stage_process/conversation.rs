//! One runner from Hello to its end: the only loop that waits.
//!
//! Everything that may happen to a stage is an arm of [`Conversation::run`]: a frame, an answer of
//! a service, a clock, somebody's cancel, the end of the process. It always comes to an end: each
//! state has a clock, and the last step of the ladder waits for nobody.

use std::pin::Pin;
use std::process::ExitStatus;

use imagefactory_model::frames::{HostFrame, RunnerFrame, SandboxProfile};
use imagefactory_model::stage::{LogLevel, StageOrder};
use tokio::time::{Duration, Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::calls::Calls;
use super::events::{EventSink, StageEvent};
use super::ladder::{Ladder, Patience, Step};
use super::services::ServiceError;
use super::spawn::RunnerProcess;
use super::stage_log::StageLog;
use super::testimony::{Standing, Testimony};
use super::verdict::StopReason;
use super::wire::{Broken, FrameReader, FrameSender};

/// Between END and the end of the process: destructors of a library, reaping by the runner's parent
/// half. What takes longer hangs.
const EXIT_PATIENCE: Duration = Duration::from_secs(10);

/// After the process has ended: what it wrote is in the socket's buffer and is read at once, or as
/// slowly as a flood is (`wire.rs`). Only a process that cannot be killed still holds the other
/// end.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(5);

/// How often progress that was held back and losses of the log are told.
const TICK: Duration = Duration::from_millis(500);

/// The clocks of one stage.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    pub(super) ready: Duration,
    /// `None` when only described.
    pub(super) deadline: Option<Duration>,
    pub(super) heartbeat: Duration,
    pub(super) patience: Patience,
}

/// Becomes done when the attempt is recorded.
pub(super) type Recording = Pin<Box<dyn Future<Output = Result<(), ServiceError>> + Send>>;

/// A running conversation.
pub(super) struct Conversation<'a> {
    pub(super) process: RunnerProcess,
    pub(super) reader: FrameReader,
    pub(super) sender: FrameSender,
    pub(super) testimony: Testimony<'a>,
    pub(super) calls: Calls,
    pub(super) log: StageLog,
    pub(super) events: EventSink,
    pub(super) clocks: Clocks,
    pub(super) begun: Instant,
    /// `None` when only described, or recorded already.
    pub(super) recording: Option<Recording>,
    /// Taken when Start is sent.
    pub(super) order: Option<StageOrder>,
    pub(super) strict: bool,
    /// Layers that the supervisor adds to the runner's report.
    pub(super) own_layers: (Vec<String>, Vec<String>),
    pub(super) state: State,
}

/// What the loop knows besides the testimony.
#[derive(Debug, Default)]
pub(super) struct State {
    wire_closed: bool,
    heard: Option<Instant>,
    ended_at: Option<Instant>,
    ladder: Option<Ladder>,
    pub(super) stopped: Option<StopReason>,
    pub(super) violation: Option<String>,
    pub(super) signalled: bool,
}

impl Conversation<'_> {
    /// Runs until the process has ended or was given up. `None` = given up: it is killed and hangs.
    pub(super) async fn run(&mut self, cancel: &CancellationToken) -> Option<ExitStatus> {
        let mut tick = Instant::now() + TICK;
        loop {
            let clock = self.next_clock().min(tick);
            let asked_to_cancel = self.state.stopped.is_none() && self.state.ended_at.is_none();
            tokio::select! {
                ended = self.process.ended() => {
                    if let Err(error) = ended {
                        self.stop(StopReason::Host(format!("cannot watch the runner: {error}")));
                    }
                    return self.bury().await;
                }
                frame = self.reader.next(), if !self.state.wire_closed => self.take(frame),
                (id, reply) = self.calls.answered() => {
                    self.send(&HostFrame::Reply { id, reply });
                }
                recorded = wait_for(&mut self.recording) => {
                    self.recording = None;
                    match recorded {
                        Ok(()) => self.start_when_possible(),
                        Err(error) => self.stop(StopReason::Host(format!(
                            "the attempt cannot be recorded, so it was not started: {error}"
                        ))),
                    }
                }
                () = cancel.cancelled(), if asked_to_cancel => self.stop(StopReason::Cancelled),
                () = sleep_until(clock) => {}
            }
            let now = Instant::now();
            if now >= tick {
                tick = now + TICK;
                self.testimony.pass_progress(false);
                self.log.tell_losses();
            }
            if self.look_at_clocks(now) == Some(Step::GiveUp) {
                return None;
            }
        }
    }

    fn take(&mut self, frame: Result<RunnerFrame, Broken>) {
        match frame {
            Ok(frame) => {
                self.state.heard = Some(Instant::now());
                let before = self.testimony.standing;
                if let Err(breach) = self.testimony.hear(frame, &mut self.calls) {
                    self.breach(breach);
                }
                match self.testimony.standing {
                    Standing::Loaded if before == Standing::Greeted => self.loaded(),
                    Standing::Ended if before != Standing::Ended => {
                        self.state.ended_at = Some(Instant::now());
                    }
                    _ => {}
                }
            }
            Err(Broken::Garbage(breach)) => {
                // Nothing after it can be trusted to begin at a frame.
                self.state.wire_closed = true;
                self.breach(breach);
            }
            Err(Broken::Closed | Broken::Io) => {
                // Usually the process has ended, too, and that is seen next. One that closed its
                // socket and stays is given the time of one that was told to exit.
                self.state.wire_closed = true;
                self.state.ended_at.get_or_insert_with(Instant::now);
            }
        }
    }

    fn loaded(&mut self) {
        let Some(ready) = &mut self.testimony.ready else { return };
        ready.sandbox.active.append(&mut self.own_layers.0);
        ready.sandbox.missing.append(&mut self.own_layers.1);
        let report = ready.sandbox.clone();
        if report.active.iter().any(|layer| layer.starts_with("pid-namespace")) {
            self.process.in_pid_namespace = true;
        }
        // What os-root mounts may be a loop device's, which is to be free when the stage is over.
        if report.profile != SandboxProfile::OsRoot
            && report.active.iter().any(|layer| layer == "mount-namespace")
        {
            self.process.hold_mounts();
        }
        if self.strict && !report.missing.is_empty() {
            let missing = report.missing.join("; ");
            self.stop(StopReason::Strict(missing));
            return;
        }
        self.events.send(StageEvent::SandboxReport(report));
        self.start_when_possible();
    }

    /// Start goes out when the plugin is loaded and the attempt is recorded, whichever comes last.
    fn start_when_possible(&mut self) {
        let possible = self.testimony.standing == Standing::Loaded
            && self.recording.is_none()
            && self.state.stopped.is_none();
        if possible && let Some(order) = self.order.take() {
            self.testimony.standing = Standing::Running;
            self.send(&HostFrame::Start(Box::new(order)));
        }
    }

    fn send(&mut self, frame: &HostFrame) {
        if let Err(breach) = self.sender.send(frame) {
            self.breach(breach);
        }
    }

    /// The first breach is the cause; what follows is its consequence.
    fn breach(&mut self, breach: String) {
        self.state.violation.get_or_insert(breach);
        self.stop(StopReason::Violation);
        if let Some(ladder) = &mut self.state.ladder {
            ladder.hurry();
        }
    }

    /// Begins the way down, unless it has begun.
    fn stop(&mut self, reason: StopReason) {
        if self.state.ladder.is_some() {
            return;
        }
        let answers = self.testimony.standing == Standing::Running && !self.state.wire_closed;
        self.state.ladder = Some(Ladder::begin(&reason, answers, self.clocks.patience));
        self.state.stopped = Some(reason);
    }

    fn next_clock(&self) -> Instant {
        let far = self.begun + Duration::from_secs(86_400 * 365);
        let ladder = self.state.ladder.as_ref().map(Ladder::due);
        ladder.unwrap_or_else(|| self.expiry().map_or(far, |(when, _)| when))
    }

    /// The clock that runs out first while nobody has stopped the stage.
    fn expiry(&self) -> Option<(Instant, StopReason)> {
        let mut clocks = Vec::with_capacity(3);
        if let Some(ended_at) = self.state.ended_at {
            clocks.push((ended_at + EXIT_PATIENCE, StopReason::Lingering(EXIT_PATIENCE)));
        } else if self.testimony.standing == Standing::Greeted {
            let limit = self.clocks.ready;
            clocks.push((self.begun + limit, StopReason::SlowLoad(limit)));
        } else {
            let limit = self.clocks.heartbeat;
            let heard = self.state.heard.unwrap_or(self.begun);
            clocks.push((heard + limit, StopReason::Silence(limit)));
        }
        if let Some(limit) = self.clocks.deadline {
            clocks.push((self.begun + limit, StopReason::Deadline(limit)));
        }
        clocks.into_iter().min_by_key(|(when, _)| *when)
    }

    fn look_at_clocks(&mut self, now: Instant) -> Option<Step> {
        if self.state.ladder.is_none()
            && let Some((when, reason)) = self.expiry()
            && now >= when
        {
            self.stop(reason);
        }
        let ladder = self.state.ladder.as_mut().filter(|ladder| now >= ladder.due())?;
        let step = ladder.step();
        match step {
            Step::Ask => self.send(&HostFrame::Cancel),
            Step::Terminate => {
                self.state.signalled = true;
                self.process.terminate_group();
            }
            Step::Kill => {
                self.state.signalled = true;
                self.process.kill_everything();
            }
            Step::GiveUp => {}
        }
        Some(step)
    }

    /// The process has ended: nobody of its stage survives it, its last words are heard, it is
    /// reaped.
    async fn bury(&mut self) -> Option<ExitStatus> {
        // While it is not reaped its pid, and with it the id of its group, is nobody else's.
        let left = self.process.kill_everything() + self.process.end_orphans().await;
        if left > 0 && self.state.stopped.is_none() {
            self.log.host(
                LogLevel::Warn,
                format!(
                    "{left} processes of the stage were still there at its end and were killed"
                ),
            );
        }
        let until = Instant::now() + LAST_WORDS_PATIENCE;
        while !self.state.wire_closed {
            match timeout_at(until, self.reader.next()).await {
                Ok(frame) => self.take(frame),
                Err(_) => break,
            }
        }
        self.testimony.pass_progress(true);
        match self.process.reap() {
            Ok(status) => status,
            Err(error) => {
                self.state.stopped =
                    Some(StopReason::Host(format!("the runner's status is lost: {error}")));
                None
            }
        }
    }
}

/// Resolves with what is waited for; never, when there is nothing.
async fn wait_for(recording: &mut Option<Recording>) -> Result<(), ServiceError> {
    match recording {
        Some(recording) => recording.await,
        None => std::future::pending().await,
    }
}
