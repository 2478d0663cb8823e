//! `host_checkpoint.h`: what a later attempt of the same stage is to know.

use std::ffi::c_void;

use super::struct_layout::{abi_strings, abi_struct};
use super::text::imgf_str;

abi_struct! {
    /// Values that survive the process; `ctx` is the host table's.
    pub struct imgf_host_checkpoint_v1 = 24 {
        /// `sizeof(imgf_host_checkpoint_v1)`.
        pub struct_size: u32,
        /// 0.
        pub reserved0: u32,
        /// Keeps a JSON value under a key; durable before it returns.
        pub put: Option<unsafe extern "C" fn(*mut c_void, imgf_str, imgf_str) -> i32>,
        /// What this or an earlier attempt put; `IMGF_E_NOT_FOUND` = nothing.
        pub get: Option<unsafe extern "C" fn(*mut c_void, imgf_str, *mut imgf_str) -> i32>,
    }
}

abi_strings! {
    /// For `imgf_host.get_interface`.
    pub const IMGF_HOST_CHECKPOINT_V1 = "imagefactory.host.checkpoint/1";
}
