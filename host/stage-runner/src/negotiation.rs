//! Loads a checked library and settles with it what it is.
//!
//! The sandbox stands before this is called: a library's constructors run inside `dlopen`. Nothing
//! is ever unloaded; the process ends instead.

use std::ffi::c_void;

use imagefactory_model::frames::{LayoutCheck, PluginFacts, PluginKind, PluginLibrary, RunnerTask};
use imagefactory_plugin_sdk::abi::{
    IMGF_ABI_1_0, IMGF_E_ABI, IMGF_ENTRY_SYMBOL, IMGF_KIND_CLOUD, IMGF_KIND_OS,
    IMGF_NEGOTIATE_DESCRIBE_ONLY, IMGF_OK, imagefactory_plugin_negotiate_fn, imgf_host,
    imgf_instance, imgf_negotiate, imgf_plugin, imgf_str,
};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use crate::error::RunnerError;
use crate::library::CheckedLibrary;
use crate::tables::Tables;

/// Oldest and newest ABI that this runner speaks.
pub const ABI_RANGE: (u32, u32) = (IMGF_ABI_1_0, IMGF_ABI_1_0);

/// `RTLD_NODELETE`: even a `dlclose` by the plugin itself leaves it mapped.
const NEVER_UNLOAD: i32 = 0x1000;

/// A plugin that said who it is and whose slots were checked.
#[derive(Debug)]
pub struct LoadedPlugin {
    /// For Ready.
    pub facts: PluginFacts,
    /// Its operations.
    pub tables: Tables,
    /// `imgf_plugin.create`.
    pub create: unsafe extern "C" fn(*const imgf_host, *mut *mut imgf_instance) -> i32,
    /// `imgf_plugin.destroy`.
    pub destroy: unsafe extern "C" fn(*mut imgf_instance),
}

/// The entry function of a library that was loaded.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    function: imagefactory_plugin_negotiate_fn,
    layout: LayoutCheck,
}

/// Maps the library and finds its entry. Runs its constructors.
pub fn load(library: &CheckedLibrary, plugin_id: &str) -> Result<Entry, RunnerError> {
    let fault = |error: libloading::Error| load_fault(library, &error);
    // RTLD_NOW: a missing symbol is an error here and not a crash in the middle of a build.
    let flags = RTLD_NOW | RTLD_LOCAL | NEVER_UNLOAD;
    // SAFETY: this runs foreign constructors. That is what this process is for: it is confined, it
    // runs one plugin and then ends.
    let mapped = unsafe { Library::open(Some(library.load_path()), flags) }.map_err(fault)?;
    // SAFETY: the symbol's type is frozen (negotiate.h); whoever exports the name promises it.
    let symbol =
        unsafe { mapped.get::<imagefactory_plugin_negotiate_fn>(IMGF_ENTRY_SYMBOL.as_bytes()) };
    let function = *symbol.map_err(fault)?;
    let layout = check_layout(&mapped, plugin_id)?;
    #[expect(clippy::mem_forget, reason = "a plugin is never unloaded: threads, TLS destructors")]
    std::mem::forget(mapped);
    Ok(Entry { function, layout })
}

/// The dynamic linker names the descriptor it was given; people want the file.
fn load_fault(library: &CheckedLibrary, error: &libloading::Error) -> RunnerError {
    let given = library.load_path();
    let real = library.path.display().to_string();
    // libloading keeps the linker's words in the source of its error.
    let words = std::error::Error::source(error).map_or(error.to_string(), ToString::to_string);
    let fault = words.replace(&given.display().to_string(), &real);
    RunnerError::Load { path: library.path.clone(), fault }
}

#[cfg(feature = "layout-check")]
fn check_layout(mapped: &Library, plugin_id: &str) -> Result<LayoutCheck, RunnerError> {
    use imagefactory_plugin_sdk::layout;
    // SAFETY: only the symbol's address is taken; what lies there is looked at below.
    let symbol = unsafe { mapped.get::<*const c_void>(layout::SIDE_CAR_SYMBOL.as_bytes()) };
    let side_car = symbol.map_or(std::ptr::null(), |symbol| symbol.as_raw_ptr().cast_const());
    // SAFETY: NULL, or the address of that symbol in a library that is never unloaded.
    match unsafe { layout::check(side_car) } {
        layout::LayoutCheck::Checked => Ok(LayoutCheck::Checked),
        layout::LayoutCheck::Absent => Ok(LayoutCheck::Absent),
        layout::LayoutCheck::OtherVersion(_) => Ok(LayoutCheck::OtherVersion),
        layout::LayoutCheck::Mismatch(fault) => {
            Err(RunnerError::Layout { plugin: plugin_id.to_owned(), fault })
        }
    }
}

#[cfg(not(feature = "layout-check"))]
fn check_layout(_mapped: &Library, _plugin_id: &str) -> Result<LayoutCheck, RunnerError> {
    Ok(LayoutCheck::NotBuilt)
}

