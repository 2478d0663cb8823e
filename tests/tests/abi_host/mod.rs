//! A small host in the test's own process: loads a plugin library, hands it a recording host table
//! and calls its operations, so that a test sees exactly what crosses the boundary. It confines
//! nothing and survives nothing; the real host is `imagefactory-stage-runner`. Only for fixtures.

#![allow(dead_code, reason = "each test binary uses its own part")]

mod recording;

use std::ffi::CString;
use std::path::Path;
use std::ptr;

use imagefactory_plugin_sdk::abi::{self, imgf_instance, imgf_plugin, imgf_stage, imgf_str};

#[allow(unused_imports, reason = "each test binary uses its own part")]
pub(crate) use recording::{Entry, Recorded, RecordingHost};

/// A loaded library and its descriptor. Never unloaded.
#[derive(Clone, Copy)]
pub(crate) struct Plugin {
    negotiate: abi::imagefactory_plugin_negotiate_fn,
    descriptor: &'static imgf_plugin,
}

impl Plugin {
    /// `dlopen(RTLD_NOW | RTLD_LOCAL)`, then negotiation with exactly ABI 1.0.
    pub(crate) fn load(library: &Path) -> Plugin {
        let path = CString::new(library.to_str().expect("a UTF-8 path")).unwrap();
        // SAFETY: the path is NUL-terminated; the library is a fixture that we built.
        let handle = unsafe {
            libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL | libc::RTLD_NODELETE)
        };
        // SAFETY: dlerror answers NULL or a NUL-terminated text that lives until the next call.
        let why = || unsafe { std::ffi::CStr::from_ptr(libc::dlerror()) }.to_string_lossy();
        assert!(!handle.is_null(), "{}", why());
        let symbol = CString::new(abi::IMGF_ENTRY_SYMBOL).unwrap();
        // SAFETY: a live handle and a NUL-terminated name.
        let entry = unsafe { libc::dlsym(handle, symbol.as_ptr()) };
        assert!(!entry.is_null(), "{}: {}", library.display(), why());
        // SAFETY: the header fixes the type of this symbol.
        let negotiate = unsafe {
            std::mem::transmute::<*mut libc::c_void, abi::imagefactory_plugin_negotiate_fn>(entry)
        };
        let answer = ask(negotiate, abi::IMGF_ABI_1_0, abi::IMGF_ABI_1_0);
        assert_eq!(answer.status, abi::IMGF_OK, "{}: {:?}", library.display(), answer.refusal);
        assert_eq!(answer.chosen_abi, abi::IMGF_ABI_1_0);
        // SAFETY: with IMGF_OK, plugin points to a static descriptor.
        let descriptor =
            unsafe { answer.plugin.as_ref() }.expect("IMGF_OK comes with a descriptor");
        assert!(descriptor.struct_size as usize >= size_of::<imgf_plugin>());
        Plugin { negotiate, descriptor }
    }

    /// Asks once more, with another range.
    pub(crate) fn negotiate(&self, host_abi_min: u32, host_abi_max: u32) -> Answer {
        ask(self.negotiate, host_abi_min, host_abi_max)
    }

    /// Asks with a struct that states `stated` bytes (at most 64); those behind the first 48 are
    /// 0xa5. Answers the status and the struct afterwards.
    pub(crate) fn negotiate_stating(&self, stated: u32) -> (i32, Sized64) {
        let mut question =
            Sized64 { known: question(abi::IMGF_ABI_1_0, abi::IMGF_ABI_1_0), tail: [0xa5; 16] };
        question.known.struct_size = stated;
        // SAFETY: 64 readable and writable bytes, at least as many as any caller states.
        let status = unsafe { (self.negotiate)((&raw mut question).cast()) };
        (status, question)
    }

    /// The descriptor's id.
    pub(crate) fn id(&self) -> String {
        copied(self.descriptor.id)
    }

    /// The descriptor's version.
    pub(crate) fn version(&self) -> String {
        copied(self.descriptor.version)
    }

    /// The descriptor's kind, as in the header.
    pub(crate) fn kind(&self) -> u32 {
        self.descriptor.kind
    }

    /// The table of an interface, as `T`, which the caller knows to fit the id.
    pub(crate) fn interface<T>(&self, id: &str) -> Option<&'static T> {
        let get_interface = self.descriptor.get_interface.expect("a descriptor has get_interface");
        // SAFETY: the id is valid for the call; the answer is static or NULL.
        unsafe { get_interface(imgf_str::new(id)).cast::<T>().as_ref() }
    }

    /// `create` with this host.
    pub(crate) fn create<'h>(&self, host: &'h RecordingHost) -> Instance<'h> {
        let create = self.descriptor.create.expect("a descriptor has create");
        let mut instance = ptr::null_mut();
        // SAFETY: the host table lives as long as the Instance, which borrows it.
        let status = unsafe { create(host.table(), &raw mut instance) };
        assert_eq!(status, abi::IMGF_OK, "create");
        Instance { plugin: *self, host, pointer: instance }
    }
}

