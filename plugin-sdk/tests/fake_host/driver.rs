//! Drives a plugin as the runner does: negotiate, create, operations, destroy.

use std::ffi::c_void;

use imagefactory_plugin_sdk::abi::*;

use super::FakeHost;

/// A slot whose operation gets nothing but a stage.
pub(crate) type StageOperation = unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32;

/// A stage's texts; `None` = absent. [`StageTexts::with`] lends them as the C struct.
#[derive(Debug, Clone, Default)]
pub(crate) struct StageTexts {
    pub(crate) attempt: u32,
    pub(crate) deadline_unix_ms: u64,
    pub(crate) stage_id: Option<String>,
    pub(crate) image_id: Option<String>,
    pub(crate) target: Option<String>,
    pub(crate) provider: Option<String>,
    pub(crate) template_xml: Option<String>,
    pub(crate) template_json: Option<String>,
    pub(crate) parameters_json: Option<String>,
    pub(crate) images_json: Option<String>,
    pub(crate) credential_name: Option<String>,
}

impl StageTexts {
    /// A first attempt with its two ids and nothing else.
    pub(crate) fn new() -> StageTexts {
        StageTexts {
            attempt: 1,
            stage_id: Some("11111111-2222-4333-8444-555555555555".to_owned()),
            image_id: Some("66666666-7777-4888-9999-aaaaaaaaaaaa".to_owned()),
            ..StageTexts::default()
        }
    }

    /// Lends the stage; nothing of it may be used after `use_it`.
    pub(crate) fn with<R>(&self, use_it: impl FnOnce(&imgf_stage) -> R) -> R {
        let text = |value: &Option<String>| imgf_str::optional(value.as_deref());
        use_it(&imgf_stage {
            struct_size: imgf_stage::SIZE,
            flags: 0,
            deadline_unix_ms: self.deadline_unix_ms,
            attempt: self.attempt,
            reserved0: 0,
            stage_id: text(&self.stage_id),
            image_id: text(&self.image_id),
            target: text(&self.target),
            provider: text(&self.provider),
            template_xml: text(&self.template_xml),
            template_json: text(&self.template_json),
            parameters_json: text(&self.parameters_json),
            images_json: text(&self.images_json),
            resources_json: imgf_str::ABSENT,
            credential_name: text(&self.credential_name),
        })
    }
}

/// Asks a range of versions; the answer struct with the status.
pub(crate) fn negotiate(
    entry: imagefactory_plugin_negotiate_fn,
    host_abi_min: u32,
    host_abi_max: u32,
) -> (i32, imgf_negotiate) {
    let mut question = imgf_negotiate {
        struct_size: imgf_negotiate::SIZE,
        host_abi_min,
        host_abi_max,
        flags: 0,
        chosen_abi: 0,
        reserved0: 0,
        plugin: std::ptr::null(),
        refusal: imgf_str::ABSENT,
    };
    // SAFETY: a whole struct of our own.
    let status = unsafe { entry(&mut question) };
    (status, question)
}

/// One instance on a fake host; destroyed when dropped.
pub(crate) struct PluginInstance<'h> {
    plugin: &'static imgf_plugin,
    pub(crate) pointer: *mut imgf_instance,
    // Boxed: the plugin keeps its address.
    _table: Box<imgf_host>,
    _host: &'h FakeHost,
}

impl<'h> PluginInstance<'h> {
    /// Creates an instance, or returns the status of `create`.
    pub(crate) fn create(plugin: &'static imgf_plugin, host: &'h FakeHost) -> Result<Self, i32> {
        let table = Box::new(host.table());
        let mut pointer = std::ptr::null_mut();
        // SAFETY: the table outlives the instance, the pointer is ours.
        match unsafe { plugin.create.unwrap()(&*table, &mut pointer) } {
            IMGF_OK => Ok(PluginInstance { plugin, pointer, _table: table, _host: host }),
            status => Err(status),
        }
    }

    /// A table of the plugin, by id.
    pub(crate) fn table<T>(&self, id: &str) -> Option<&'static T> {
        interface(self.plugin, id)
    }

    /// Runs an operation of `imagefactory.os/1` or another table that gets nothing but a stage.
    pub(crate) fn run(&self, operation: Option<StageOperation>, stage: &StageTexts) -> i32 {
        let operation = operation.expect("the plugin offers the operation");
        // SAFETY: a living instance, a whole stage.
        stage.with(|stage| unsafe { operation(self.pointer, stage) })
    }

    /// Hands over one TargetContent.
    pub(crate) fn add_content(&self, content_json: &str) -> i32 {
        let os: &imgf_os_v1 = self.table(IMGF_IFACE_OS_V1).unwrap();
        // SAFETY: a living instance; the text is readable during the call.
        unsafe { os.add_cloud_plugin_content.unwrap()(self.pointer, imgf_str::new(content_json)) }
    }

    /// Asks whether the target image is to be created; the status and the answer.
    pub(crate) fn should_create(&self, stage: &StageTexts) -> (i32, u32) {
        let cloud: &imgf_cloud_v1 = self.table(IMGF_IFACE_CLOUD_V1).unwrap();
        let mut yes = 1;
        let should = cloud.builder_should_create_target_image.unwrap();
        // SAFETY: a living instance, a whole stage, a place for the answer.
        let status = stage.with(|stage| unsafe { should(self.pointer, stage, &mut yes) });
        (status, yes)
    }

    /// Runs cleanup with this journal.
    pub(crate) fn cleanup(&self, stage: &StageTexts, journal_json: &str) -> i32 {
        let table: &imgf_cleanup_v1 = self.table(IMGF_IFACE_CLEANUP_V1).unwrap();
        let (cleanup, journal) = (table.cleanup.unwrap(), imgf_str::new(journal_json));
        // SAFETY: a living instance, a whole stage, readable text.
        stage.with(|stage| unsafe { cleanup(self.pointer, stage, journal) })
    }
}

impl Drop for PluginInstance<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `create`, given back once.
        unsafe { self.plugin.destroy.unwrap()(self.pointer) };
    }
}

/// A table of a plugin, by id.
pub(crate) fn interface<T>(plugin: &'static imgf_plugin, id: &str) -> Option<&'static T> {
    // SAFETY: readable text; the answer is a static table of the id's type.
    unsafe {
        let table: *const c_void = plugin.get_interface.unwrap()(imgf_str::new(id));
        (table as *const T).as_ref()
    }
}