/// Settles the ABI version and compares the plugin with its manifest.
pub fn negotiate(
    entry: Entry,
    task: RunnerTask,
    manifest: &PluginLibrary,
    sha256: &str,
) -> Result<LoadedPlugin, RunnerError> {
    let refuse = |fault: String| RunnerError::Abi { plugin: manifest.id.clone(), fault };
    let mut question = imgf_negotiate {
        struct_size: imgf_negotiate::SIZE,
        host_abi_min: ABI_RANGE.0,
        host_abi_max: ABI_RANGE.1,
        flags: match task {
            RunnerTask::Describe => IMGF_NEGOTIATE_DESCRIBE_ONLY,
            RunnerTask::Stage | RunnerTask::Probe => 0,
        },
        chosen_abi: 0,
        reserved0: 0,
        plugin: std::ptr::null(),
        refusal: imgf_str::ABSENT,
    };
    // SAFETY: the question is ours, of the stated size, and outlives the call.
    let status = unsafe { (entry.function)(&mut question) };
    if status != IMGF_OK {
        return Err(refuse(refusal_text(status, question.refusal)));
    }
    let chosen = question.chosen_abi;
    if !(ABI_RANGE.0..=ABI_RANGE.1).contains(&chosen) {
        let (min, max) = (version_text(ABI_RANGE.0), version_text(ABI_RANGE.1));
        let chosen = version_text(chosen);
        return Err(refuse(format!("it chose ABI {chosen} out of {min} to {max}")));
    }
    let plugin = descriptor(question.plugin).map_err(refuse)?;
    let (id, version, kind) = identity(plugin, manifest).map_err(refuse)?;
    let (Some(create), Some(destroy), Some(get_interface)) =
        (plugin.create, plugin.destroy, plugin.get_interface)
    else {
        return Err(refuse("its create, destroy or get_interface is NULL".into()));
    };
    let ask = |interface: &str| -> *const c_void {
        // SAFETY: the function comes from the descriptor that was checked; the id is borrowed for
        // the call.
        unsafe { get_interface(imgf_str::new(interface)) }
    };
    let tables = Tables::ask_for(ask).map_err(refuse)?;
    let warnings = tables.check_against(kind).map_err(refuse)?;
    let facts = PluginFacts {
        id,
        version,
        kind,
        abi_compiled: version_text(plugin.abi_version),
        abi_chosen: version_text(chosen),
        interfaces: tables.interfaces(),
        operations: tables.operations(),
        layout: entry.layout,
        sha256: sha256.to_owned(),
        warnings,
    };
    Ok(LoadedPlugin { facts, tables, create, destroy })
}

/// Longest text of a plugin that goes into one of our sentences.
const FOREIGN_TEXT_BYTES_MAX: usize = 2048;

fn refusal_text(status: i32, refusal: imgf_str) -> String {
    let (min, max) = (version_text(ABI_RANGE.0), version_text(ABI_RANGE.1));
    if status != IMGF_E_ABI {
        return format!(
            "negotiating answered status {status}; this host speaks ABI {min} to {max}"
        );
    }
    // SAFETY: negotiate.h: on IMGF_E_ABI refusal is static text.
    let words = unsafe { refusal.bytes() }.unwrap_or_default();
    let words = &words[..words.len().min(FOREIGN_TEXT_BYTES_MAX)];
    let words = String::from_utf8_lossy(words);
    format!("no common ABI: this host speaks {min} to {max}; the plugin says: {words}")
}

fn descriptor<'a>(plugin: *const imgf_plugin) -> Result<&'a imgf_plugin, String> {
    if plugin.is_null() {
        return Err("it accepted and gave no descriptor (NULL)".into());
    }
    if !plugin.is_aligned() {
        return Err("its descriptor is misaligned".into());
    }
    // SAFETY: not NULL, aligned; descriptors are static and begin with their size.
    let stated = unsafe { (*plugin).struct_size };
    if stated < imgf_plugin::SIZE {
        let least = imgf_plugin::SIZE;
        return Err(format!("its descriptor has {stated} bytes, ABI 1.0 has {least}"));
    }
    // SAFETY: as above, and as large as ours; static by contract, so it lives as long as we.
    Ok(unsafe { &*plugin })
}

fn identity(
    plugin: &imgf_plugin,
    manifest: &PluginLibrary,
) -> Result<(String, String, PluginKind), String> {
    // SAFETY: descriptor texts are static.
    let (id, version) = unsafe { (text(plugin.id, "id")?, text(plugin.version, "version")?) };
    if id != manifest.id {
        return Err(format!("the library calls itself {id:?}, its manifest {:?}", manifest.id));
    }
    if version != manifest.version {
        let said = &manifest.version;
        return Err(format!("the library is of version {version:?}, its manifest of {said:?}"));
    }
    let kind = match plugin.kind {
        IMGF_KIND_OS => PluginKind::Os,
        IMGF_KIND_CLOUD => PluginKind::Cloud,
        other => return Err(format!("its kind is {other}; there are 1 (OS) and 2 (cloud)")),
    };
    if kind != manifest.kind {
        let said = manifest.kind;
        return Err(format!("the library is an {kind:?} plugin, its manifest says {said:?}"));
    }
    Ok((id, version, kind))
}

/// # Safety
/// As for [`imgf_str::bytes`].
unsafe fn text(text: imgf_str, field: &str) -> Result<String, String> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { text.bytes() }.ok_or_else(|| format!("its {field} is absent"))?;
    let bytes = &bytes[..bytes.len().min(FOREIGN_TEXT_BYTES_MAX)];
    let text = std::str::from_utf8(bytes).map_err(|_| format!("its {field} is not UTF-8"))?;
    Ok(text.to_owned())
}

/// `1.0`, as people write ABI versions.
pub fn version_text(abi: u32) -> String {
    format!("{}.{}", abi >> 16, abi & 0xffff)
}