/// What a negotiation ended with.
pub(crate) struct Answer {
    /// IMGF_OK or IMGF_E_*.
    pub(crate) status: i32,
    /// As the plugin set it.
    pub(crate) chosen_abi: u32,
    /// As the plugin set it.
    pub(crate) plugin: *const imgf_plugin,
    /// As the plugin set it.
    pub(crate) refusal: String,
}

/// `imgf_negotiate` with room behind it, as a later host would have it.
#[repr(C)]
pub(crate) struct Sized64 {
    /// What 1.0 knows.
    pub(crate) known: abi::imgf_negotiate,
    /// What a later host might have there.
    pub(crate) tail: [u8; 16],
}

fn question(min: u32, max: u32) -> abi::imgf_negotiate {
    abi::imgf_negotiate {
        struct_size: size_of::<abi::imgf_negotiate>() as u32,
        host_abi_min: min,
        host_abi_max: max,
        flags: 0,
        chosen_abi: 0,
        reserved0: 0,
        plugin: ptr::null(),
        refusal: imgf_str::ABSENT,
    }
}

fn ask(negotiate: abi::imagefactory_plugin_negotiate_fn, min: u32, max: u32) -> Answer {
    let mut question = question(min, max);
    // SAFETY: the question lives for the call and carries its size.
    let status = unsafe { negotiate(&raw mut question) };
    Answer {
        status,
        chosen_abi: question.chosen_abi,
        plugin: question.plugin,
        refusal: copied(question.refusal),
    }
}

/// Text that the other side lends us, copied; absent becomes "".
fn copied(text: imgf_str) -> String {
    // SAFETY: the ABI promises readable bytes for the call; they are copied at once.
    let text = unsafe { text.text() };
    text.expect("text is UTF-8").unwrap_or_default().to_owned()
}

/// An operation of any table that takes a stage only.
pub(crate) type StageCall = unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32;

/// One instance of a plugin; `destroy` comes with the end of its scope.
pub(crate) struct Instance<'h> {
    plugin: Plugin,
    host: &'h RecordingHost,
    pointer: *mut imgf_instance,
}

impl Instance<'_> {
    /// The OS table.
    pub(crate) fn os(&self) -> &'static abi::imgf_os_v1 {
        self.plugin.interface(abi::IMGF_IFACE_OS_V1).expect("an OS plugin")
    }

    /// The table of an interface.
    pub(crate) fn interface<T>(&self, id: &str) -> &'static T {
        self.plugin.interface(id).expect("the plugin has this interface")
    }

    /// The cloud table.
    pub(crate) fn cloud(&self) -> &'static abi::imgf_cloud_v1 {
        self.plugin.interface(abi::IMGF_IFACE_CLOUD_V1).expect("a cloud plugin")
    }

    /// Calls an operation with a stage.
    pub(crate) fn call(&self, operation: Option<StageCall>, stage: &Stage) -> i32 {
        let operation = operation.expect("the plugin has this operation");
        stage.lend(|stage| {
            // SAFETY: instance and stage are alive; the type is that of the header.
            unsafe { operation(self.pointer, stage) }
        })
    }

    /// Delivers a TargetContent to the OS plugin.
    pub(crate) fn add_content(&self, content: &str) -> i32 {
        let add = self.os().add_cloud_plugin_content.expect("the plugin takes content");
        let content = CString::new(content).unwrap();
        let lent = imgf_str { ptr: content.as_ptr().cast(), len: content.as_bytes().len() };
        // SAFETY: the instance is alive, the text for the call.
        unsafe { add(self.pointer, lent) }
    }

    /// Calls the should-hook; status and its answer.
    pub(crate) fn should(&self, stage: &Stage) -> (i32, u32) {
        let should = self.cloud().builder_should_create_target_image.expect("the plugin has it");
        let mut yes = 1;
        // SAFETY: instance, stage and the place for the answer are alive for the call.
        let status = stage.lend(|stage| unsafe { should(self.pointer, stage, &raw mut yes) });
        (status, yes)
    }

    /// Calls cleanup with a journal.
    pub(crate) fn cleanup(&self, stage: &Stage, journal: &str) -> i32 {
        let table: &abi::imgf_cleanup_v1 =
            self.plugin.interface(abi::IMGF_IFACE_CLEANUP_V1).expect("a plugin with cleanup");
        let cleanup = table.cleanup.expect("the table has it");
        let journal = CString::new(journal).unwrap();
        let lent = imgf_str { ptr: journal.as_ptr().cast(), len: journal.as_bytes().len() };
        // SAFETY: instance, stage and text are alive for the call.
        stage.lend(|stage| unsafe { cleanup(self.pointer, stage, lent) })
    }

    /// Calls abort, from whichever table has it.
    pub(crate) fn abort(&self) {
        let os: Option<&abi::imgf_os_v1> = self.plugin.interface(abi::IMGF_IFACE_OS_V1);
        let abort = match os {
            Some(os) => os.abort,
            None => self.cloud().abort,
        };
        // SAFETY: the instance is alive; abort may be called from any thread.
        unsafe { abort.expect("the plugin has abort")(self.pointer) }
    }

    /// What the plugin told the host so far.
    pub(crate) fn recorded(&self) -> Recorded {
        self.host.recorded()
    }
}

