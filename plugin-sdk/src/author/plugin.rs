//! What every plugin is: an id, a version, and a way to make an instance.

use super::error::Result;
use super::host::Host;
use super::stage::Stage;

/// A plugin. One value of the type is one instance; the host calls at most one operation of it at
/// a time and [`Plugin::abort`] beside it, hence `&self` and `Sync`.
pub trait Plugin: Sized + Sync + 'static {
    /// The manifest's `id`, its file name and the library's.
    const ID: &'static str;

    /// The manifest's `version`. `env!("CARGO_PKG_VERSION")` keeps it in one place.
    const VERSION: &'static str;

    /// Makes an instance. Opens no connection and writes no file: those belong to operations.
    /// `host` may be kept and cloned; after the instance has ended, it refuses every call.
    fn create(host: Host) -> Result<Self>;

    /// Asks the running operation to end. Called from another thread; must not block; may come
    /// twice, too early or too late. A plugin that looks at [`Host::is_cancelled`], or waits with
    /// [`Host::sleep_unless_cancelled`], needs nothing here.
    fn abort(&self) {}
}

/// A plugin that makes system images. Further operations: the traits in [`super::operations`].
pub trait OsPlugin: Plugin {
    /// Makes the base image that the template describes as a raw, sparse file at
    /// [`Host::output_image`]. May run for hours; results `format` and `icicle`.
    fn create_base_image(&self, stage: &Stage<'_>) -> Result<()>;
}

/// A plugin that brings images to a cloud. All of its operations are optional: the traits in
/// [`super::operations`].
pub trait CloudPlugin: Plugin {}
