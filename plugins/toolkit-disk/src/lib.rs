//! Disk images, as plugins handle them: copies that keep holes, checksums, what a file is, its
//! partitions, and what lies in their ext4 file systems.
//!
//! An ordinary library that plugins link; nothing of it crosses the plugin boundary, and the host
//! does not use it. It works on open files, never on paths, so that a caller decides once which
//! file is meant. Formats that clouds want compressed are written here, in as many threads as there
//! are processors; all other conversions are `qemu-img`'s (docs/benchmarks/disk-conversion.md).

pub mod ext4;
mod extents;
mod gce_archive;
mod in_order;
mod inspection;
mod parallel_gzip;
mod partitions;
mod pieces;
mod qcow2_zlib;
mod refcounts;
#[cfg(test)]
mod sample_disks;
mod sha256;
mod sparse_copy;
mod sparse_tar_header;
mod tar_header;
mod vhdx;
mod vmdk_descriptor;
mod vmdk_stream;
mod written;

pub use extents::{allocated_bytes, data_extents};
pub use gce_archive::write_gce_archive;
pub use inspection::{DiskError, DiskFormat, ImageFacts, inspect};
pub use parallel_gzip::{GzipPart, write_gzip};
pub use partitions::{Partition, partitions};
pub use qcow2_zlib::write_qcow2_zlib;
pub use sha256::sha256_of;
pub use sparse_copy::{CopiedImage, CopyMethod, copy, copy_and_hash};
pub use tar_header::{TAR_BLOCK, tar_header};
pub use vmdk_descriptor::{DiskAdapter, VmdkDescription, content_id};
pub use vmdk_stream::write_stream_optimized;
pub use written::Written;
