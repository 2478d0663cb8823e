//! Asks the host for a further table of functions by its versioned id.

use super::error::{ErrorCode, PluginError, Result};
use super::host::Host;
use crate::abi::*;

/// A further host table.
///
/// # Safety
/// `repr(C)`, begins with the `u32` size, and is the table that `ID` names.
pub(super) unsafe trait HostInterface: Copy {
    const ID: &'static str;
}

// SAFETY: as declared in host_checkpoint.h.
unsafe impl HostInterface for imgf_host_checkpoint_v1 {
    const ID: &'static str = IMGF_HOST_CHECKPOINT_V1;
}
// SAFETY: as declared in host_artifact.h.
unsafe impl HostInterface for imgf_host_artifact_v1 {
    const ID: &'static str = IMGF_HOST_ARTIFACT_V1;
}
// SAFETY: as declared in host_reserve.h.
unsafe impl HostInterface for imgf_host_reserve_v1 {
    const ID: &'static str = IMGF_HOST_RESERVE_V1;
}

impl Host {
    /// The table, copied; released tables never change. [`ErrorCode::Unsupported`]: this host does
    /// not have it.
    pub(super) fn interface<T: HostInterface>(&self) -> Result<T> {
        let copied = self.table.visit(|host| {
            // SAFETY: the slot's contract; the id is static.
            let table = unsafe { (host.get_interface)(host.ctx, imgf_str::new(T::ID)) };
            if table.is_null() || (table as usize) % std::mem::align_of::<T>() != 0 {
                return None;
            }
            // SAFETY: not NULL, aligned, begins with its size; read only if it is all there.
            unsafe {
                let stated = *(table as *const u32) as usize;
                (stated >= std::mem::size_of::<T>()).then(|| *(table as *const T))
            }
        });
        copied.flatten().ok_or_else(|| missing(T::ID))
    }
}

/// The error for a table, or a slot of it, that the host does not have.
pub(super) fn missing(what: &str) -> PluginError {
    PluginError::new(ErrorCode::Unsupported, format!("this host does not offer {what}"))
        .hint("the plugin needs a newer Image Factory")
}
