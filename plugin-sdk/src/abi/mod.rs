//! The Rust twin of `include/imagefactory/*.h`: same names, same bytes, one file per header.
//!
//! The C headers are the contract; this module follows them. It holds no behaviour beyond reading
//! borrowed text and growing structs. Function pointers are `Option`, because the other side may
//! leave a slot NULL; codes and kinds are integers, because the other side may write any number.
//! `LAYOUTS`, `CONSTANTS` and `STRINGS` list everything, so that a test can compare it with C.

pub mod struct_layout;

pub mod cleanup;
pub mod cloud;
pub mod descriptor;
pub mod error;
pub mod growth;
pub mod host;
pub mod host_artifact;
pub mod host_checkpoint;
pub mod host_reserve;
pub mod journal;
pub mod log;
pub mod negotiate;
pub mod os;
pub mod os_inputs;
pub mod os_verify;
pub mod progress;
pub mod stage;
pub mod status;
pub mod text;
pub mod version;

pub use cleanup::{imgf_cleanup_v1, IMGF_IFACE_CLEANUP_V1};
pub use cloud::{imgf_cloud_v1, IMGF_IFACE_CLOUD_V1};
pub use descriptor::{imgf_instance, imgf_plugin, IMGF_KIND_CLOUD, IMGF_KIND_OS};
pub use error::{imgf_error, IMGF_ERR_RETRYABLE, IMGF_ERR_USER_FAULT};
pub use growth::{read_growing, Growing};
pub use host::{
    imgf_host, IMGF_PATH_CACHE_DIR, IMGF_PATH_INPUT_IMAGE, IMGF_PATH_OUTPUT_IMAGE,
    IMGF_PATH_PLUGIN_DATA, IMGF_PATH_STATE_DIR, IMGF_PATH_WORK_DIR,
};
pub use host_artifact::{imgf_host_artifact_v1, IMGF_HOST_ARTIFACT_V1};
pub use host_checkpoint::{imgf_host_checkpoint_v1, IMGF_HOST_CHECKPOINT_V1};
pub use host_reserve::{imgf_host_reserve_v1, IMGF_HOST_RESERVE_V1};
pub use journal::{
    imgf_journal_entry, IMGF_JOURNAL_CREATED, IMGF_JOURNAL_REMOVED, IMGF_JOURNAL_SCRATCH,
    IMGF_JOURNAL_WILL_CREATE,
};
pub use log::{IMGF_LOG_DEBUG, IMGF_LOG_ERROR, IMGF_LOG_INFO, IMGF_LOG_TRACE, IMGF_LOG_WARN};
pub use negotiate::{
    imagefactory_plugin_negotiate_fn, imgf_negotiate, IMGF_ENTRY_SYMBOL,
    IMGF_NEGOTIATE_DESCRIBE_ONLY, IMGF_NEGOTIATE_SIZE_1_0,
};
pub use os::{imgf_os_v1, IMGF_IFACE_OS_V1};
pub use os_inputs::{imgf_os_inputs_v1, IMGF_IFACE_OS_INPUTS_V1};
pub use os_verify::{imgf_os_verify_v1, IMGF_IFACE_OS_VERIFY_V1};
pub use progress::imgf_progress;
pub use stage::imgf_stage;
pub use status::*;
pub use struct_layout::{FieldLayout, StructLayout};
pub use text::imgf_str;
pub use version::{IMGF_ABI, IMGF_ABI_1_0};

/// Every struct of the headers, except the opaque `imgf_instance`.
pub const LAYOUTS: &[StructLayout] = &[
    imgf_str::LAYOUT,
    imgf_error::LAYOUT,
    imgf_progress::LAYOUT,
    imgf_journal_entry::LAYOUT,
    imgf_host::LAYOUT,
    imgf_host_checkpoint_v1::LAYOUT,
    imgf_host_artifact_v1::LAYOUT,
    imgf_host_reserve_v1::LAYOUT,
    imgf_stage::LAYOUT,
    imgf_os_v1::LAYOUT,
    imgf_os_inputs_v1::LAYOUT,
    imgf_os_verify_v1::LAYOUT,
    imgf_cloud_v1::LAYOUT,
    imgf_cleanup_v1::LAYOUT,
    imgf_plugin::LAYOUT,
    imgf_negotiate::LAYOUT,
];

const CONSTANT_LISTS: &[&[(&str, i64)]] = &[
    version::CONSTANTS,
    status::CONSTANTS,
    error::CONSTANTS,
    journal::CONSTANTS,
    log::CONSTANTS,
    host::CONSTANTS,
    descriptor::CONSTANTS,
    negotiate::CONSTANTS,
];

/// Every number that the headers `#define`, by name.
pub const CONSTANTS: &[(&str, i64)] =
    &struct_layout::join::<_, { struct_layout::count(CONSTANT_LISTS) }>(CONSTANT_LISTS, ("", 0));

const STRING_LISTS: &[&[(&str, &str)]] = &[
    host_checkpoint::STRINGS,
    host_artifact::STRINGS,
    host_reserve::STRINGS,
    os::STRINGS,
    os_inputs::STRINGS,
    os_verify::STRINGS,
    cloud::STRINGS,
    cleanup::STRINGS,
    negotiate::STRINGS,
];

/// Every string that the headers `#define`, by name.
pub const STRINGS: &[(&str, &str)] =
    &struct_layout::join::<_, { struct_layout::count(STRING_LISTS) }>(STRING_LISTS, ("", ""));
