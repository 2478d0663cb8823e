//! `descriptor.h`: what a plugin is, and how to get an instance of it.

use std::ffi::c_void;

use super::host::imgf_host;
use super::struct_layout::{abi_constants, abi_struct};
use super::text::imgf_str;

/// One instance of a plugin; opaque, owned by the plugin.
#[repr(C)]
#[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
#[allow(non_camel_case_types)] // the header's name
pub struct imgf_instance {
    /// Nothing that the other side may look at.
    pub opaque: [u8; 0],
}

abi_struct! {
    /// The plugin, in static storage; valid for ever.
    pub struct imgf_plugin = 72 {
        /// `sizeof(imgf_plugin)` of the plugin.
        pub struct_size: u32,
        /// The ABI that it was compiled against.
        pub abi_version: u32,
        /// The manifest's `id`.
        pub id: imgf_str,
        /// The manifest's `version`.
        pub version: imgf_str,
        /// `IMGF_KIND_*`.
        pub kind: u32,
        /// 0.
        pub flags: u32,
        /// `[stage-thread]` A new instance for this host table. No network, no disk.
        pub create: Option<unsafe extern "C" fn(*const imgf_host, *mut *mut imgf_instance) -> i32>,
        /// `[stage-thread]` Ends an instance; after it no host function is called.
        pub destroy: Option<unsafe extern "C" fn(*mut imgf_instance)>,
        /// `[any-thread]` A table by id, the same answer always; unknown id = NULL.
        pub get_interface: Option<unsafe extern "C" fn(imgf_str) -> *const c_void>,
    }
}

// SAFETY: a descriptor is never written after it was made, its texts have static storage, and its
// functions carry their own thread rules.
unsafe impl Sync for imgf_plugin {}

abi_constants! {
    /// Makes base and target images.
    pub const IMGF_KIND_OS: u32 = 1;
    /// Brings images to a provider.
    pub const IMGF_KIND_CLOUD: u32 = 2;
}
