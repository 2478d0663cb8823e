//! One safe function for each operation of a cloud plugin. `None` = the slot is NULL.

use crate::instance::Instance;
use crate::stage_input::StageInput;
use crate::tables::Tables;

/// Status, and whether the usual way is to be gone.
pub fn builder_should_create_target_image(
    tables: &Tables,
    on: &Instance,
    input: &StageInput,
) -> Option<(i32, bool)> {
    let function = tables.cloud?.builder_should_create_target_image?;
    // cloud.h: 1 before the call; a plugin that leaves it alone says yes.
    let mut yes = 1u32;
    // SAFETY: a slot of the plugin's checked table; the instance is alive and this is its stage
    // thread; input and answer outlive the call.
    let status = unsafe { function(on.as_ptr(), input.stage(), &mut yes) };
    Some((status, yes != 0))
}

/// Says what the OS plugin is to add.
pub fn builder_will_create_target_image(
    tables: &Tables,
    on: &Instance,
    input: &StageInput,
) -> Option<i32> {
    let function = tables.cloud?.builder_will_create_target_image?;
    // SAFETY: as above.
    Some(unsafe { function(on.as_ptr(), input.stage()) })
}

/// Transforms the target image that the OS plugin made.
pub fn builder_did_create_target_image(
    tables: &Tables,
    on: &Instance,
    input: &StageInput,
) -> Option<i32> {
    let function = tables.cloud?.builder_did_create_target_image?;
    // SAFETY: as above.
    Some(unsafe { function(on.as_ptr(), input.stage()) })
}

/// Target image to provider image.
pub fn push_image_to_provider(tables: &Tables, on: &Instance, input: &StageInput) -> Option<i32> {
    let function = tables.cloud?.push_image_to_provider?;
    // SAFETY: as above.
    Some(unsafe { function(on.as_ptr(), input.stage()) })
}

/// Provider image by a snapshot on the provider.
pub fn snapshot_image_on_provider(
    tables: &Tables,
    on: &Instance,
    input: &StageInput,
) -> Option<i32> {
    let function = tables.cloud?.snapshot_image_on_provider?;
    // SAFETY: as above.
    Some(unsafe { function(on.as_ptr(), input.stage()) })
}

/// Removes a provider image.
pub fn delete_from_provider(tables: &Tables, on: &Instance, input: &StageInput) -> Option<i32> {
    let function = tables.cloud?.delete_from_provider?;
    // SAFETY: as above.
    Some(unsafe { function(on.as_ptr(), input.stage()) })
}
