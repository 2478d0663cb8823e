//! `os_verify.h`: proof that an image works (it boots). Optional.

use super::descriptor::imgf_instance;
use super::stage::imgf_stage;
use super::struct_layout::{abi_strings, abi_struct};

abi_struct! {
    /// A stage of its own, after the base image and after the did-hook.
    pub struct imgf_os_verify_v1 = 16 {
        /// `sizeof(imgf_os_verify_v1)`.
        pub struct_size: u32,
        /// 0.
        pub reserved0: u32,
        /// Sets the result `verified`.
        pub verify_image:
            Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32>,
    }
}

abi_strings! {
    /// For `imgf_plugin.get_interface`.
    pub const IMGF_IFACE_OS_VERIFY_V1 = "imagefactory.os.verify/1";
}
