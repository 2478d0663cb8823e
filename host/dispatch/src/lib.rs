//! Orders become images (floor 3).
//!
//! - [`dispatcher`]: the door: takes orders, records them, starts work ([`requests`], `checks`,
//!   `credentials`, `cancels`, [`error`])
//! - `work`, `deletion`: one order from its beginning, or from where a crash left it, to its end
//! - `pipeline`, `stages`: which stages an image goes through; what they are given
//! - `stage_work`, `attempts`, `stage_records`, `stage_watch`: one stage, attempt after attempt
//! - [`progress`]: the one place where an image's state changes
//! - `import`: a finished disk image from outside
//! - `recovery`: after a crash; `leftovers`: what a failed cleanup left outside
//! - `plugin_loading`, `plugins`: which plugins there are, and what they are granted
//! - `containment`: what this machine cannot contain, said at the start
//! - [`places`]: how much is done at once; [`configuration`]: how this factory works
//! - [`stage_process`]: one stage as one process: spawn, order in, events back, deadline, kill

mod attempts;
mod build_log;
mod cancels;
mod checks;
pub mod configuration;
mod containment;
mod credentials;
mod deletion;
pub mod dispatcher;
mod engine;
pub mod error;
mod import;
mod leftovers;
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
