//! What the author of a Rust plugin writes against: traits in, one macro out, no `unsafe`.
//!
//! A plugin is a type that implements [`Plugin`], [`OsPlugin`] or [`CloudPlugin`], and one trait
//! for each further operation that it offers; `export_os_plugin!` or `export_cloud_plugin!` makes
//! the library's entry symbol of it. An operation whose trait is not implemented is a NULL slot in
//! the table, so the manifest's `capabilities` are exactly the traits. Panics stop at the boundary
//! and errors are reported once, by this layer.

#[macro_use]
mod macros;
pub mod artifact;
pub mod checkpoint;
pub mod error;
pub mod host;
pub mod json;
pub mod operations;
pub mod plugin;
pub mod reserve;
pub mod resource;
pub mod secret;
pub mod stage;
#[cfg(feature = "tracing")]
pub mod tracing;
#[cfg(feature = "payload")]
pub mod typed;

mod cancel;
#[doc(hidden)] // for the export macros
pub mod export;
mod host_table;
mod instance;
mod interface;
mod negotiate;

pub use error::{ErrorCode, PluginError, Result};
pub use host::{Host, LogLevel};
pub use operations::{
    AddCloudPluginContent, BuilderDidCreateTargetImage, BuilderShouldCreateTargetImage,
    BuilderWillCreateTargetImage, Cleanup, CreateTargetImage, DeleteFromProvider,
    PushImageToProvider, ResolveInputs, ShouldCreate, SnapshotImageOnProvider, VerifyImage,
};
pub use plugin::{CloudPlugin, OsPlugin, Plugin};
pub use resource::Resource;
pub use secret::Secret;
pub use stage::Stage;
