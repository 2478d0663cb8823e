//! The author's layer against the C ABI: every promise of the headers that this layer keeps for
//! authors, seen from the host's side of the tables.

// A test stops where something is not as it should be; so do its helpers, outside of #[test].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../fake_host/mod.rs"]
mod fake_host;

mod errors_and_panics;
mod guide;
mod host_handle;
mod json_documents;
mod negotiation;
mod stage_view;
mod tables;
#[cfg(feature = "tracing")]
mod tracing_layer;
