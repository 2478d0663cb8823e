//! `cloud.h`: the operations of a cloud plugin. A NULL slot is an operation it does not have.

use super::descriptor::imgf_instance;
use super::stage::imgf_stage;
use super::struct_layout::{abi_strings, abi_struct};

abi_struct! {
    /// `[stage-thread]`: blocking, at most one call at a time per instance.
    pub struct imgf_cloud_v1 = 64 {
        /// `sizeof(imgf_cloud_v1)`.
        pub struct_size: u32,
        /// 0.
        pub reserved0: u32,
        /// A full stage: may itself produce the whole target image and answer 0 ("no more to do").
        /// NULL = always yes.
        pub builder_should_create_target_image:
            Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage, *mut u32) -> i32>,
        /// Says what the OS plugin is to add for this cloud.
        pub builder_will_create_target_image:
            Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32>,
        /// Transforms the target image that the OS plugin made: INPUT to OUTPUT.
        pub builder_did_create_target_image:
            Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32>,
        /// Target image to provider image.
        pub push_image_to_provider:
            Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32>,
        /// Provider image by a snapshot on the provider, without a target image.
        pub snapshot_image_on_provider:
            Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32>,
        /// Removes a provider image; one that is gone already is success or `IMGF_E_NOT_FOUND`.
        pub delete_from_provider:
            Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32>,
        /// `[any-thread]` Asks the running operation to end; must not block.
        pub abort: Option<unsafe extern "C" fn(*mut imgf_instance)>,
    }
}

abi_strings! {
    /// For `imgf_plugin.get_interface`.
    pub const IMGF_IFACE_CLOUD_V1 = "imagefactory.cloud/1";
}
