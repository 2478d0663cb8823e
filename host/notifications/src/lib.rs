//! Who hears of a change: watchers in this process, and callbacks over HTTP.
//!
//! - [`events`]: the stream of changes of this process (event stream, `watch`, waiting orders)

pub mod events;
