//! `host_artifact.h`: files beside the image (SBOM, serial log, screenshot).

use std::ffi::c_void;

use super::struct_layout::{abi_strings, abi_struct};
use super::text::imgf_str;

abi_struct! {
    /// Files that are kept, also when the stage fails; `ctx` is the host table's.
    pub struct imgf_host_artifact_v1 = 16 {
        /// `sizeof(imgf_host_artifact_v1)`.
        pub struct_size: u32,
        /// 0.
        pub reserved0: u32,
        /// Hands over a file below WORK_DIR: name, media type, path.
        pub add: Option<unsafe extern "C" fn(*mut c_void, imgf_str, imgf_str, imgf_str) -> i32>,
    }
}

abi_strings! {
    /// For `imgf_host.get_interface`.
    pub const IMGF_HOST_ARTIFACT_V1 = "imagefactory.host.artifact/1";
}
