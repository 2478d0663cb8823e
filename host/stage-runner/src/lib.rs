//! The other process: checks, confines, loads and calls one plugin for one stage, then ends.
//!
//! ```text
//! imagefactoryd ── P0 warden ── P1 init of a pid namespace ── P2 worker: plugin.so
//!                  [warden]     [init]                        [worker]
//! ```
//!
//! Modules in reading order: how the process begins, how it is confined, how the plugin is loaded,
//! how it is called, what it is served; last, how `plugin validate` tries it.

pub mod descriptors;
pub mod error;
pub mod exit_status;
pub mod init;
pub mod orphans;
pub mod sandbox;
pub mod signals;
pub mod warden;
pub mod wire;

pub mod elf;
pub mod library;

pub mod control;
pub mod negotiation;
pub mod stage_thread;
pub mod tables;
pub mod worker;

pub mod cleanup_calls;
pub mod cloud_calls;
pub mod instance;
pub mod os_calls;
pub mod stage_input;
pub mod status;

pub mod cancellation;
pub mod host_services;
pub mod secrets;
pub mod texts;
pub mod wipe;

pub mod validate;
