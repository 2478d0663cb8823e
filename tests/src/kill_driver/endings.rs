//! How a life of the daemon ends.

use std::time::Duration;

use tokio::task::JoinSet;

use super::leftovers::runners_of;
use super::orders::{Answered, Asked};
use super::random::Random;
use crate::daemon::Daemon;

/// A way to die, or to be hurt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// SIGKILL, some time after the orders were answered.
    Later,
    /// SIGKILL as soon as one order is answered.
    RightAfterAnswer,
    /// SIGKILL while orders are on their way.
    InFlight,
    /// SIGKILL a moment after SIGTERM.
    DuringShutdown,
    /// SIGKILL a moment after the daemon listens, while it recovers from its last death.
    DuringRecovery,
    /// SIGTERM; the daemon ends by itself.
    Shutdown,
    /// SIGKILL of one process of a stage; the daemon lives on.
    RunnerOnly,
}

impl Ending {
    /// Mostly kills.
    pub(super) fn draw(random: &mut Random) -> Ending {
        let all = [
            (Ending::Later, 40),
            (Ending::RightAfterAnswer, 12),
            (Ending::InFlight, 14),
            (Ending::DuringShutdown, 10),
            (Ending::DuringRecovery, 10),
            (Ending::Shutdown, 3),
            (Ending::RunnerOnly, 11),
        ];
        let weights = all.map(|(_, weight)| weight);
        all[random.weighted(&weights)].0
    }

    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Ending::Later => "SIGKILL at a random moment",
            Ending::RightAfterAnswer => "SIGKILL right after an answer",
            Ending::InFlight => "SIGKILL during requests",
            Ending::DuringShutdown => "SIGKILL during shutdown",
            Ending::DuringRecovery => "SIGKILL during recovery",
            Ending::Shutdown => "shutdown",
            Ending::RunnerOnly => "kill of a stage's process",
        }
    }

    /// Does the daemon die?
    pub(super) fn ends_daemon(self) -> bool {
        self != Ending::RunnerOnly
    }

    /// Are requests likely to go unanswered?
    pub(super) fn in_flight(self) -> bool {
        self == Ending::InFlight
    }

    /// Sends the requests, and ends the daemon as it is to end.
    pub(super) async fn come_about(
        self,
        daemon: &mut Daemon,
        random: &mut Random,
        requests: Vec<Asked>,
    ) -> Vec<Answered> {
        if self == Ending::DuringRecovery {
            // Nothing was posted in this life: it only tried to get up.
            tokio::time::sleep(Duration::from_millis(random.of(0..60))).await;
            daemon.kill();
            return Vec::new();
        }
        let (client, url) = (daemon.client.clone(), daemon.url().to_owned());
        let mut sending = JoinSet::new();
        for asked in requests {
            let (client, url) = (client.clone(), url.clone());
            sending.spawn(async move { asked.send(&client, &url).await });
        }
        match self {
            Ending::InFlight => {
                tokio::time::sleep(Duration::from_micros(random.of(0..12_000))).await;
                daemon.kill();
                return sending.join_all().await;
            }
            Ending::RightAfterAnswer => {
                let mut answers: Vec<Answered> = Vec::new();
                answers.extend(sending.join_next().await.map(|sent| sent.expect("no panic")));
                daemon.kill();
                answers.extend(sending.join_all().await);
                return answers;
            }
            _ => {}
        }
        let answers = sending.join_all().await;
        tokio::time::sleep(moment(random)).await;
        match self {
            Ending::DuringShutdown => {
                daemon.signal(libc::SIGTERM);
                tokio::time::sleep(Duration::from_millis(random.of(0..80))).await;
                daemon.kill();
            }
            Ending::Shutdown => {
                daemon.terminate();
            }
            Ending::RunnerOnly => kill_runner(daemon, random),
            _ => daemon.kill(),
        }
        answers
    }
}

/// Short lives for what happens at once, longer ones for stages that take their time.
fn moment(random: &mut Random) -> Duration {
    let (shortest, longest) = [(0, 40), (40, 400), (400, 1500)][random.weighted(&[30, 50, 20])];
    Duration::from_millis(random.of(shortest..longest))
}

fn kill_runner(daemon: &Daemon, random: &mut Random) {
    if let Some(pid) = random.pick(&runners_of(daemon.pid())) {
        // SAFETY: kill has no memory preconditions. The process was a descendant of our daemon a
        // moment ago; pids are not used again so soon.
        unsafe { libc::kill(*pid, libc::SIGKILL) };
    }
}
