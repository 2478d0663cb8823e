//! The host's nouns. No I/O, no HTTP, no threads: values that every other floor speaks of.
//!
//! - [`stage`]: one plugin call: order, outcome, failure
//! - [`frames`]: how a stage is carried to a stage-runner process and back

pub mod frames;
pub mod stage;
