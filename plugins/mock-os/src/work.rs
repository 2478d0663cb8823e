//! The work that both mock plugins pretend to do: steps that take time, report progress, end when
//! asked to, and fail on demand. MockCloud includes this file too.
//!
//! | parameter                  |                                                              |
//! |----------------------------|--------------------------------------------------------------|
//! | `mock_duration_ms`         | how long all steps take together, 0 to an hour               |
//! | `mock_steps`               | how many steps, 1 to 1000                                    |
//! | `mock_fail`                | fail with this text when the steps are done                  |
//! | `mock_fail_retryable_times`| fail, worth another attempt, in the first so many attempts   |
//! | `mock_crash`               | end the process (SIGABRT) when the steps are done            |

use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::author::json::Object;
use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result, Stage};

/// An hour: longer than any test waits, short enough to end a forgotten one.
const DURATION_MS_MAX: u64 = 3_600_000;

/// A step is one progress report; more than a thousand tell nothing new.
const STEPS_MAX: u64 = 1000;

/// The wishes of one stage.
pub(crate) struct Work {
    duration_ms: u64,
    steps: u64,
    end: End,
}

/// How the work ends.
enum End {
    Well,
    Fail(String),
    FailForNow { attempt: u32, attempts: u64 },
    Crash,
}

impl Work {
    /// Reads the parameters; one that cannot be is the user's fault.
    pub(crate) fn from_parameters(stage: &Stage<'_>) -> Result<Work> {
        let attempts = stage.number_parameter("mock_fail_retryable_times")?.unwrap_or(0);
        let end = if stage.bool_parameter("mock_crash")? == Some(true) {
            End::Crash
        } else if let Some(text) = stage.text_parameter("mock_fail")? {
            End::Fail(text)
        } else if u64::from(stage.attempt()) <= attempts {
            End::FailForNow { attempt: stage.attempt(), attempts }
        } else {
            End::Well
        };
        Ok(Work {
            duration_ms: number(stage, "mock_duration_ms", 0, 0..=DURATION_MS_MAX)?,
            steps: number(stage, "mock_steps", 4, 1..=STEPS_MAX)?,
            end,
        })
    }

    /// The values used, for the result `effective_parameters`.
    pub(crate) fn used(&self) -> Object {
        Object::new().number("mock_duration_ms", self.duration_ms).number("mock_steps", self.steps)
    }

    /// Does all steps.
    pub(crate) fn run(&self, host: &Host, phase: &str) -> Result<()> {
        self.run_from(host, phase, 0, |_| Ok(()))
    }

    /// Does the steps after the first `done`; tells `step_done` how many are done after each.
    pub(crate) fn run_from(
        &self,
        host: &Host,
        phase: &str,
        done: u64,
        step_done: impl Fn(u64) -> Result<()>,
    ) -> Result<()> {
        let begin = Instant::now();
        for step in done..self.steps {
            host.progress(phase, "working", step, self.steps)?;
            let due = Duration::from_millis(self.duration_ms * (step + 1 - done) / self.steps);
            host.sleep_unless_cancelled(due.saturating_sub(begin.elapsed()))?;
            step_done(step + 1)?;
        }
        host.progress(phase, "done", self.steps, self.steps)?;
        match &self.end {
            End::Well => Ok(()),
            End::Fail(text) => Err(PluginError::new(ErrorCode::Internal, text.as_str())),
            End::FailForNow { attempt, attempts } => {
                let message = format!("attempt {attempt} fails, as the first {attempts} are to");
                Err(PluginError::new(ErrorCode::Unavailable, message).retryable())
            }
            End::Crash => std::process::abort(),
        }
    }
}

fn number(
    stage: &Stage<'_>,
    name: &str,
    default: u64,
    allowed: std::ops::RangeInclusive<u64>,
) -> Result<u64> {
    let value = stage.number_parameter(name)?.unwrap_or(default);
    if allowed.contains(&value) {
        return Ok(value);
    }
    let message = format!("{name} is {value}, not {} to {}", allowed.start(), allowed.end());
    Err(PluginError::user_fault(message))
}
