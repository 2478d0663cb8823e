//! Hostile plugins, each with one sin, and what must come of it (plugin-abi.md section 3).
//!
//! Each test runs the fixture `tests/fixtures/hostile` through the real supervisor and the real
//! runner, in every situation in which the sandbox promises to contain it, with a well-behaved
//! stage beside it. The stage must end as the test says; and whatever it did, nothing may be left,
//! changed, read or disturbed ([`Seen::breaches`](imagefactory_tests::stage_rig::Seen::breaches)).
//! `door.rs` has the only functions that touch the harness.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

mod door;

mod death;

mod time;

mod swarm;

mod channel;

mod host_calls;

mod results;

mod output;

mod trespass;

mod at_load;

mod no_sandbox;
