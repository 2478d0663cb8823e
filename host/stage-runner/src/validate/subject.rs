//! The plugin under test: its library, its entry, its tables, and one safe call for each of its
//! functions.
//!
//! Nothing is taken from the plugin on trust: every slot is checked, every pointer that it answers
//! is looked at only where rules 104 and 111 have found it sound. The library is never unloaded.

use std::ffi::c_void;
use std::path::Path;

use imagefactory_model::frames::PluginKind;
use imagefactory_model::stage::Operation;
use imagefactory_model::validation::ProbedPlugin;
use imagefactory_plugin_sdk::abi::{
    IMGF_ABI_1_0, IMGF_ENTRY_SYMBOL, IMGF_IFACE_CLEANUP_V1, IMGF_IFACE_CLOUD_V1,
    IMGF_IFACE_OS_INPUTS_V1, IMGF_IFACE_OS_V1, IMGF_IFACE_OS_VERIFY_V1, IMGF_OK,
    imagefactory_plugin_negotiate_fn, imgf_cleanup_v1, imgf_cloud_v1, imgf_instance,
    imgf_negotiate, imgf_os_inputs_v1, imgf_os_v1, imgf_os_verify_v1, imgf_plugin, imgf_stage,
    imgf_str,
};
use libloading::os::unix::Library;

use super::mock_host::MockHost;

/// `RTLD_NODELETE`: the mapping stays even if something closes it.
const LOAD_FLAGS: i32 = libc::RTLD_NOW | libc::RTLD_LOCAL | libc::RTLD_NODELETE;

/// An instance of the plugin; only handed back to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instance(pub(super) *mut imgf_instance);

// SAFETY: the pointer is never dereferenced here. The ABI allows abort on any thread, and that is
// the only call that is made from another one.
unsafe impl Send for Instance {}

/// Why there is no entry; each text is the loader's own.
#[derive(Debug)]
pub(super) enum LoadFault {
    /// The library cannot be mapped.
    Library(String),
    /// It has no entry symbol.
    Entry(String),
}

impl LoadFault {
    pub(super) fn text(&self) -> &str {
        match self {
            LoadFault::Library(text) | LoadFault::Entry(text) => text,
        }
    }
}

/// Loads a library and finds its entry.
pub(super) fn load_entry(library: &Path) -> Result<imagefactory_plugin_negotiate_fn, LoadFault> {
    let loaded = map(library).map_err(LoadFault::Library)?;
    // SAFETY: the type of this symbol is frozen by negotiate.h.
    let entry = unsafe {
        loaded
            .get::<imagefactory_plugin_negotiate_fn>(IMGF_ENTRY_SYMBOL.as_bytes())
            .map(|symbol| *symbol)
    };
    let entry = entry.map_err(|error| LoadFault::Entry(in_words(&error)));
    let _never_closed = loaded.into_raw();
    entry
}

fn map(library: &Path) -> Result<Library, String> {
    // SAFETY: running the library's constructors is what a probe is for; this process is its cage.
    unsafe { Library::open(Some(library), LOAD_FLAGS) }.map_err(|error| in_words(&error))
}

/// The error with its causes: what the dynamic linker said stands in the last one.
fn in_words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Loads a library and answers the address of a symbol; NULL where it has none.
#[cfg(feature = "layout-check")]
pub(super) fn load_symbol(library: &Path, symbol: &str) -> Result<*const c_void, String> {
    let loaded = map(library)?;
    // SAFETY: only the address is taken.
    let address = unsafe { loaded.get::<*const c_void>(symbol.as_bytes()) };
    let address = address.map_or(std::ptr::null(), |symbol| symbol.into_raw().cast_const());
    let _never_closed = loaded.into_raw();
    Ok(address)
}

/// An empty question for the range of versions.
pub(super) fn question(host_abi_min: u32, host_abi_max: u32) -> imgf_negotiate {
    imgf_negotiate {
        struct_size: size_of::<imgf_negotiate>() as u32,
        host_abi_min,
        host_abi_max,
        flags: 0,
        chosen_abi: 0,
        reserved0: 0,
        plugin: std::ptr::null(),
        refusal: imgf_str::ABSENT,
    }
}