impl Drop for Instance<'_> {
    fn drop(&mut self) {
        let destroy = self.plugin.descriptor.destroy.expect("a descriptor has destroy");
        // SAFETY: the instance came from create and is destroyed once.
        unsafe { destroy(self.pointer) }
    }
}

/// The texts of one stage; absent unless set.
#[derive(Default, Clone)]
pub(crate) struct Stage {
    /// UUID text.
    pub(crate) stage_id: String,
    /// `mock`, …
    pub(crate) target: Option<String>,
    /// 1, 2, … (0 stands for 1).
    pub(crate) attempt: u32,
    /// Provider definition.
    pub(crate) provider: Option<String>,
    /// TDL.
    pub(crate) template_xml: Option<String>,
    /// JSON object.
    pub(crate) parameters: String,
    /// JSON object.
    pub(crate) images: String,
    /// Name for secret_get.
    pub(crate) credential_name: Option<String>,
}

impl Stage {
    /// A stage with a template and nothing else.
    pub(crate) fn with_template(template: &str) -> Stage {
        Stage {
            stage_id: "1f0c3a5e-0000-4000-8000-000000000001".into(),
            template_xml: Some(template.into()),
            parameters: "{}".into(),
            images: "{}".into(),
            ..Stage::default()
        }
    }

    /// The same with parameters.
    pub(crate) fn and_parameters(mut self, json: &str) -> Stage {
        self.parameters = json.into();
        self
    }

    /// Lends the stage for one call. Each text is a heap block of its own, NUL-terminated, and is
    /// overwritten and freed afterwards, so that a kept pointer shows.
    fn lend<T>(&self, call: impl FnOnce(*const imgf_stage) -> T) -> T {
        let mut blocks: Vec<Box<[u8]>> = Vec::new();
        let mut lend = |text: Option<&str>| -> imgf_str {
            let Some(text) = text else { return imgf_str::ABSENT };
            let mut block = text.as_bytes().to_vec();
            block.push(0);
            blocks.push(block.into_boxed_slice());
            let block = blocks.last().expect("just pushed");
            imgf_str { ptr: block.as_ptr(), len: block.len() - 1 }
        };
        let stage = imgf_stage {
            struct_size: size_of::<imgf_stage>() as u32,
            flags: 0,
            deadline_unix_ms: 0,
            attempt: self.attempt.max(1),
            reserved0: 0,
            stage_id: lend(Some(&self.stage_id)),
            image_id: lend(Some("1f0c3a5e-0000-4000-8000-0000000000ff")),
            target: lend(self.target.as_deref()),
            provider: lend(self.provider.as_deref()),
            template_xml: lend(self.template_xml.as_deref()),
            template_json: imgf_str::ABSENT,
            parameters_json: lend(Some(&self.parameters)),
            images_json: lend(Some(&self.images)),
            resources_json: lend(Some("{}")),
            credential_name: lend(self.credential_name.as_deref()),
        };
        let answer = call(&raw const stage);
        for block in &mut blocks {
            block.fill(0xa5);
        }
        answer
    }
}
