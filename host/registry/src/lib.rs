//! What this factory offers: the plugins, which of them serves what, and why the others do not.
//!
//! Manifests are read and libraries looked at, nothing is ever loaded: that is for a stage runner,
//! whose word about a plugin is handed back here. The map, in the order in which a manifest goes
//! through it:
//!
//! - [`search_path`], [`trust`]: where manifests may lie and whose files are believed
//! - `manifest_file`: reads the files of a folder within bounds
//! - `judge`: one manifest by itself, with [`versions`], [`library`] and [`schemas`]
//! - [`described`], [`description`]: what a runner found in the library
//! - `contest`, `matching`: plugins against each other; who serves a target
//! - [`registry`], [`entry`], [`handle`]: the snapshot that everybody asks
//! - [`listing`], [`no_plugin`]: what clients see of it
//! - [`grant`], [`requirements`]: what a plugin gets, and what it needs
//! - [`jeos`]: ready-made images on providers

mod contest;
pub mod described;
pub mod description;
pub mod entry;
pub mod error;
pub mod grant;
pub mod handle;
pub mod jeos;
mod judge;
pub mod library;
pub mod listing;
mod manifest_file;
mod matching;
pub mod no_plugin;
pub mod reason;
pub mod registry;
pub mod requirements;
pub mod schemas;
pub mod search_path;
pub mod trust;
pub mod versions;

pub use described::DescribedPlugins;
pub use entry::{Entry, EntryState, TargetFate, TargetRow};
pub use error::RegistryError;
pub use handle::RegistryHandle;
pub use no_plugin::NoPlugin;
pub use reason::Reason;
pub use registry::{DescribeJob, Registry};
pub use search_path::SearchPath;
