//! The proof that nothing is lost: the real daemon is killed again and again while it works.
//!
//! For `IMAGEFACTORY_KILL_SECONDS` seconds (300 in CI, 60 otherwise), or until 3,000 kills with
//! `IMAGEFACTORY_TEST_LONG`. `IMAGEFACTORY_KILL_SEED` repeats the dice of an earlier run. What is
//! compared, and what was found so far, stands in docs/kill-test.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed; nothing of this is shipped"
)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use imagefactory_tests::kill_driver::{KillDriver, Until};

/// Of the long run.
const KILLS_LONG: u32 = 3000;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, not a number")))
}

fn until() -> Until {
    if std::env::var_os("IMAGEFACTORY_TEST_LONG").is_some() {
        return Until::Kills(KILLS_LONG);
    }
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    let seconds = number("IMAGEFACTORY_KILL_SECONDS").unwrap_or(if is_ci { 300 } else { 60 });
    Until::Elapsed(Duration::from_secs(seconds))
}

fn new_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_accepted_survives_any_number_of_kills() {
    let seed = number("IMAGEFACTORY_KILL_SEED").unwrap_or_else(new_seed);
    let summary = KillDriver::start(seed).await.run(until()).await;
    // Past libtest, which would swallow it: CI's log shows how much this run proves.
    use std::io::Write;
    writeln!(std::io::stderr(), "{} kills: {summary:#?}", summary.kills()).expect("standard error");
    assert!(summary.kills() > 0, "nothing was killed");
}
