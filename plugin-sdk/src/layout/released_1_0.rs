//! The table types as released in ABI 1.0 (release candidate 1), frozen: never edited once 1.0 is
//! tagged, a later version gets a file of its own. Only the layout test reads it; what it compares
//! is the whole graph of types behind the side-car.

#![allow(missing_docs, non_camel_case_types, unreachable_pub, dead_code)] // a copy of ../abi, documented there

use std::ffi::c_void;

use abi_stable::StableAbi;

#[repr(C)]
#[derive(StableAbi)]
pub struct imgf_instance {
    pub opaque: [u8; 0],
}

#[repr(C)]
#[derive(StableAbi)]
pub struct imgf_str {
    pub ptr: *const u8,
    pub len: usize,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct imgf_error {
    pub struct_size: u32,
    pub code: i32,
    pub flags: u32,
    pub os_errno: i32,
    pub retry_after_ms: u64,
    pub message: imgf_str,
    pub hint: imgf_str,
    pub vendor_code: imgf_str,
    pub details_json: imgf_str,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct imgf_progress {
    pub struct_size: u32,
    pub flags: u32,
    pub done: u64,
    pub total: u64,
    pub phase: imgf_str,
    pub message: imgf_str,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct imgf_journal_entry {
    pub struct_size: u32,
    pub event: u32,
    pub flags: u32,
    pub reserved0: u32,
    pub token: imgf_str,
    pub kind: imgf_str,
    pub resource_id: imgf_str,
    pub details_json: imgf_str,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct imgf_host {
    pub struct_size: u32,
    pub abi_version: u32,
    pub ctx: *mut c_void,
    pub log: Option<unsafe extern "C" fn(*mut c_void, u32, imgf_str, imgf_str)>,
    pub progress: Option<unsafe extern "C" fn(*mut c_void, *const imgf_progress) -> i32>,
    pub is_cancelled: Option<unsafe extern "C" fn(*mut c_void) -> i32>,
    pub cancel_fd: Option<unsafe extern "C" fn(*mut c_void) -> i32>,
    pub report_error: Option<unsafe extern "C" fn(*mut c_void, *const imgf_error) -> i32>,
    pub set_result: Option<unsafe extern "C" fn(*mut c_void, imgf_str, imgf_str) -> i32>,
    pub journal: Option<unsafe extern "C" fn(*mut c_void, *const imgf_journal_entry) -> i32>,
    pub config_get: Option<unsafe extern "C" fn(*mut c_void, imgf_str, *mut imgf_str) -> i32>,
    pub path_get: Option<unsafe extern "C" fn(*mut c_void, u32, *mut imgf_str) -> i32>,
    pub image_get: Option<unsafe extern "C" fn(*mut c_void, imgf_str, *mut imgf_str) -> i32>,
    pub secret_get: Option<unsafe extern "C" fn(*mut c_void, imgf_str, *mut imgf_str) -> i32>,
    pub secret_release: Option<unsafe extern "C" fn(*mut c_void, imgf_str)>,
    pub add_cloud_plugin_content: Option<unsafe extern "C" fn(*mut c_void, imgf_str) -> i32>,
    pub last_error: Option<unsafe extern "C" fn(*mut c_void, *mut imgf_str) -> i32>,
    pub get_interface: Option<unsafe extern "C" fn(*mut c_void, imgf_str) -> *const c_void>,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct imgf_host_checkpoint_v1 {
    pub struct_size: u32,
    pub reserved0: u32,
    pub put: Option<unsafe extern "C" fn(*mut c_void, imgf_str, imgf_str) -> i32>,
    pub get: Option<unsafe extern "C" fn(*mut c_void, imgf_str, *mut imgf_str) -> i32>,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct imgf_host_artifact_v1 {
    pub struct_size: u32,
    pub reserved0: u32,
    pub add: Option<unsafe extern "C" fn(*mut c_void, imgf_str, imgf_str, imgf_str) -> i32>,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct imgf_host_reserve_v1 {
    pub struct_size: u32,
    pub reserved0: u32,
    pub lock: Option<unsafe extern "C" fn(*mut c_void, imgf_str, u64) -> i32>,
    pub unlock: Option<unsafe extern "C" fn(*mut c_void, imgf_str) -> i32>,
    pub next_listen_port: Option<unsafe extern "C" fn(*mut c_void, *mut u32) -> i32>,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct imgf_stage {
    pub struct_size: u32,
    pub flags: u32,
    pub deadline_unix_ms: u64,
    pub attempt: u32,
    pub reserved0: u32,
    pub stage_id: imgf_str,
    pub image_id: imgf_str,
    pub target: imgf_str,
    pub provider: imgf_str,
    pub template_xml: imgf_str,
    pub template_json: imgf_str,
    pub parameters_json: imgf_str,
    pub images_json: imgf_str,
    pub resources_json: imgf_str,
    pub credential_name: imgf_str,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct imgf_os_v1 {
    pub struct_size: u32,
    pub reserved0: u32,
    pub create_base_image:
        Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32>,
    pub create_target_image:
        Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32>,
    pub add_cloud_plugin_content: Option<unsafe extern "C" fn(*mut imgf_instance, imgf_str) -> i32>,
    pub abort: Option<unsafe extern "C" fn(*mut imgf_instance)>,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct imgf_os_inputs_v1 {
    pub struct_size: u32,
    pub reserved0: u32,
    pub resolve_inputs: Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32>,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct imgf_os_verify_v1 {
    pub struct_size: u32,
    pub reserved0: u32,
    pub verify_image: Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32>,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct imgf_cloud_v1 {
    pub struct_size: u32,
    pub reserved0: u32,
    pub builder_should_create_target_image:
        Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage, *mut u32) -> i32>,
    pub builder_will_create_target_image:
        Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32>,
    pub builder_did_create_target_image:
        Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32>,
    pub push_image_to_provider:
        Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32>,
    pub snapshot_image_on_provider:
        Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32>,
    pub delete_from_provider:
        Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32>,
    pub abort: Option<unsafe extern "C" fn(*mut imgf_instance)>,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct imgf_cleanup_v1 {
    pub struct_size: u32,
    pub reserved0: u32,
    pub cleanup:
        Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage, imgf_str) -> i32>,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct imgf_plugin {
    pub struct_size: u32,
    pub abi_version: u32,
    pub id: imgf_str,
    pub version: imgf_str,
    pub kind: u32,
    pub flags: u32,
    pub create: Option<unsafe extern "C" fn(*const imgf_host, *mut *mut imgf_instance) -> i32>,
    pub destroy: Option<unsafe extern "C" fn(*mut imgf_instance)>,
    pub get_interface: Option<unsafe extern "C" fn(imgf_str) -> *const c_void>,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct imgf_negotiate {
    pub struct_size: u32,
    pub host_abi_min: u32,
    pub host_abi_max: u32,
    pub flags: u32,
    pub chosen_abi: u32,
    pub reserved0: u32,
    pub plugin: *const imgf_plugin,
    pub refusal: imgf_str,
}

super::side_car_type! {}
