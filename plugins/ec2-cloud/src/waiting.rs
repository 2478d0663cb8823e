//! Waits for what AWS does by itself: a snapshot that completes, an image that becomes available.

use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};

use crate::aws::Aws;
use crate::tags::{image, snapshot};

/// The first question comes soon: with little data it is done by then.
const ASK_FIRST: Duration = Duration::from_millis(200);

/// Later ones come seldom: each counts against the account's limit of calls.
const ASK_EVERY: Duration = Duration::from_secs(15);

/// A terabyte that is copied to another region takes some hours.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);

/// What is not there at first may just not have been heard of everywhere.
const APPEARS_WITHIN: Duration = Duration::from_secs(60);

/// How far something is.
enum State {
    Ready,
    Going(String),
    Absent,
    Failed(String),
}

/// Until a snapshot can be used.
pub(crate) fn until_completed(host: &Host, aws: &Aws, id: &str) -> Result<()> {
    wait(host, id, ("complete", "waiting for the snapshot"), || {
        Ok(match snapshot(aws, id)? {
            None => State::Absent,
            Some(found) => match found.status.as_str() {
                "completed" => State::Ready,
                "error" => State::Failed(found.message.unwrap_or_else(|| "error".to_owned())),
                other => State::Going(other.to_owned()),
            },
        })
    })
}

/// Until instances can be started from an image.
pub(crate) fn until_available(host: &Host, aws: &Aws, id: &str) -> Result<()> {
    wait(host, id, ("register", "waiting for the image"), || {
        Ok(match image(aws, id)? {
            None => State::Absent,
            Some(found) => match found.state.as_str() {
                "available" => State::Ready,
                "failed" | "error" | "invalid" | "deregistered" => {
                    State::Failed(found.reason.unwrap_or(found.state))
                }
                other => State::Going(other.to_owned()),
            },
        })
    })
}

fn wait(
    host: &Host,
    id: &str,
    (phase, message): (&str, &str),
    ask: impl Fn() -> Result<State>,
) -> Result<()> {
    let started = Instant::now();
    let mut pause = ASK_FIRST;
    loop {
        let going = match ask()? {
            State::Ready => return Ok(()),
            State::Failed(why) => {
                let message = format!("AWS could not finish {id}: {why}");
                return Err(PluginError::new(ErrorCode::Io, message).hint("order it again"));
            }
            State::Absent if started.elapsed() > APPEARS_WITHIN => {
                let message = format!("{id} has vanished while it was made");
                return Err(PluginError::new(ErrorCode::NotFound, message)
                    .hint("does anything else clean up that account?"));
            }
            State::Absent => "not heard of yet".to_owned(),
            State::Going(going) => going,
        };
        if started.elapsed() > PATIENCE {
            let hours = PATIENCE.as_secs() / 3600;
            let message = format!("{id} is still {going} after {hours} hours");
            return Err(PluginError::new(ErrorCode::Timeout, message).retryable());
        }
        host.progress(phase, &format!("{message} {id}: {going}"), 0, 0)?;
        host.sleep_unless_cancelled(pause)?;
        pause = (pause * 2).min(ASK_EVERY);
    }
}
