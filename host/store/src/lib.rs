//! Images, orders, journal, checkpoints and bodies: what must outlive the process.
//!
//! The records stand behind [`ImageStore`], one trait per concept; [`embedded`] keeps them in
//! SQLite (a PostgreSQL store for factories of many machines would be a second implementation). The
//! files stand beside the database: bodies under the names that scripts know (`<uuid>.body`,
//! `<uuid>.meta`), artefacts, logs, sealed credentials. What was promised is durable before a
//! function returns.
//!
//! - [`images`], [`orders`], [`stages`], [`leftovers`], [`callbacks`], [`nonces`] are the records,
//!   [`changes`] is their log, [`embedded`] keeps them in SQLite
//! - [`layout`] knows the folders of a store
//! - [`bodies`], [`sparse`], [`space`] care for image files, copied without filling their holes
//! - [`artifacts`], [`logs`] are what else a stage leaves to read; [`meta`] is for scripts
//! - [`original`] takes over a store of the Python factory
//! - [`vault`] seals credentials of open orders; [`owner`] tells which process works on what;
//!   [`half_written`] finds what a killed process left

pub mod artifacts;
pub mod bodies;
pub mod callbacks;
pub mod changes;
pub mod embedded;
mod error;
pub mod half_written;
pub mod images;
pub mod layout;
pub mod leftovers;
pub mod logs;
pub mod meta;
pub mod nonces;
mod opening;
pub mod orders;
pub mod original;
pub mod owner;
pub mod space;
pub mod sparse;
pub mod stages;
pub mod vault;

pub use error::StoreError;

/// All records of a factory.
pub trait ImageStore:
    images::Images
    + changes::ChangeLog
    + leftovers::Leftovers
    + orders::Orders
    + stages::Stages
    + callbacks::Callbacks
    + nonces::Nonces
    + artifacts::ArtifactRecords
    + space::Reservations
    + Send
    + Sync
{
}

impl<S> ImageStore for S where
    S: images::Images
        + changes::ChangeLog
        + leftovers::Leftovers
        + orders::Orders
        + stages::Stages
        + callbacks::Callbacks
        + nonces::Nonces
        + artifacts::ArtifactRecords
        + space::Reservations
        + Send
        + Sync
{
}
