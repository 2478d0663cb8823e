//! `stage.h`: everything that one call of a plugin is given, except secrets.

use super::struct_layout::abi_struct;
use super::text::imgf_str;

abi_struct! {
    /// One stage. The host's; valid until the operation returns.
    pub struct imgf_stage = 184 {
        /// `sizeof(imgf_stage)` of the host.
        pub struct_size: u32,
        /// 0.
        pub flags: u32,
        /// Milliseconds since 1970 after which the host ends the stage; 0 = none.
        pub deadline_unix_ms: u64,
        /// 1, 2, ...
        pub attempt: u32,
        /// 0.
        pub reserved0: u32,
        /// UUID of this stage, the same in every attempt: the idempotency token at the provider.
        pub stage_id: imgf_str,
        /// UUID of the image that this stage fills or deletes.
        pub image_id: imgf_str,
        /// `ec2`; absent for a base image.
        pub target: imgf_str,
        /// The provider's definition as the client sent it.
        pub provider: imgf_str,
        /// TDL as the client sent it.
        pub template_xml: imgf_str,
        /// The same, parsed by the host.
        pub template_json: imgf_str,
        /// An object; the names that the plugin declares were checked against its schema.
        pub parameters_json: imgf_str,
        /// `{"self","base","target","provider","jeos"}`: those that exist.
        pub images_json: imgf_str,
        /// Granted: `{"cpus","memory_bytes","work_bytes","bandwidth_bytes_per_s"}`.
        pub resources_json: imgf_str,
        /// The name for `secret_get`; absent = this stage has no credentials.
        pub credential_name: imgf_str,
    }
}
