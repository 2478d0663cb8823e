//! Undoing what an earlier attempt left outside. `None` = the slot is NULL.

use crate::instance::Instance;
use crate::stage_input::StageInput;
use crate::tables::Tables;

/// Removes what the order's journal lists.
pub fn cleanup(tables: &Tables, on: &Instance, input: &StageInput) -> Option<i32> {
    let function = tables.cleanup?.cleanup?;
    // SAFETY: a slot of the plugin's checked table; the instance is alive and this is its stage
    // thread; input and journal outlive the call.
    Some(unsafe { function(on.as_ptr(), input.stage(), input.journal()) })
}
