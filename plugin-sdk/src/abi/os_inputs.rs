//! `os_inputs.h`: what a build depends on that the template does not say. Optional.

use super::descriptor::imgf_instance;
use super::stage::imgf_stage;
use super::struct_layout::{abi_strings, abi_struct};

abi_struct! {
    /// Without this table finished images are never reused.
    pub struct imgf_os_inputs_v1 = 16 {
        /// `sizeof(imgf_os_inputs_v1)`.
        pub struct_size: u32,
        /// 0.
        pub reserved0: u32,
        /// Sets the result `input_digest`. Fast and read-only.
        pub resolve_inputs:
            Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32>,
    }
}

abi_strings! {
    /// For `imgf_plugin.get_interface`.
    pub const IMGF_IFACE_OS_INPUTS_V1 = "imagefactory.os.inputs/1";
}
