//! Which tables and slots a plugin shows: those of the traits that it implements, no others.

use std::ffi::c_void;

use imagefactory_plugin_sdk::abi::*;
use imagefactory_plugin_sdk::author::{
    Cleanup, CloudPlugin, CreateTargetImage, Host, OsPlugin, Plugin, PushImageToProvider,
    ResolveInputs, Resource, Result, Stage,
};
use imagefactory_plugin_sdk::{cloud_plugin, os_plugin};

use crate::fake_host::driver::interface;
use crate::fake_host::{FakeHost, PluginInstance, StageTexts};

macro_rules! plugin_type {
    ($name:ident) => {
        struct $name {
            host: Host,
        }
        impl Plugin for $name {
            const ID: &'static str = stringify!($name);
            const VERSION: &'static str = "1.0.0";
            fn create(host: Host) -> Result<$name> {
                Ok($name { host })
            }
        }
    };
}

plugin_type!(LeastOs);
impl OsPlugin for LeastOs {
    fn create_base_image(&self, stage: &Stage<'_>) -> Result<()> {
        self.host.info(&format!("create_base_image {}", stage.attempt()));
        Ok(())
    }
}

plugin_type!(MoreOs);
impl OsPlugin for MoreOs {
    fn create_base_image(&self, _stage: &Stage<'_>) -> Result<()> {
        Ok(())
    }
}
impl CreateTargetImage for MoreOs {
    fn create_target_image(&self, _stage: &Stage<'_>) -> Result<()> {
        self.host.info("create_target_image");
        Ok(())
    }
}
impl ResolveInputs for MoreOs {
    fn resolve_inputs(&self, _stage: &Stage<'_>) -> Result<()> {
        self.host.info("resolve_inputs");
        Ok(())
    }
}
impl Cleanup for MoreOs {
    fn cleanup(&self, _stage: &Stage<'_>, left: &[Resource]) -> Result<()> {
        for resource in left {
            self.host.info(&format!("{resource:?}"));
        }
        Ok(())
    }
}

plugin_type!(PushingCloud);
impl CloudPlugin for PushingCloud {}
impl PushImageToProvider for PushingCloud {
    fn push_image_to_provider(&self, _stage: &Stage<'_>) -> Result<()> {
        self.host.info("push_image_to_provider");
        Ok(())
    }
}

#[test]
fn operations_that_are_not_implemented_are_null_slots_and_absent_tables() {
    let plugin = os_plugin!(LeastOs);
    let os: &imgf_os_v1 = interface(plugin, IMGF_IFACE_OS_V1).unwrap();
    assert!(os.create_base_image.is_some() && os.abort.is_some());
    assert!(os.create_target_image.is_none() && os.add_cloud_plugin_content.is_none());
    for absent in [
        IMGF_IFACE_OS_INPUTS_V1,
        IMGF_IFACE_OS_VERIFY_V1,
        IMGF_IFACE_CLEANUP_V1,
        IMGF_IFACE_CLOUD_V1,
    ] {
        assert!(interface::<c_void>(plugin, absent).is_none(), "{absent}");
    }
}

#[test]
fn each_slot_calls_its_own_operation() {
    let host = FakeHost::new();
    let more = PluginInstance::create(os_plugin!(MoreOs), &host).unwrap();
    let os: &imgf_os_v1 = more.table(IMGF_IFACE_OS_V1).unwrap();
    let inputs: &imgf_os_inputs_v1 = more.table(IMGF_IFACE_OS_INPUTS_V1).unwrap();
    assert!(more.table::<imgf_os_verify_v1>(IMGF_IFACE_OS_VERIFY_V1).is_none());
    assert_eq!(more.run(os.create_target_image, &StageTexts::new()), IMGF_OK);
    assert_eq!(more.run(inputs.resolve_inputs, &StageTexts::new()), IMGF_OK);

    let cloud = PluginInstance::create(cloud_plugin!(PushingCloud), &host).unwrap();
    let table: &imgf_cloud_v1 = cloud.table(IMGF_IFACE_CLOUD_V1).unwrap();
    assert!(table.builder_should_create_target_image.is_none());
    assert!(table.delete_from_provider.is_none());
    assert_eq!(cloud.run(table.push_image_to_provider, &StageTexts::new()), IMGF_OK);

    let lines: Vec<_> = host.record().lines.iter().map(|line| line.message.clone()).collect();
    assert_eq!(lines, ["create_target_image", "resolve_inputs", "push_image_to_provider"]);
}

#[test]
fn interfaces_are_found_by_their_whole_id_and_nothing_else() {
    let plugin = os_plugin!(LeastOs);
    for unknown in ["", "imagefactory.os", "imagefactory.os/", "imagefactory.os/10", "x"] {
        assert!(interface::<c_void>(plugin, unknown).is_none(), "{unknown:?}");
    }
    // No NUL behind the id: it is a slice of something longer.
    let longer = format!("{IMGF_IFACE_OS_V1}0");
    assert!(interface::<c_void>(plugin, &longer[..IMGF_IFACE_OS_V1.len()]).is_some());
    // SAFETY: an absent text is allowed.
    assert!(unsafe { plugin.get_interface.unwrap()(imgf_str::ABSENT) }.is_null());
}

#[test]
fn cleanup_gets_one_resource_per_token() {
    let host = FakeHost::new();
    let instance = PluginInstance::create(os_plugin!(MoreOs), &host).unwrap();
    let journal = r#"[
        {"event":"will_create","scratch":true,"token":"a","kind":"vm","resource_id":null,
         "details":{"uri":"qemu:///system"}},
        {"event":"will_create","scratch":false,"token":"b","kind":"disk","resource_id":"d-1",
         "details":null},
        {"event":"created","scratch":true,"token":"a","kind":"vm","resource_id":"7",
         "details":null},
        {"event":"created","scratch":false,"token":"b","kind":"disk","resource_id":null,
         "details":null}]"#;
    assert_eq!(instance.cleanup(&StageTexts::new(), journal), IMGF_OK);
    let a = Resource { confirmed: true, ..Resource::scratch("a", "vm") };
    let a = a.with_id("7").with_details_json(r#"{"uri":"qemu:///system"}"#);
    // What an entry leaves out was said by an earlier one.
    let b = Resource { confirmed: true, ..Resource::product("b", "disk") }.with_id("d-1");
    let lines: Vec<_> = host.record().lines.iter().map(|line| line.message.clone()).collect();
    assert_eq!(lines, [format!("{a:?}"), format!("{b:?}")]);

    assert_eq!(instance.cleanup(&StageTexts::new(), "[{]"), IMGF_E_INVALID_ARGUMENT);
    assert_eq!(host.the_error().message, "the journal: not JSON at byte 2");
}

#[test]
fn a_null_instance_is_refused() {
    let os: &imgf_os_v1 = interface(os_plugin!(LeastOs), IMGF_IFACE_OS_V1).unwrap();
    let create_base_image = os.create_base_image.unwrap();
    // SAFETY: NULL is refused before anything is read.
    let status =
        StageTexts::new().with(|stage| unsafe { create_base_image(std::ptr::null_mut(), stage) });
    assert_eq!(status, IMGF_E_INVALID_ARGUMENT);
}
