//! `host.h`: the services that the host offers to a plugin instance.
//!
//! The table belongs to the host and is valid from `create` until `destroy` returns. Every
//! function may be called from any thread and takes `ctx` first. Text and structs that the plugin
//! passes are copied before the function returns.

use std::ffi::c_void;

use super::journal::imgf_journal_entry;
use super::progress::imgf_progress;
use super::struct_layout::{abi_constants, abi_struct};
use super::text::imgf_str;
use crate::abi::error::imgf_error;

abi_struct! {
    /// The host's services. Immutable once released: later services are tables of their own,
    /// asked for by `get_interface`.
    pub struct imgf_host = 136 {
        /// `sizeof(imgf_host)` of the host.
        pub struct_size: u32,
        /// The version that was negotiated.
        pub abi_version: u32,
        /// First argument of every function.
        pub ctx: *mut c_void,
        /// Writes one line to the stage's log: level `IMGF_LOG_*`, message, JSON object or absent.
        pub log: Option<unsafe extern "C" fn(*mut c_void, u32, imgf_str, imgf_str)>,
        /// Tells how far the stage is; `IMGF_E_CANCELLED` when it is to end.
        pub progress: Option<unsafe extern "C" fn(*mut c_void, *const imgf_progress) -> i32>,
        /// 1 once the stage is to end, else 0; cheap and async-signal-safe.
        pub is_cancelled: Option<unsafe extern "C" fn(*mut c_void) -> i32>,
        /// A descriptor for `poll()`, readable once cancelled; never to be read or closed.
        pub cancel_fd: Option<unsafe extern "C" fn(*mut c_void) -> i32>,
        /// Exactly once before an operation returns non-zero.
        pub report_error: Option<unsafe extern "C" fn(*mut c_void, *const imgf_error) -> i32>,
        /// Sets a result: key, JSON value. Keys depend on the operation; the last write wins.
        pub set_result: Option<unsafe extern "C" fn(*mut c_void, imgf_str, imgf_str) -> i32>,
        /// Records an outside resource; durable before it returns.
        pub journal: Option<unsafe extern "C" fn(*mut c_void, *const imgf_journal_entry) -> i32>,
        /// The plugin's own configuration and public keys as JSON; valid until `destroy`.
        pub config_get: Option<unsafe extern "C" fn(*mut c_void, imgf_str, *mut imgf_str) -> i32>,
        /// A path by `IMGF_PATH_*`; valid until `destroy`.
        pub path_get: Option<unsafe extern "C" fn(*mut c_void, u32, *mut imgf_str) -> i32>,
        /// Another image as JSON, by an id in this stage's parameters or lineage; pinned until the
        /// stage ends.
        pub image_get: Option<unsafe extern "C" fn(*mut c_void, imgf_str, *mut imgf_str) -> i32>,
        /// A secret granted to this stage; valid until `secret_release`.
        pub secret_get: Option<unsafe extern "C" fn(*mut c_void, imgf_str, *mut imgf_str) -> i32>,
        /// Gives a secret back; the host wipes it.
        pub secret_release: Option<unsafe extern "C" fn(*mut c_void, imgf_str)>,
        /// A TargetContent document from the cloud plugin to the OS plugin.
        pub add_cloud_plugin_content: Option<unsafe extern "C" fn(*mut c_void, imgf_str) -> i32>,
        /// The detail of the last failed call on this thread; valid until the next call on it.
        pub last_error: Option<unsafe extern "C" fn(*mut c_void, *mut imgf_str) -> i32>,
        /// A further table by id; NULL = this host does not have it.
        pub get_interface: Option<unsafe extern "C" fn(*mut c_void, imgf_str) -> *const c_void>,
    }
}

abi_constants! {
    /// Private scratch, deleted after the attempt.
    pub const IMGF_PATH_WORK_DIR: u32 = 1;
    /// Read-only, always: the base image for target stages, the image made so far for the
    /// did-hook, the target image for push.
    pub const IMGF_PATH_INPUT_IMAGE: u32 = 2;
    /// Does not exist yet; on the store's file system, in a folder of this attempt. Did-hook:
    /// nothing written = unchanged.
    pub const IMGF_PATH_OUTPUT_IMAGE: u32 = 3;
    /// Read-only data of the plugin.
    pub const IMGF_PATH_PLUGIN_DATA: u32 = 4;
    /// Survives the attempts of this stage; removed when the order is final.
    pub const IMGF_PATH_STATE_DIR: u32 = 5;
    /// Of this plugin, shared between stages, bounded by the host; contents may vanish between
    /// stages.
    pub const IMGF_PATH_CACHE_DIR: u32 = 6;
}
