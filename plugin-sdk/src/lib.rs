//! Everything that crosses Image Factory's plugin boundary, and nothing else.
//!
//! [`abi`] is the Rust twin of the C headers. It needs no dependency and compiles with rustc 1.63,
//! the compiler of the oldest distribution that plugins are built on. [`author`] is the safe layer
//! over it: traits and one export macro. `payload` (a default feature) holds the documents inside:
//! templates, target content, manifests. `layout` (feature `layout-check`) compares the Rust layout
//! of a plugin with the host's.

#![deny(unsafe_op_in_unsafe_fn)] // also where the workspace's lints do not reach: plain rustc

pub mod abi;
pub mod author;
#[cfg(feature = "layout-check")]
pub mod layout;
#[cfg(feature = "payload")]
pub mod payload;

// Compiles the code of the guide, so that it stays true.
#[cfg(all(doctest, feature = "payload"))]
#[doc = include_str!("../../docs/guides/plugin-authors.md")]
mod guide_for_plugin_authors {}
