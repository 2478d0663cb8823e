//! The way down: how a stage that must end is ended, step by step, without ever waiting for ever.
//!
//! ```text
//! asked ──grace──▶ terminated ──5 s──▶ killed ──bound──▶ given up
//!   (Cancel frame)    (SIGTERM)        (everything)       (watch list)
//! ```
//!
//! Who can still answer is asked first; who fell silent starts at the second step, who broke the
//! protocol at the third. A step already taken is never taken back. Says *what* to do and *when*;
//! the conversation does it.

use std::time::Duration;

use tokio::time::Instant;

use super::verdict::StopReason;

/// Killing is repeated this often until nothing is left: who forks without a cgroup may slip one
/// round.
const KILL_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Send the Cancel frame.
    Ask,
    /// SIGTERM to the group.
    Terminate,
    /// SIGKILL to everything.
    Kill,
    /// Leave it to the watch list.
    GiveUp,
}

/// How long each step is given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// After Cancel.
    pub(super) cancel: Duration,
    /// After SIGTERM.
    pub(super) terminate: Duration,
    /// After SIGKILL.
    pub(super) kill: Duration,
}

/// A way down that has begun.
#[derive(Debug)]
pub(super) struct Ladder {
    patience: Patience,
    next: Step,
    due: Instant,
    give_up_at: Option<Instant>,
}

impl Ladder {
    /// Begins. `answers` = the plugin's operation runs, so that a Cancel frame reaches it.
    pub(super) fn begin(reason: &StopReason, answers: bool, patience: Patience) -> Self {
        let next = match reason {
            StopReason::Cancelled | StopReason::Deadline(_) if answers => Step::Ask,
            StopReason::Violation | StopReason::Strict(_) | StopReason::Host(_) => Step::Kill,
            _ => Step::Terminate,
        };
        Ladder { patience, next, due: Instant::now(), give_up_at: None }
    }

    /// When [`Self::step`] is to be called.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Takes the step that is due.
    pub(super) fn step(&mut self) -> Step {
        let now = Instant::now();
        let step = self.next;
        match step {
            Step::Ask => {
                self.next = Step::Terminate;
                self.due = now + self.patience.cancel;
            }
            Step::Terminate => {
                self.next = Step::Kill;
                self.due = now + self.patience.terminate;
            }
            Step::Kill => {
                let give_up_at = *self.give_up_at.get_or_insert(now + self.patience.kill);
                self.due = give_up_at.min(now + KILL_AGAIN_AFTER);
                self.next = if self.due >= give_up_at { Step::GiveUp } else { Step::Kill };
            }
            Step::GiveUp => self.due = now + self.patience.kill,
        }
        step
    }

    /// Goes straight to killing, where it is not there yet.
    pub(super) fn hurry(&mut self) {
        if matches!(self.next, Step::Ask | Step::Terminate) {
            self.next = Step::Kill;
            self.due = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        cancel: Duration::from_secs(10),
        terminate: Duration::from_secs(5),
        kill: Duration::from_millis(250),
    };

    async fn check(reason: StopReason, answers: bool, want: &[Step]) {
        let mut ladder = Ladder::begin(&reason, answers, PATIENCE);
        let mut steps = Vec::new();
        let start = Instant::now();
        while steps.last() != Some(&Step::GiveUp) {
            tokio::time::sleep_until(ladder.due()).await;
            steps.push(ladder.step());
        }
        steps.dedup();
        assert_eq!(steps, want, "{reason:?}");
        let bound = PATIENCE.cancel + PATIENCE.terminate + PATIENCE.kill;
        assert!(start.elapsed() <= bound + Duration::from_millis(10), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_can_answer_is_asked_and_nobody_is_waited_for_for_ever() {
        use Step::*;
        check(StopReason::Cancelled, true, &[Ask, Terminate, Kill, GiveUp]).await;
        check(StopReason::Cancelled, false, &[Terminate, Kill, GiveUp]).await;
        check(StopReason::Silence(Duration::ZERO), true, &[Terminate, Kill, GiveUp]).await;
        check(StopReason::Violation, true, &[Kill, GiveUp]).await;
    }
}
