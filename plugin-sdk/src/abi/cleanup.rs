//! `cleanup.h`: undoing what a crashed, killed or failed stage left outside. Optional.

use super::descriptor::imgf_instance;
use super::stage::imgf_stage;
use super::struct_layout::{abi_strings, abi_struct};
use super::text::imgf_str;

abi_struct! {
    /// Runs in a fresh process.
    pub struct imgf_cleanup_v1 = 16 {
        /// `sizeof(imgf_cleanup_v1)`.
        pub struct_size: u32,
        /// 0.
        pub reserved0: u32,
        /// Removes what the journal entries (a JSON array) name; idempotent.
        pub cleanup:
            Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage, imgf_str) -> i32>,
    }
}

abi_strings! {
    /// For `imgf_plugin.get_interface`.
    pub const IMGF_IFACE_CLEANUP_V1 = "imagefactory.cleanup/1";
}
