//! EC2Cloud through the real daemon.
//!
//! Against a strict EC2 of our own (`src/strict_ec2`), which checks what AWS checks and fails as it
//! is told, and against moto, another author's reading of the API.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

mod faults;
mod kills;
mod moto;
mod pushes;
mod rig;
