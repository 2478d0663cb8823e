//! One stage as one process: the supervisor of `imagefactory-stage-runner`.
//!
//! The pipeline hands a [`StageSpec`] to [`StageSupervisor::run`] and gets a checked outcome or a
//! failure as a value; a crash, a hang, an `exit(0)` or a lie of a plugin never becomes an event of
//! the daemon. Nothing here knows of images, retries or the database: what must be durable goes
//! through [`StageServices`], what is merely seen goes out as [`StageEvent`]s. Read on in the order
//! of the `mod` lines below.

mod containment;
mod supervisor;

mod attempt;
mod conversation;
mod ladder;
mod testimony;
mod verdict;

mod services;

mod calls;
mod reservations;
mod results;

mod events;
mod scrubber;
mod stage_log;

mod artifacts;
mod image_format;
mod output;

mod cgroup;
mod cgroup_mounts;
mod process_table;
mod spawn;
mod wire;

mod fence;
mod folders;
mod identities;
mod removal;

pub use containment::{Containment, Gap};
pub use events::StageEvent;
pub use fence::{FenceError, Fenced, fence};
pub use folders::{FolderError, StageFolders};
pub use identities::{IdentityLease, StageIdentities};
pub use image_format::format_of_import;
pub(crate) use removal::remove_tree;
pub use reservations::{Reservations, StageReservations};
pub use services::{Grants, ServiceError, ServiceFuture, SpawnedAttempt, StageServices};
pub use supervisor::{LogLimits, StageSpec, StageSupervisor, SupervisorConfig};
