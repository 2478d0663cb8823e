//! The host's nouns. No I/O, no HTTP, no threads: values that every other floor speaks of.
//!
//! - [`image`], [`status`]: base, target and provider images, and what may follow what
//! - [`document`]: an image as JSON, with the key names of 2012
//! - [`order`]: what clients ask for
//! - [`change`]: what the store recorded
//! - [`stage`]: one plugin call: order, outcome, failure
//! - [`frames`]: how a stage is carried to a stage-runner process and back
//! - [`validation`]: what `plugin validate` asks of a runner, and what it answers

pub mod change;
pub mod document;
pub mod frames;
pub mod image;
pub mod order;
pub mod stage;
pub mod status;
pub mod validation;
