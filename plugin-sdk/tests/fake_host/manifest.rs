//! Holds a plugin against its manifest: the same id, version, kind and operations.

use imagefactory_plugin_sdk::abi::*;
use imagefactory_plugin_sdk::author::json::Json;

use super::driver::interface;

/// The descriptor's id, version, kind and offered operations are the manifest's.
pub(crate) fn check_manifest(plugin: &'static imgf_plugin, manifest_json: &str) {
    let manifest = Json::parse(manifest_json).unwrap();
    let text = |name: &str| manifest.member(name).unwrap().as_text();
    // SAFETY: static texts.
    let (id, version) = unsafe { (plugin.id.text().unwrap(), plugin.version.text().unwrap()) };
    assert_eq!((text("id").as_deref(), text("version").as_deref()), (id, version));
    let kind = if plugin.kind == IMGF_KIND_OS { "os" } else { "cloud" };
    assert_eq!(text("type").as_deref(), Some(kind));
    let capabilities = manifest.member("capabilities").unwrap();
    let mut declared: Vec<_> = capabilities.elements().filter_map(|one| one.as_text()).collect();
    let mut offered = offered(plugin);
    declared.sort();
    offered.sort();
    assert_eq!(declared, offered);
}

/// The names of all slots that are filled, without `abort` and `add_cloud_plugin_content`, which
/// are no stages.
fn offered(plugin: &'static imgf_plugin) -> Vec<String> {
    let mut names = Vec::new();
    let mut add = |name: &str, there: bool| {
        if there {
            names.push(name.to_owned());
        }
    };
    if let Some(os) = interface::<imgf_os_v1>(plugin, IMGF_IFACE_OS_V1) {
        add("create_base_image", os.create_base_image.is_some());
        add("create_target_image", os.create_target_image.is_some());
    }
    if let Some(cloud) = interface::<imgf_cloud_v1>(plugin, IMGF_IFACE_CLOUD_V1) {
        let (should, will) =
            (cloud.builder_should_create_target_image, cloud.builder_will_create_target_image);
        add("builder_should_create_target_image", should.is_some());
        add("builder_will_create_target_image", will.is_some());
        let did = cloud.builder_did_create_target_image;
        add("builder_did_create_target_image", did.is_some());
        add("push_image_to_provider", cloud.push_image_to_provider.is_some());
        add("snapshot_image_on_provider", cloud.snapshot_image_on_provider.is_some());
        add("delete_from_provider", cloud.delete_from_provider.is_some());
    }
    let inputs = interface::<imgf_os_inputs_v1>(plugin, IMGF_IFACE_OS_INPUTS_V1);
    add("resolve_inputs", inputs.is_some());
    add("verify_image", interface::<imgf_os_verify_v1>(plugin, IMGF_IFACE_OS_VERIFY_V1).is_some());
    add("cleanup", interface::<imgf_cleanup_v1>(plugin, IMGF_IFACE_CLEANUP_V1).is_some());
    names
}
