//! One instance of a plugin, from `create` to `destroy`.

use imagefactory_plugin_sdk::abi::{IMGF_E_INTERNAL, IMGF_OK, imgf_instance};

use crate::host_services::HostTable;
use crate::negotiation::LoadedPlugin;

/// A live instance. Used and destroyed on the thread that made it.
#[derive(Debug)]
pub struct Instance {
    instance: *mut imgf_instance,
    destroy: unsafe extern "C" fn(*mut imgf_instance),
}

/// `create` gave no instance.
#[derive(Debug, PartialEq, Eq)]
pub struct NotCreated {
    /// What it returned, or IMGF_E_INTERNAL where it claimed success without an instance.
    pub status: i32,
    /// It broke the contract instead of failing.
    pub claimed_success: bool,
}

impl Instance {
    /// Calls `create`.
    pub fn create(plugin: &LoadedPlugin, host: &HostTable) -> Result<Self, NotCreated> {
        let mut instance = std::ptr::null_mut();
        // SAFETY: the plugin's checked descriptor; host tables are never freed; the place for the
        // instance outlives the call.
        let status = unsafe { (plugin.create)(host.as_ptr(), &mut instance) };
        match status {
            IMGF_OK if instance.is_null() => {
                Err(NotCreated { status: IMGF_E_INTERNAL, claimed_success: true })
            }
            IMGF_OK => Ok(Instance { instance, destroy: plugin.destroy }),
            status => Err(NotCreated { status, claimed_success: false }),
        }
    }

    /// For the plugin's own functions.
    pub fn as_ptr(&self) -> *mut imgf_instance {
        self.instance
    }

    /// Ends the instance.
    pub fn destroy(self) {
        // SAFETY: made by `create` of the same plugin on this thread, destroyed once.
        unsafe { (self.destroy)(self.instance) };
    }
}
