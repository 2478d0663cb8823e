//! The supervisor against a runner that lies, breaks and hangs (`src/bin/hostile-runner.rs`).
//!
//! What a *plugin* can do through the real runner is tested in `hostile_plugins`; here the runner
//! itself has fallen, and the supervisor must still end the stage, with the right row of the
//! failure table.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed, in its helpers too"
)]

mod clocks;
mod endings;
mod frames;
mod services;
mod stage;
