//! Orders become images (floor 3).
//!
//! - [`dispatcher`]: the door: takes orders, records them, starts work ([`requests`], `checks`,
//!   [`error`])
//! - `work`: one order from its beginning, or from where a crash left it, to its end
//! - `pipeline`, `stages`: which stages an image goes through; what they are given
//! - `stage_work`, `attempts`, `stage_records`, `stage_watch`: one stage, attempt after attempt
//! - [`progress`]: the one place where an image's state changes
//! - `recovery`: after a crash
//! - `plugin_loading`, `plugins`: which plugins there are, and what they are granted
//! - [`places`]: how much is done at once; [`configuration`]: how this factory works
//! - [`stage_process`]: one stage as one process: spawn, order in, events back, deadline, kill

mod attempts;
mod build_log;
mod checks;
pub mod configuration;
pub mod dispatcher;
mod engine;
pub mod error;
mod import;
mod pipeline;
pub mod places;
mod plugin_loading;
mod plugins;
pub mod progress;
mod recovery;
pub mod requests;
pub mod stage_process;
mod stage_records;
mod stage_watch;
mod stage_work;
mod stages;
mod work;

pub use error::DispatchError;
