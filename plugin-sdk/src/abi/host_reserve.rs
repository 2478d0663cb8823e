//! `host_reserve.h`: what stages of one factory must not use at the same time.

use std::ffi::c_void;

use super::struct_layout::{abi_strings, abi_struct};
use super::text::imgf_str;

abi_struct! {
    /// Named locks and TCP ports; `ctx` is the host table's.
    pub struct imgf_host_reserve_v1 = 32 {
        /// `sizeof(imgf_host_reserve_v1)`.
        pub struct_size: u32,
        /// 0.
        pub reserved0: u32,
        /// Takes a factory-wide lock, waiting at most this many milliseconds (`IMGF_E_TIMEOUT`).
        /// The host releases it when the stage ends, however it ends.
        pub lock: Option<unsafe extern "C" fn(*mut c_void, imgf_str, u64) -> i32>,
        /// Gives a lock back early.
        pub unlock: Option<unsafe extern "C" fn(*mut c_void, imgf_str) -> i32>,
        /// A port that no other stage was given.
        pub next_listen_port: Option<unsafe extern "C" fn(*mut c_void, *mut u32) -> i32>,
    }
}

abi_strings! {
    /// For `imgf_host.get_interface`.
    pub const IMGF_HOST_RESERVE_V1 = "imagefactory.host.reserve/1";
}