/// A loaded and negotiated plugin.
pub(super) struct Subject {
    descriptor: &'static imgf_plugin,
    pub(super) kind: PluginKind,
    os: Option<&'static imgf_os_v1>,
    cloud: Option<&'static imgf_cloud_v1>,
    cleanup: Option<&'static imgf_cleanup_v1>,
    inputs: Option<&'static imgf_os_inputs_v1>,
    verify: Option<&'static imgf_os_verify_v1>,
}

impl Subject {
    /// Loads and negotiates as the real host does. An error is one sentence.
    pub(super) fn load(plugin: &ProbedPlugin) -> Result<Subject, String> {
        let entry = load_entry(&plugin.library).map_err(|fault| fault.text().to_owned())?;
        let mut question = question(IMGF_ABI_1_0, IMGF_ABI_1_0);
        // SAFETY: the struct is whole and lives through the call.
        let code = unsafe { entry(&mut question) };
        // SAFETY: static, as descriptor.h demands of what is answered with IMGF_OK; rule 104.
        let descriptor = unsafe { question.plugin.as_ref::<'static>() };
        let Some(descriptor) = descriptor.filter(|_| code == IMGF_OK) else {
            return Err(format!("negotiation answered {code}"));
        };
        let table = |id: &str| {
            descriptor.get_interface.map_or(std::ptr::null(), |get| {
                // SAFETY: the id outlives the call.
                unsafe { get(imgf_str::new(id)) }
            })
        };
        // SAFETY: static tables as descriptor.h demands; `sound` refuses NULL, misaligned and
        // short ones.
        let (os, cloud, cleanup, inputs, verify) = unsafe {
            (
                sound(table(IMGF_IFACE_OS_V1)),
                sound(table(IMGF_IFACE_CLOUD_V1)),
                sound(table(IMGF_IFACE_CLEANUP_V1)),
                sound(table(IMGF_IFACE_OS_INPUTS_V1)),
                sound(table(IMGF_IFACE_OS_VERIFY_V1)),
            )
        };
        Ok(Subject { descriptor, kind: plugin.kind, os, cloud, cleanup, inputs, verify })
    }

    /// The descriptor as the plugin gave it.
    pub(super) fn descriptor(&self) -> &'static imgf_plugin {
        self.descriptor
    }

    /// The table of an id; NULL where the plugin has none.
    pub(super) fn interface(&self, id: imgf_str) -> *const c_void {
        // SAFETY: the id outlives the call.
        self.descriptor.get_interface.map_or(std::ptr::null(), |get| unsafe { get(id) })
    }

    /// Is there a slot for this operation?
    pub(super) fn has(&self, operation: Operation) -> bool {
        match operation {
            Operation::CreateBaseImage => self.os.is_some_and(|t| t.create_base_image.is_some()),
            Operation::CreateTargetImage => {
                self.os.is_some_and(|t| t.create_target_image.is_some())
            }
            Operation::ResolveInputs => self.inputs.is_some_and(|t| t.resolve_inputs.is_some()),
            Operation::VerifyImage => self.verify.is_some_and(|t| t.verify_image.is_some()),
            Operation::Cleanup => self.cleanup.is_some_and(|t| t.cleanup.is_some()),
            Operation::BuilderShouldCreateTargetImage => {
                self.cloud.is_some_and(|t| t.builder_should_create_target_image.is_some())
            }
            _ => self.plain_cloud_slot(operation).is_some(),
        }
    }

    /// The cloud slots that take instance and stage alone.
    fn plain_cloud_slot(
        &self,
        operation: Operation,
    ) -> Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32> {
        let cloud = self.cloud?;
        match operation {
            Operation::BuilderWillCreateTargetImage => cloud.builder_will_create_target_image,
            Operation::BuilderDidCreateTargetImage => cloud.builder_did_create_target_image,
            Operation::PushImageToProvider => cloud.push_image_to_provider,
            Operation::SnapshotImageOnProvider => cloud.snapshot_image_on_provider,
            Operation::DeleteFromProvider => cloud.delete_from_provider,
            _ => None,
        }
    }

