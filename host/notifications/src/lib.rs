//! Who hears of a change: watchers in this process, and callbacks over HTTP.
//!
//! - [`events`]: the stream of changes of this process (event stream, `watch`, waiting orders)
//! - [`callbacks`], [`private_addresses`]: the durable queue, delivered

pub mod callbacks;
pub mod events;
pub mod private_addresses;
