//! Orders become images (floor 3).
//!
//! - [`stage_process`]: one stage as one process: spawn, order in, events back, deadline, kill

pub mod stage_process;
