//! `os.h`: the operations of an OS plugin. A NULL slot is an operation it does not have.

use super::descriptor::imgf_instance;
use super::stage::imgf_stage;
use super::struct_layout::{abi_strings, abi_struct};
use super::text::imgf_str;

abi_struct! {
    /// `[stage-thread]`: blocking, at most one call at a time per instance.
    pub struct imgf_os_v1 = 40 {
        /// `sizeof(imgf_os_v1)`.
        pub struct_size: u32,
        /// 0.
        pub reserved0: u32,
        /// Template to base image.
        pub create_base_image:
            Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32>,
        /// Base image and what cloud plugins asked for to target image.
        pub create_target_image:
            Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32>,
        /// One TargetContent document, on the same instance right before `create_target_image`.
        pub add_cloud_plugin_content:
            Option<unsafe extern "C" fn(*mut imgf_instance, imgf_str) -> i32>,
        /// `[any-thread]` Asks the running operation to end; must not block.
        pub abort: Option<unsafe extern "C" fn(*mut imgf_instance)>,
    }
}

abi_strings! {
    /// For `imgf_plugin.get_interface`.
    pub const IMGF_IFACE_OS_V1 = "imagefactory.os/1";
}
