//! Disk images, as plugins handle them: copies that keep holes, checksums, and what a file is.
//!
//! An ordinary library that plugins link; nothing of it crosses the plugin boundary, and the host
//! does not use it. It works on open files, never on paths, so that a caller decides once which
//! file is meant. It converts nothing: that is `qemu-img`'s.

mod extents;
mod inspection;
mod sha256;
mod sparse_copy;
mod vhdx;

pub use extents::{allocated_bytes, data_extents};
pub use inspection::{DiskError, DiskFormat, ImageFacts, inspect};
pub use sha256::sha256_of;
pub use sparse_copy::{CopiedImage, CopyMethod, copy, copy_and_hash};
