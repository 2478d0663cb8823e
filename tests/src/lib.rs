//! What the tests of this workspace share; no test lives here.
//!
//! Every piece is small and stands alone: a test takes what it needs. Helpers panic where something
//! of the test's own world is missing, because then the test proves nothing. Read on in the order
//! of the `mod` lines.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed; nothing of this crate is shipped"
)]

/// Our own programs and plugin libraries, built when a test asks for them.
pub mod binaries;

/// Plugins in C (and plain rustc) from `tests/fixtures`, compiled once.
pub mod fixture_plugins;

/// Snapshots of what must be the same before and after a stage.
pub mod host_state;

/// The workspace's own files, for rules about them.
pub mod source_tree;

/// The language between a test and its stage driver.
pub mod rig_order;

/// Stages through the real supervisor and the real runner, in a daemon of their own.
pub mod stage_rig;

/// A whole factory in the test's process.
pub mod factory;

/// A folder behind http on loopback.
pub mod file_server;

/// The real daemon as a process, and a client for it.
pub mod daemon;

/// What a mock provider was asked to create and remove.
pub mod ledger;

/// A server that speaks EC2 and EBS, strictly, and fails as it is told.
pub mod strict_ec2;

/// A listener for callbacks that outlives every daemon.
pub mod callback_listener;

/// Kills the daemon while it works, and compares everything afterwards.
pub mod kill_driver;

/// A proxy that cuts, delays and spoils what goes to a real server.
pub mod faulty_proxy;

/// A container registry to the letter of its specification.
pub mod strict_registry;

/// A real Keystone and a real Glance.
pub mod openstack_servers;

/// Disks that are full or broken.
pub mod faulty_disk;
