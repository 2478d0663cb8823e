//! One safe function for each operation of an OS plugin. `None` = the slot is NULL.

use imagefactory_plugin_sdk::abi::{IMGF_E_UNSUPPORTED, IMGF_OK};

use crate::instance::Instance;
use crate::stage_input::StageInput;
use crate::tables::Tables;

/// Template to base image.
pub fn create_base_image(tables: &Tables, on: &Instance, input: &StageInput) -> Option<i32> {
    let function = tables.os?.create_base_image?;
    // SAFETY: a slot of the plugin's checked table; the instance is alive and this is its stage
    // thread; the input outlives the call.
    Some(unsafe { function(on.as_ptr(), input.stage()) })
}

/// What the clouds asked for, then base image to target image.
pub fn create_target_image(tables: &Tables, on: &Instance, input: &StageInput) -> Option<i32> {
    let table = tables.os?;
    let function = table.create_target_image?;
    for content in input.contents() {
        let Some(add) = table.add_cloud_plugin_content else { return Some(IMGF_E_UNSUPPORTED) };
        // SAFETY: as in create_base_image; the content outlives the call.
        let status = unsafe { add(on.as_ptr(), content) };
        if status != IMGF_OK {
            return Some(status);
        }
    }
    // SAFETY: as in create_base_image.
    Some(unsafe { function(on.as_ptr(), input.stage()) })
}

/// What the build depends on that the template does not say.
pub fn resolve_inputs(tables: &Tables, on: &Instance, input: &StageInput) -> Option<i32> {
    let function = tables.os_inputs?.resolve_inputs?;
    // SAFETY: as in create_base_image.
    Some(unsafe { function(on.as_ptr(), input.stage()) })
}

/// Proof that an image works.
pub fn verify_image(tables: &Tables, on: &Instance, input: &StageInput) -> Option<i32> {
    let function = tables.os_verify?.verify_image?;
    // SAFETY: as in create_base_image.
    Some(unsafe { function(on.as_ptr(), input.stage()) })
}