    /// Makes an instance; the status where it was refused. A NULL instance with IMGF_OK is −1.
    pub(super) fn create(&self, host: &MockHost) -> Result<Instance, i32> {
        let mut instance = std::ptr::null_mut();
        let Some(create) = self.descriptor.create else { return Err(-1) };
        host.begin_create();
        // SAFETY: the host's table is pinned in its box and outlives the instance.
        let code = unsafe { create(host.table(), &mut instance) };
        host.end();
        match code {
            IMGF_OK if instance.is_null() => Err(-1),
            IMGF_OK => Ok(Instance(instance)),
            code => Err(code),
        }
    }

    /// Ends an instance; it must not be used afterwards.
    pub(super) fn destroy(&self, instance: Instance) {
        if let Some(destroy) = self.descriptor.destroy {
            // SAFETY: made by create, handed back once; no operation runs.
            unsafe { destroy(instance.0) }
        }
    }

    /// Calls an operation that is there; one that is not answers IMGF_E_UNSUPPORTED.
    pub(super) fn call(
        &self,
        operation: Operation,
        instance: Instance,
        (stage, journal): (*const imgf_stage, imgf_str),
        yes: &mut u32,
    ) -> i32 {
        let plain = match operation {
            Operation::CreateBaseImage => self.os.and_then(|table| table.create_base_image),
            Operation::CreateTargetImage => self.os.and_then(|table| table.create_target_image),
            Operation::ResolveInputs => self.inputs.and_then(|table| table.resolve_inputs),
            Operation::VerifyImage => self.verify.and_then(|table| table.verify_image),
            _ => self.plain_cloud_slot(operation),
        };
        let should = self.cloud.and_then(|table| table.builder_should_create_target_image);
        let cleanup = self.cleanup.and_then(|table| table.cleanup);
        // SAFETY: the instance is alive, the stage and its texts live through the call, no other
        // operation runs on this instance.
        unsafe {
            match (operation, plain, should, cleanup) {
                (_, Some(slot), _, _) => slot(instance.0, stage),
                (Operation::BuilderShouldCreateTargetImage, _, Some(slot), _) => {
                    slot(instance.0, stage, yes)
                }
                (Operation::Cleanup, _, _, Some(slot)) => slot(instance.0, stage, journal),
                _ => UNSUPPORTED,
            }
        }
    }

    /// Gives the OS plugin one TargetContent, where it takes any.
    pub(super) fn add_content(&self, instance: Instance, content: imgf_str) -> i32 {
        let slot = self.os.and_then(|table| table.add_cloud_plugin_content);
        // SAFETY: as for `call`.
        slot.map_or(UNSUPPORTED, |slot| unsafe { slot(instance.0, content) })
    }

    /// The abort slot of the plugin's kind.
    pub(super) fn abort(&self) -> Option<unsafe extern "C" fn(*mut imgf_instance)> {
        match self.kind {
            PluginKind::Os => self.os.and_then(|table| table.abort),
            PluginKind::Cloud => self.cloud.and_then(|table| table.abort),
        }
    }
}

const UNSUPPORTED: i32 = imagefactory_plugin_sdk::abi::IMGF_E_UNSUPPORTED;

/// A table that is not NULL, aligned, and at least as large as its first version.
///
/// # Safety
/// `table` is NULL, or static with at least its `struct_size` readable.
pub(super) unsafe fn sound<T>(table: *const c_void) -> Option<&'static T> {
    if table.is_null() || !(table as usize).is_multiple_of(align_of::<T>()) {
        return None;
    }
    // SAFETY: not NULL, aligned; every table begins with its u32 struct_size.
    let bytes = unsafe { *(table as *const u32) } as usize;
    // SAFETY: large enough by its own word, static.
    (bytes >= size_of::<T>()).then(|| unsafe { &*(table as *const T) })
}
