//! The tables of operations that a plugin answers, checked once, and which slots they hold.

use std::ffi::c_void;

use imagefactory_model::frames::PluginKind;
use imagefactory_model::stage::Operation;
use imagefactory_plugin_sdk::abi::{
    IMGF_IFACE_CLEANUP_V1, IMGF_IFACE_CLOUD_V1, IMGF_IFACE_OS_INPUTS_V1, IMGF_IFACE_OS_V1,
    IMGF_IFACE_OS_VERIFY_V1, imgf_cleanup_v1, imgf_cloud_v1, imgf_instance, imgf_os_inputs_v1,
    imgf_os_v1, imgf_os_verify_v1,
};

/// What a plugin offers; `None` = it has no such interface.
#[derive(Clone, Copy, Default)]
pub struct Tables {
    /// `imagefactory.os/1`.
    pub os: Option<imgf_os_v1>,
    /// `imagefactory.os.inputs/1`.
    pub os_inputs: Option<imgf_os_inputs_v1>,
    /// `imagefactory.os.verify/1`.
    pub os_verify: Option<imgf_os_verify_v1>,
    /// `imagefactory.cloud/1`.
    pub cloud: Option<imgf_cloud_v1>,
    /// `imagefactory.cleanup/1`.
    pub cleanup: Option<imgf_cleanup_v1>,
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.operations()).finish()
    }
}

impl Tables {
    /// Asks for every interface that this host knows. The error continues "plugin X: ".
    pub fn ask_for(ask: impl Fn(&str) -> *const c_void) -> Result<Tables, String> {
        // SAFETY: a plugin answers an id with the table of that id, which is static and begins
        // with its size.
        unsafe {
            Ok(Tables {
                os: read_table(&ask, IMGF_IFACE_OS_V1)?,
                os_inputs: read_table(&ask, IMGF_IFACE_OS_INPUTS_V1)?,
                os_verify: read_table(&ask, IMGF_IFACE_OS_VERIFY_V1)?,
                cloud: read_table(&ask, IMGF_IFACE_CLOUD_V1)?,
                cleanup: read_table(&ask, IMGF_IFACE_CLEANUP_V1)?,
            })
        }
    }

    /// Refuses a plugin that lacks the operations of its kind; returns what is merely odd.
    pub fn check_against(&self, kind: PluginKind) -> Result<Vec<String>, String> {
        let mut odd = Vec::new();
        let (needed, other) = match kind {
            PluginKind::Os => (IMGF_IFACE_OS_V1, self.cloud.is_some()),
            PluginKind::Cloud => (IMGF_IFACE_CLOUD_V1, self.os.is_some()),
        };
        let has_needed = match kind {
            PluginKind::Os => self.os.is_some(),
            PluginKind::Cloud => self.cloud.is_some(),
        };
        if !has_needed {
            return Err(format!("a plugin of its kind must answer {needed}; it answered NULL"));
        }
        if self.operations().iter().all(|name| name == Operation::Cleanup.name()) {
            return Err(format!("every operation of {needed} is NULL"));
        }
        if other {
            odd.push("it answers the table of the other kind too; that is never called".into());
        }
        if self.cleanup.is_some_and(|table| table.cleanup.is_none()) {
            odd.push(format!("{IMGF_IFACE_CLEANUP_V1} is answered, but its only slot is NULL"));
        }
        Ok(odd)
    }

    /// Interface ids that were answered.
    pub fn interfaces(&self) -> Vec<String> {
        let all = [
            (self.os.is_some(), IMGF_IFACE_OS_V1),
            (self.os_inputs.is_some(), IMGF_IFACE_OS_INPUTS_V1),
            (self.os_verify.is_some(), IMGF_IFACE_OS_VERIFY_V1),
            (self.cloud.is_some(), IMGF_IFACE_CLOUD_V1),
            (self.cleanup.is_some(), IMGF_IFACE_CLEANUP_V1),
        ];
        all.iter().filter(|(answered, _)| *answered).map(|(_, id)| (*id).to_owned()).collect()
    }

    /// Names of the operations whose slot is not NULL.
    pub fn operations(&self) -> Vec<String> {
        let has = |operation: &&Operation| self.has(**operation);
        Operation::ALL.iter().filter(has).map(|operation| operation.name().to_owned()).collect()
    }

    /// Is the slot of this operation not NULL?
    pub fn has(&self, operation: Operation) -> bool {
        let (os, cloud) = (self.os.as_ref(), self.cloud.as_ref());
        match operation {
            Operation::CreateBaseImage => os.is_some_and(|t| t.create_base_image.is_some()),
            Operation::CreateTargetImage => os.is_some_and(|t| t.create_target_image.is_some()),
            Operation::ResolveInputs => self.os_inputs.is_some_and(|t| t.resolve_inputs.is_some()),
            Operation::VerifyImage => self.os_verify.is_some_and(|t| t.verify_image.is_some()),
            Operation::BuilderShouldCreateTargetImage => {
                cloud.is_some_and(|t| t.builder_should_create_target_image.is_some())
            }
            Operation::BuilderWillCreateTargetImage => {
                cloud.is_some_and(|t| t.builder_will_create_target_image.is_some())
            }
            Operation::BuilderDidCreateTargetImage => {
                cloud.is_some_and(|t| t.builder_did_create_target_image.is_some())
            }
            Operation::PushImageToProvider => {
                cloud.is_some_and(|t| t.push_image_to_provider.is_some())
            }
            Operation::SnapshotImageOnProvider => {
                cloud.is_some_and(|t| t.snapshot_image_on_provider.is_some())
            }
            Operation::DeleteFromProvider => {
                cloud.is_some_and(|t| t.delete_from_provider.is_some())
            }
            Operation::Cleanup => self.cleanup.is_some_and(|t| t.cleanup.is_some()),
        }
    }

    /// The `abort` slot of the table that an operation belongs to.
    pub fn abort(&self, operation: Operation) -> Option<unsafe extern "C" fn(*mut imgf_instance)> {
        let of_os = self.os.and_then(|table| table.abort);
        let of_cloud = self.cloud.and_then(|table| table.abort);
        match operation {
            Operation::CreateBaseImage
            | Operation::CreateTargetImage
            | Operation::ResolveInputs
            | Operation::VerifyImage => of_os,
            Operation::BuilderShouldCreateTargetImage
            | Operation::BuilderWillCreateTargetImage
            | Operation::BuilderDidCreateTargetImage
            | Operation::PushImageToProvider
            | Operation::SnapshotImageOnProvider
            | Operation::DeleteFromProvider => of_cloud,
            Operation::Cleanup => of_os.or(of_cloud),
        }
    }
}

/// A copy of one table; tables never change.
///
/// # Safety
/// `ask(id)` answers NULL or a static table of `id`, which begins with its size as `u32`; `T` is
/// the table of `id`.
unsafe fn read_table<T: Copy>(
    ask: &impl Fn(&str) -> *const c_void,
    id: &str,
) -> Result<Option<T>, String> {
    let table = ask(id).cast::<T>();
    if table.is_null() {
        return Ok(None);
    }
    if !table.is_aligned() {
        return Err(format!("its table {id} is misaligned"));
    }
    // SAFETY: not NULL, aligned for T and so for u32; the size is there as the caller promises.
    let stated = unsafe { *table.cast::<u32>() } as usize;
    let least = size_of::<T>();
    if stated < least {
        return Err(format!("its table {id} has {stated} bytes; it must have {least}"));
    }
    // SAFETY: as large as T by its own word, aligned, static.
    Ok(Some(unsafe { *table }))
}
